import { describe, expect, it } from 'vitest';
import { deviceFindings, whyNotReady } from '../../../src/cli/machine/device-findings.js';
import type { Finding } from '../../../src/cli/machine/finding.js';
import { inventory } from '../../../src/cli/machine/inventory.js';
import { Tree } from './tree.js';

const bdf = '0000:01:00.0';
const uuid = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';

function findings(tree: Tree, name = bdf): { readonly all: readonly Finding[]; readonly wrong: readonly Finding[]; readonly why: string | undefined } {
  const device = inventory(tree.machine).find((one) => one.name === name);
  if (device === undefined) throw new Error(`no ${name}`);
  const all = deviceFindings(tree.machine, device);
  return { all, wrong: all.filter(({ level }) => level === 'wrong'), why: whyNotReady(tree.machine, device) };
}

describe('what stands between a device and its user', () => {
  it('is nothing where VFIO holds it and its group, and its file may be opened', () => {
    using tree = new Tree();
    tree.vfio().pci(bdf, { ids: '8086:10d3', driver: 'vfio-pci', group: 4 }).pci('0000:00:1c.0', { ids: '8086:a110', class: '060400', driver: 'shpchp', group: 4 });
    const { all, wrong, why } = findings(tree);
    expect([wrong, why]).toEqual([[], undefined]);
    expect(all.map(({ about, says }) => `${about}: ${says}`)).toEqual(['driver: vfio-pci holds it; to give it back:', 'group: group 4, with 0000:00:1c.0', 'file: /dev/vfio/4 may be opened']);
    expect(all[0]?.mend).toEqual([
      `echo ${bdf} | sudo tee /sys/bus/pci/drivers/vfio-pci/unbind`,
      `echo | sudo tee /sys/bus/pci/devices/${bdf}/driver_override`,
      `echo ${bdf} | sudo tee /sys/bus/pci/drivers_probe`,
    ]);
  });

  it('is its driver: it is taken from it by driver_override, and what the host loses is said', () => {
    using tree = new Tree();
    tree.vfio().pci(bdf, { ids: '8086:10d3', driver: 'e1000e', group: 4, net: 'eth0' });
    const { all, wrong, why } = findings(tree);
    expect(why).toBe('e1000e holds it, which is no VFIO driver');
    expect(wrong).toEqual([{ about: 'driver', level: 'wrong', says: why, mend: [
      `echo vfio-pci | sudo tee /sys/bus/pci/devices/${bdf}/driver_override`,
      `echo ${bdf} | sudo tee /sys/bus/pci/devices/${bdf}/driver/unbind`,
      `echo ${bdf} | sudo tee /sys/bus/pci/drivers_probe`,
    ] }]);
    expect(all[0]).toEqual({ about: 'host', level: 'note', says: 'this machine uses it now: eth0 will be gone when it is bound', mend: [] });
  });

  it('says what the host loses with another function of the group, before the commands that take it', () => {
    using tree = new Tree();
    tree.vfio().pci(bdf, { ids: '8086:10d3', driver: 'vfio-pci', group: 4 }).pci('0000:01:00.1', { ids: '8086:10d3', driver: 'nvme', group: 4, disk: 'nvme0n1' });
    const [, host, group] = findings(tree).all;
    expect(host).toEqual({ about: 'host', level: 'note', says: 'this machine uses 0000:01:00.1 now: nvme0n1 will be gone when it is bound', mend: [] });
    expect(group).toMatchObject({ about: 'group', level: 'wrong' });
  });

  it('needs the module where it is not loaded, no unbind where no driver holds it, and no sudo where one is root', () => {
    using tree = new Tree();
    tree.pci(bdf, { ids: '8086:10d3', group: 4 });
    const [device] = inventory(tree.machine);
    const [finding] = device === undefined ? [] : deviceFindings({ ...tree.machine, asRoot: true }, device);
    expect(finding).toEqual({ about: 'driver', level: 'wrong', says: 'no driver holds it', mend: ['modprobe vfio-pci', `echo vfio-pci > /sys/bus/pci/devices/${bdf}/driver_override`, `echo ${bdf} > /sys/bus/pci/drivers_probe`] });
  });

  it('is another function of its group, each by its name', () => {
    using tree = new Tree();
    tree.vfio().pci(bdf, { ids: '8086:10d3', driver: 'vfio-pci', group: 4 }).pci('0000:01:00.1', { ids: '8086:10d3', driver: 'e1000e', group: 4 }).pci('0000:01:00.2', { ids: '8086:10d3', group: 4 }).pci('0000:01:00.3', { ids: '8086:10d3', driver: 'pci-stub', group: 4 });
    expect(findings(tree).wrong).toEqual([{ about: 'group', level: 'wrong', says: '0000:01:00.1 is in the same group 4, and e1000e holds it: all of a group go to VFIO, or to no driver', mend: expect.arrayContaining(['echo 0000:01:00.1 | sudo tee /sys/bus/pci/devices/0000:01:00.1/driver/unbind']) as unknown }]);
  });

  it('is no bridge between PCI buses, but one to ISA that a driver holds', () => {
    using tree = new Tree();
    tree.vfio().pci(bdf, { ids: '8086:10d3', driver: 'vfio-pci', group: 4 }).pci('0000:00:1e.0', { ids: '8086:2448', class: '060401', driver: 'pcieport', group: 4 }).pci('0000:00:1f.0', { ids: '8086:2918', class: '060100', driver: 'lpc_ich', group: 4 });
    expect(findings(tree).wrong.map(({ says }) => says)).toEqual(['0000:00:1f.0 is in the same group 4, and lpc_ich holds it: all of a group go to VFIO, or to no driver']);
  });

  it('says that the virtual functions of a function go with its driver', () => {
    using tree = new Tree();
    tree.vfio().pci(bdf, { ids: '8086:1521', driver: 'igb', group: 4, net: 'eth0' }).link(`/sys/bus/pci/devices/${bdf}/virtfn0`, '../0000:01:10.0');
    expect(findings(tree).all[0]?.says).toBe('this machine uses it now: eth0, 0000:01:10.0 will be gone when it is bound');
  });

  it('is an IOMMU that is off', () => {
    using tree = new Tree();
    tree.vfio().pci(bdf, { ids: '8086:10d3', driver: 'vfio-pci', cdev: { name: 'vfio0', file: true } });
    expect(findings(tree).wrong.map(({ about, says }) => `${about}: ${says}`)).toEqual(['group: it has no IOMMU group: the IOMMU is off']);
  });

  it('is its file: not there, not to be opened, or without an IOMMU', () => {
    using tree = new Tree();
    tree.vfio().pci(bdf, { ids: '8086:10d3', driver: 'vfio-pci', group: 4 });
    tree.forbidden.add('/dev/vfio/4');
    expect(findings(tree).wrong).toEqual([{ about: 'file', level: 'wrong', says: '/dev/vfio/4 may not be opened by this user', mend: ['sudo chown "$(id -u)" /dev/vfio/4'] }]);
    using contained = new Tree();
    contained.pci(bdf, { ids: '8086:10d3', group: 4, cdev: { name: 'vfio0', file: false } });
    expect(findings(contained).why).toBe('there is no /dev/vfio/4: in a container the file is to be passed in');
    contained.file('/dev/vfio/noiommu-4');
    expect(findings(contained).why).toBe('/dev/vfio/noiommu-4: no IOMMU stands between its DMA and all memory');
  });

  it('is the file that opening takes: one that may be opened is no help where it takes the other', () => {
    using tree = new Tree();
    tree.vfio().file('/dev/iommu').pci(bdf, { ids: '8086:10d3', driver: 'vfio-pci', group: 4, cdev: { name: 'vfio0', file: true } });
    tree.forbidden.add('/dev/vfio/4');
    expect(findings(tree)).toMatchObject({ why: undefined, all: [{}, {}, { level: 'ok', says: '/dev/vfio/devices/vfio0 may be opened' }] });
    tree.forbidden.add('/dev/vfio/devices/vfio0').delete('/dev/vfio/4');
    expect(findings(tree).wrong).toEqual([{ about: 'file', level: 'wrong', says: '/dev/vfio/devices/vfio0 may not be opened by this user', mend: ['sudo chown "$(id -u)" /dev/vfio/devices/vfio0'] }]);
    using older = new Tree();
    older.vfio().pci(bdf, { ids: '8086:10d3', driver: 'vfio-pci', group: 4, cdev: { name: 'vfio0', file: true } });
    older.forbidden.add('/dev/vfio/devices/vfio0');
    expect(findings(older)).toMatchObject({ why: undefined, all: [{}, {}, { level: 'ok', says: '/dev/vfio/4 may be opened' }] });
  });

  it('is the file that all devices share: a device is not ready without it', () => {
    using tree = new Tree();
    tree.vfio().file('/dev/iommu').pci(bdf, { ids: '8086:10d3', driver: 'vfio-pci', group: 4, cdev: { name: 'vfio0', file: true } });
    tree.forbidden.add('/dev/iommu');
    expect(findings(tree)).toMatchObject({ wrong: [], why: '/dev/iommu may not be opened by this user' });
  });

  it('is the same for an mdev, which is not bound by hand', () => {
    using tree = new Tree();
    tree.vfio().mdev(uuid, { driver: 'vfio_mdev', group: 9 });
    expect(findings(tree, uuid)).toMatchObject({ wrong: [], why: undefined, all: [{ about: 'driver', mend: [] }, { about: 'group', says: 'alone in group 9' }, { about: 'file' }] });
    using bare = new Tree();
    bare.mdev(uuid);
    expect(findings(bare, uuid).wrong.map(({ about }) => about)).toEqual(['driver', 'group']);
  });
});
