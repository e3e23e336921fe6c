import { size } from '../words.js';
import { note, ok, wrong, type Finding } from './finding.js';
import { isThere, namesIn, textOf, type Machine } from './machine.js';
import { vfioPciLoaded } from './device-findings.js';
import { asRoot, writes } from './mending.js';
import { sharedFile, usualWay } from './way.js';

const noiommuParameter = '/sys/module/vfio/parameters/enable_unsafe_noiommu_mode';

/** What all devices of a kind need of the machine; without a kind, of any. */
export function machineFindings(machine: Machine, kind: 'pci' | 'mdev' | 'other' | undefined, way = usualWay(machine)): readonly Finding[] {
  return [
    ...(kind === 'mdev' ? [] : [iommu(machine)]),
    ...modules(machine, kind),
    sharedFile(machine, way),
    memlock(machine),
    deviceFiles(machine),
    ...noiommu(machine),
  ];
}

function iommu(machine: Machine): Finding {
  const units = namesIn(machine, '/sys/class/iommu');
  if (units.length > 0) return ok('iommu', `on: ${units.join(', ')}`);
  const intel = textOf(machine, '/proc/cpuinfo')?.includes('GenuineIntel') === true;
  const says = `no IOMMU is on: switch it on in the firmware (${intel ? 'VT-d' : 'AMD-Vi, SMMU'})${intel ? ', and tell the kernel' : ''}`;
  return wrong('iommu', says, intel ? kernelArgument(machine, 'intel_iommu=on') : []);
}

function kernelArgument(machine: Machine, argument: string): readonly string[] {
  const change = isThere(machine, '/usr/sbin/grubby')
    ? [asRoot(machine, `grubby --update-kernel=ALL --args=${argument}`)]
    : [asRoot(machine, `sed -i 's/^GRUB_CMDLINE_LINUX="/&${argument} /' /etc/default/grub`), asRoot(machine, 'update-grub')];
  return [...change, asRoot(machine, 'reboot')];
}

/** Looked for by what they bring: a driver that is built in is no module. */
function modules(machine: Machine, kind: 'pci' | 'mdev' | 'other' | undefined): readonly Finding[] {
  const core = isThere(machine, '/sys/class/misc/vfio') || isThere(machine, '/sys/class/vfio');
  const type1 = isThere(machine, '/sys/module/vfio_iommu_type1');
  const iommufd = isThere(machine, '/sys/class/misc/iommu');
  const found = [
    core ? ok('vfio', 'the module vfio is there') : wrong('vfio', 'the module vfio is not loaded', [asRoot(machine, 'modprobe vfio')]),
    ...(core && !type1 && !iommufd ? [wrong('vfio_iommu_type1', 'neither vfio_iommu_type1 nor iommufd is there: nothing maps DMA', [asRoot(machine, 'modprobe vfio_iommu_type1')])] : []),
  ];
  if (kind === 'mdev' || kind === 'other') return found;
  return [...found, vfioPciLoaded(machine) ? ok('vfio-pci', 'the driver for PCI functions is there') : wrong('vfio-pci', 'the driver for PCI functions is not loaded', [asRoot(machine, 'modprobe vfio-pci')])];
}

/** CAP_IPC_LOCK: locks what it likes. */
const ipcLockBit = 14n;

function memlock(machine: Machine): Finding {
  const [, limit = 'unknown'] = /^Max locked memory\s+(\S+)/m.exec(textOf(machine, '/proc/self/limits') ?? '') ?? [];
  const [, effective = '0'] = /^CapEff:\s*([0-9a-f]+)/m.exec(textOf(machine, '/proc/self/status') ?? '') ?? [];
  if (((BigInt(`0x${effective}`) >> ipcLockBit) & 1n) === 1n) return ok('memlock', 'this user may lock as much memory as there is');
  if (limit === 'unlimited') return ok('memlock', 'unlimited');
  const says = limit === 'unknown' ? 'the limit is not known' : `at most ${size(Number(limit))} of memory can be given to devices`;
  return note('memlock', says, [asRoot(machine, 'prlimit --pid $$ --memlock=unlimited:unlimited')]);
}

function deviceFiles(machine: Machine): Finding {
  const iommufd = isThere(machine, '/dev/iommu');
  const cdevs = isThere(machine, '/dev/vfio/devices');
  if (iommufd && cdevs) return ok('iommufd', 'device files (/dev/vfio/devices) and /dev/iommu are there');
  return note('iommufd', `this kernel has ${iommufd ? '/dev/iommu, but no device files (VFIO_DEVICE_CDEV)' : 'no /dev/iommu'}: devices are opened by their group`);
}

function noiommu(machine: Machine): readonly Finding[] {
  if (textOf(machine, noiommuParameter) !== 'Y') return [];
  return [note('noiommu', 'devices without an IOMMU may be opened: their DMA reaches all memory', [writes(machine, 'N', noiommuParameter)])];
}
