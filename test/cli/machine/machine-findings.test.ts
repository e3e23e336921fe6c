import { describe, expect, it } from 'vitest';
import { machineFindings } from '../../../src/cli/machine/machine-findings.js';
import { Tree } from './tree.js';

const said = (tree: Tree, kind?: 'pci' | 'mdev') => machineFindings(tree.machine, kind).map(({ about, level }) => `${about} ${level}`);
const found = (tree: Tree, about: string) => machineFindings(tree.machine, 'pci').find((finding) => finding.about === about);

describe('what VFIO needs of a machine', () => {
  it('is there', () => {
    using tree = new Tree();
    tree.vfio().file('/proc/self/limits', 'Max locked memory         unlimited            unlimited            bytes').folder('/dev/vfio/devices').file('/dev/iommu');
    expect(said(tree)).toEqual(['iommu ok', 'vfio ok', 'vfio-pci ok', 'permissions ok', 'memlock ok', 'iommufd ok']);
    expect(said(tree, 'mdev')).toEqual(['vfio ok', 'permissions ok', 'memlock ok', 'iommufd ok']);
  });

  it('is missing from the ground up', () => {
    using tree = new Tree();
    expect(said(tree)).toEqual(['iommu wrong', 'vfio wrong', 'vfio-pci wrong', 'permissions wrong', 'memlock note', 'iommufd note']);
    expect(found(tree, 'vfio')?.mend).toEqual(['sudo modprobe vfio']);
    expect(found(tree, 'vfio-pci')?.mend).toEqual(['sudo modprobe vfio-pci']);
  });

  it('is an IOMMU: what to tell the kernel depends on the processor and the distribution', () => {
    using tree = new Tree();
    expect(found(tree, 'iommu')).toMatchObject({ says: 'no IOMMU is on: switch it on in the firmware (AMD-Vi, SMMU)', mend: [] });
    tree.file('/proc/cpuinfo', 'vendor_id : GenuineIntel');
    expect(found(tree, 'iommu')?.mend).toEqual([`sudo sed -i 's/^GRUB_CMDLINE_LINUX="/&intel_iommu=on /' /etc/default/grub`, 'sudo update-grub', 'sudo reboot']);
    tree.file('/usr/sbin/grubby');
    expect(found(tree, 'iommu')?.mend).toEqual(['sudo grubby --update-kernel=ALL --args=intel_iommu=on', 'sudo reboot']);
  });

  it('is a way to map DMA', () => {
    using tree = new Tree();
    tree.folder('/sys/class/misc/vfio');
    expect(found(tree, 'vfio_iommu_type1')).toMatchObject({ level: 'wrong', mend: ['sudo modprobe vfio_iommu_type1'] });
    tree.folder('/sys/class/misc/iommu');
    expect(found(tree, 'vfio_iommu_type1')).toBeUndefined();
  });

  it('is a container that this user may open', () => {
    using tree = new Tree();
    tree.vfio().forbidden.add('/dev/vfio/vfio');
    expect(found(tree, 'permissions')).toMatchObject({ level: 'wrong', mend: ['sudo chmod 0666 /dev/vfio/vfio'] });
  });

  it('is an iommufd that this user may open, where devices have files of their own: the container is not asked for then', () => {
    using tree = new Tree();
    tree.folder('/dev/vfio/devices').file('/dev/iommu').forbidden.add('/dev/vfio/vfio');
    expect(found(tree, 'permissions')).toMatchObject({ level: 'ok', says: '/dev/iommu may be opened' });
    tree.forbidden.add('/dev/iommu');
    expect(found(tree, 'permissions')).toMatchObject({ level: 'wrong', says: '/dev/iommu may not be opened by this user', mend: ['sudo chown "$(id -u)" /dev/iommu'] });
  });

  it('is memory that may be locked', () => {
    using tree = new Tree();
    tree.file('/proc/self/limits', 'Max locked memory         8388608              8388608              bytes').file('/proc/self/status', 'CapEff:\t0000000000000000');
    expect(found(tree, 'memlock')).toEqual({ about: 'memlock', level: 'note', says: 'at most 8.0 MiB of memory can be given to devices', mend: ['sudo prlimit --pid $$ --memlock=unlimited:unlimited'] });
    tree.file('/proc/self/status', 'CapEff:\t000001ffffffffff');
    expect(found(tree, 'memlock')).toMatchObject({ level: 'ok', says: 'this user may lock as much memory as there is' });
  });

  it('is not a mode without an IOMMU, which is said', () => {
    using tree = new Tree();
    tree.file('/sys/module/vfio/parameters/enable_unsafe_noiommu_mode', 'N');
    expect(found(tree, 'noiommu')).toBeUndefined();
    tree.file('/sys/module/vfio/parameters/enable_unsafe_noiommu_mode', 'Y');
    expect(found(tree, 'noiommu')).toMatchObject({ level: 'note', mend: ['echo N | sudo tee /sys/module/vfio/parameters/enable_unsafe_noiommu_mode'] });
  });
});
