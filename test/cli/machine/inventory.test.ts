import { describe, expect, it } from 'vitest';
import { inventory, suggested } from '../../../src/cli/machine/inventory.js';
import { Tree } from './tree.js';

const uuid = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';

describe('the devices of a machine', () => {
  it('are its PCI functions but for bridges, its mdevs, and what else a VFIO driver holds', () => {
    using tree = new Tree();
    tree.vfio()
      .pci('0000:00:1c.0', { ids: '8086:a110', class: '060400', driver: 'pcieport', group: 3 })
      .pci('0000:01:00.0', { ids: '8086:10D3', driver: 'e1000e', group: 4, net: 'eth0' })
      .pci('0000:02:00.0', { ids: '1234:11e8', class: '00ff00', driver: 'vfio-pci', group: 5, cdev: { name: 'vfio0', file: true } })
      .pci('0000:03:00.0', { ids: '144d:a808', class: '010802', disk: 'nvme0n1' })
      .mdev(uuid, { driver: 'vfio_mdev', group: 9, type: 'sample' })
      .folder('/sys/devices/platform/fsl-mc').link('/sys/class/vfio-dev/vfio7/device', '../../../devices/platform/fsl-mc')
      .link('/sys/class/vfio-dev/vfio0/device', '../../../bus/pci/devices/0000:02:00.0')
      .file('/usr/share/misc/pci.ids', '8086  Intel Corporation\n\t10d3  82574L');
    expect(inventory(tree.machine)).toEqual([
      { name: '0000:01:00.0', kind: 'pci', path: '/sys/bus/pci/devices/0000:01:00.0', driver: 'e1000e', vfio: false, group: 4, cdev: undefined, ids: { vendor: '8086', device: '10d3', class: '020000' }, title: 'Intel Corporation 82574L', hostHas: ['eth0'] },
      { name: '0000:02:00.0', kind: 'pci', path: '/sys/bus/pci/devices/0000:02:00.0', driver: 'vfio-pci', vfio: true, group: 5, cdev: '/dev/vfio/devices/vfio0', ids: { vendor: '1234', device: '11e8', class: '00ff00' }, title: undefined, hostHas: [] },
      { name: '0000:03:00.0', kind: 'pci', path: '/sys/bus/pci/devices/0000:03:00.0', driver: undefined, vfio: false, group: undefined, cdev: undefined, ids: { vendor: '144d', device: 'a808', class: '010802' }, title: undefined, hostHas: ['nvme0n1'] },
      { name: uuid, kind: 'mdev', path: `/sys/bus/mdev/devices/${uuid}`, driver: 'vfio_mdev', vfio: true, group: 9, cdev: undefined, ids: undefined, title: 'sample', hostHas: [] },
      { name: '/dev/vfio/devices/vfio7', kind: 'other', path: '/sys/class/vfio-dev/vfio7/device', driver: undefined, vfio: true, group: undefined, cdev: '/dev/vfio/devices/vfio7', ids: undefined, title: 'fsl-mc', hostHas: [] },
    ]);
  });

  it('have one to try first', () => {
    using tree = new Tree();
    expect(suggested(inventory(tree.machine))).toBeUndefined();
    tree.pci('0000:01:00.0', { ids: '8086:10d3', driver: 'e1000e', net: 'eth0' });
    expect(suggested(inventory(tree.machine))?.name).toBe('0000:01:00.0');
    tree.pci('0000:02:00.0', { ids: '8086:10d3', driver: 'e1000e' });
    expect(suggested(inventory(tree.machine))?.name).toBe('0000:02:00.0');
    tree.pci('0000:03:00.0', { ids: '8086:10d3', net: 'eth9' });
    expect(suggested(inventory(tree.machine))?.name).toBe('0000:03:00.0');
  });

  it('are none where there is no sysfs', () => {
    using tree = new Tree();
    expect(inventory(tree.machine)).toEqual([]);
  });

  it('are told to be held by VFIO by what the kernel makes for them, or by the name of a driver', () => {
    using tree = new Tree();
    tree.pci('0000:01:00.0', { ids: '15b3:101e', driver: 'mlx5_vfio_pci' }).pci('0000:02:00.0', { ids: '1af4:1041', driver: 'somebody', cdev: { name: 'vfio0', file: false } }).mdev(uuid);
    expect(inventory(tree.machine).map(({ name, vfio, cdev }) => [name, vfio, cdev])).toEqual([['0000:01:00.0', true, undefined], ['0000:02:00.0', true, undefined], [uuid, false, undefined]]);
  });
});
