import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { doctorCommand } from '../../src/cli/doctor.js';
import { Tree } from './machine/tree.js';

const uuid = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
const bdf = '0000:02:00.0';

function said(tree: Tree, device?: string, json = false): { readonly code: number; readonly lines: readonly string[] } {
  const written: string[] = [];
  const code = doctorCommand(tree.machine, device, { write: (text) => written.push(text), json });
  return { code, lines: written.join('').trimEnd().split('\n') };
}

function well(): Tree {
  return new Tree().vfio().file('/proc/self/limits', 'Max locked memory         unlimited            unlimited            bytes')
    .pci('0000:01:00.0', { ids: '8086:10d3', driver: 'e1000e', group: 4 })
    .pci(bdf, { ids: '1234:11e8', class: '00ff00', driver: 'vfio-pci', group: 5 });
}

describe('vfio-rx doctor', () => {
  it('says that all is well, and ends with 0', () => {
    using tree = well();
    expect(said(tree)).toEqual({ code: 0, lines: [
      'ok     iommu: on: dmar0',
      'ok     vfio: the module vfio is there',
      'ok     vfio-pci: the driver for PCI functions is there',
      'ok     permissions: /dev/vfio/vfio may be opened',
      'ok     memlock: unlimited',
      'note   iommufd: this kernel has no /dev/iommu: devices are opened by their group',
      `ok     devices: ready: ${bdf}`,
      'this machine: all is well',
    ] });
  });

  it('says of a device what is wrong, and the commands that mend it, and ends with 1', () => {
    using tree = well();
    const { code, lines } = said(tree, '01:00.0');
    expect(code).toBe(1);
    expect(lines.slice(-8)).toEqual([
      'note   iommufd: this kernel has no /dev/iommu: devices are opened by their group',
      'ok     device: 0000:01:00.0',
      'WRONG  driver: e1000e holds it, which is no VFIO driver',
      '         echo vfio-pci | sudo tee /sys/bus/pci/devices/0000:01:00.0/driver_override',
      '         echo 0000:01:00.0 | sudo tee /sys/bus/pci/devices/0000:01:00.0/driver/unbind',
      '         echo 0000:01:00.0 | sudo tee /sys/bus/pci/drivers_probe',
      'ok     group: alone in group 4',
      '01:00.0: 1 thing is wrong; the commands were not run',
    ]);
  });

  it('says the same as JSON', () => {
    using tree = well();
    const { code, lines } = said(tree, bdf, true);
    const objects = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(code).toBe(0);
    expect(objects).toContainEqual({ device: bdf, about: 'group', level: 'ok', says: 'alone in group 5', mend: [] });
    expect(objects.at(-1)).toEqual({ device: bdf, well: true, wrong: 0 });
  });

  it('looks at the files of the way that the address takes', () => {
    using tree = well();
    tree.file('/dev/iommu').pci('0000:03:00.0', { ids: '8086:10d3', driver: 'vfio-pci', group: 6, cdev: { name: 'vfio0', file: true } });
    for (const path of ['/dev/iommu', '/dev/vfio/devices/vfio0']) tree.forbidden.add(path);
    expect(said(tree, '0000:03:00.0').lines.filter((line) => line.startsWith('WRONG'))).toEqual(['WRONG  permissions: /dev/iommu may not be opened by this user', 'WRONG  file: /dev/vfio/devices/vfio0 may not be opened by this user']);
    expect(said(tree, '/dev/vfio/devices/vfio0').code).toBe(1);
    expect(said(tree, 'group:6/0000:03:00.0').code).toBe(0);
  });

  it('says who has it open', () => {
    using tree = well();
    tree.file('/proc/4711/comm', 'qemu-system-x86').link('/proc/4711/fd/9', '/dev/vfio/5').file('/proc/4712/comm', 'other').link('/proc/4712/fd/1', '/dev/null');
    expect(said(tree, `group:5/${bdf}`).lines).toContain('WRONG  in use: process 4711 (qemu-system-x86) has /dev/vfio/5 open: end it first');
  });

  it('says of a machine without a device what to do next', () => {
    using bound = new Tree();
    bound.vfio().pci(bdf, { ids: '8086:10d3', driver: 'e1000e', group: 4 });
    expect(said(bound).lines.at(-2)).toBe(`WRONG  devices: no device is ready; what to do about one: vfio-rx doctor ${bdf}`);
    using empty = new Tree();
    const { code, lines } = said(empty);
    expect(code).toBe(1);
    expect(lines.at(-2)).toBe('WRONG  devices: there is no device that could be opened; vfio-rx demo needs none');
  });

  it('says how an mdev is made, which needs neither an IOMMU nor vfio-pci', () => {
    using tree = new Tree();
    tree.folder('/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1', '/sys/class/misc/vfio', '/sys/module/vfio_iommu_type1').file('/dev/vfio/vfio');
    const { code, lines } = said(tree, uuid);
    expect(code).toBe(1);
    expect(lines.filter((line) => line.startsWith('WRONG'))).toEqual([`WRONG  device: there is no mdev ${uuid}, and one of these creates it`]);
    expect(lines).toContain(`         echo ${uuid} | sudo tee /sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1/create`);
    tree.mdev(uuid, { driver: 'vfio_mdev', group: 9 });
    expect(said(tree, uuid)).toMatchObject({ code: 0 });
    expect(said(tree).code).toBe(0);
  });

  it('knows a device by its own file, and one that is not there', () => {
    using tree = well();
    tree.pci('0000:03:00.0', { ids: '8086:10d3', driver: 'vfio-pci', group: 6, cdev: { name: 'vfio0', file: true } });
    expect(said(tree, '/dev/vfio/devices/vfio0').lines).toContain('ok     device: 0000:03:00.0');
    expect(said(tree, '/dev/vfio/devices/vfio1').lines).toContain('WRONG  device: there is no /dev/vfio/devices/vfio1: vfio-rx list says what there is');
    expect(said(tree, '0000:09:00.0').code).toBe(1);
    expect(() => said(tree, 'eth0')).toThrow(expect.objectContaining({ code: 'VFIO_E_ADDRESS' }) as Error);
  });

  it('looks at devices that are not the kernel\'s, too', async () => {
    using tree = new Tree();
    expect(said(tree, 'software')).toEqual({ code: 0, lines: ['ok     device: a device in this process: it needs nothing', 'software: all is well'] });
    expect(said(tree, 'unix:/run/d.sock').lines.slice(0, 2)).toEqual(['WRONG  socket: there is no /run/d.sock: nobody serves there', '         vfio-rx serve software unix:/run/d.sock']);
    const server = createServer();
    await new Promise<void>((listening) => server.listen(join(tree.root, 'd.sock'), listening));
    expect(said(tree, 'vfio-user:/d.sock')).toMatchObject({ code: 0, lines: ['ok     socket: /d.sock may be used', 'vfio-user:/d.sock: all is well'] });
    server.close();
    expect(said(tree, 'trace:/none.jsonl').code).toBe(1);
    writeFileSync(join(tree.root, 'no.jsonl'), 'no trace\n');
    expect(said(tree, `trace:${join(tree.root, 'no.jsonl')}`).lines[0]).toMatch(/^WRONG {2}trace: .*\[VFIO_E_TRACE\]$/);
  });
});
