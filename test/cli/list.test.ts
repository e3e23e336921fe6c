import { describe, expect, it } from 'vitest';
import { listCommand } from '../../src/cli/list.js';
import { Tree } from './machine/tree.js';

const uuid = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';

function said(tree: Tree, json = false): readonly string[] {
  const written: string[] = [];
  expect(listCommand(tree.machine, { write: (text) => written.push(text), json })).toBe(0);
  return written.join('').trimEnd().split('\n');
}

function small(): Tree {
  return new Tree().vfio()
    .pci('0000:01:00.0', { ids: '8086:10d3', driver: 'e1000e', group: 4, net: 'eth0' })
    .pci('0000:02:00.0', { ids: '1234:11e8', class: '00ff00', driver: 'vfio-pci', group: 5 })
    .mdev(uuid, { driver: 'vfio_mdev', group: 9, type: 'sample' })
    .file('/usr/share/hwdata/pci.ids', '8086  Intel Corporation\n\t10d3  82574L');
}

describe('vfio-rx list', () => {
  it('has a row for each device, what can be opened first, and says where to go on', () => {
    using tree = small();
    expect(said(tree)).toEqual([
      'DEVICE                                GROUP  DRIVER     READY  WHAT',
      '0000:02:00.0                          5      vfio-pci   yes    1234:11e8',
      `${uuid}  9      vfio_mdev  yes    mdev sample`,
      '0000:01:00.0                          4      e1000e     no     8086:10d3 Intel Corporation 82574L (e1000e holds it, which is no VFIO driver)',
      '',
      'What to do about one that is not ready: vfio-rx doctor 0000:01:00.0',
    ]);
  });

  it('is a line of JSON for each device', () => {
    using tree = small();
    expect(said(tree, true).map((line) => JSON.parse(line) as unknown)).toEqual([
      { device: '0000:02:00.0', kind: 'pci', driver: 'vfio-pci', group: 5, vendor: '1234', class: '00ff00', hostHas: [], ready: true, id: '11e8' },
      { device: uuid, kind: 'mdev', driver: 'vfio_mdev', group: 9, title: 'sample', hostHas: [], ready: true },
      { device: '0000:01:00.0', kind: 'pci', driver: 'e1000e', group: 4, vendor: '8086', id: '10d3', class: '020000', title: 'Intel Corporation 82574L', hostHas: ['eth0'], ready: false, why: 'e1000e holds it, which is no VFIO driver' },
    ]);
  });

  it('says that there is none, and what needs none', () => {
    using tree = new Tree();
    expect(said(tree)).toEqual(['no PCI function, no mdev: nothing that could be opened. A device without hardware: vfio-rx demo']);
  });
});
