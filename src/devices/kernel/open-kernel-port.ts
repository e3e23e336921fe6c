import type { Clock } from '../../clock.js';
import { VfioError } from '../../errors.js';
import { nowCall } from '../call.js';
import { sharedLanes } from '../linux/lanes.js';
import { sharedReactor } from '../linux/reactor.js';
import { linuxSyscalls, type Syscalls } from '../linux/syscalls.js';
import type { Call, DevicePort } from '../port.js';
import { parseAddress, type KernelAddress } from './address.js';
import { cdevPath, exists, findDevice, kernelPaths, requireVfio, type FoundDevice, type KernelPaths } from './discovery.js';
import { VfioGroups } from './groups.js';
import { KernelPort } from './kernel-port.js';
import { openByCdev } from './open-by-cdev.js';
import { openByGroup } from './open-by-group.js';
import { madeOf, type OpenedDevice } from './opened-device.js';
import { SharedIommufd } from './shared-iommufd.js';

/**
 * How a device of the kernel is opened. `cdev`: by its own file, /dev/vfio/devices/vfioN, bound to an iommufd (/dev/iommu). `group`: by its IOMMU group
 * and a container. `noiommu`: by a group that no IOMMU protects, which lets the device, and whoever programs it, reach all of memory.
 */
export type KernelWay = 'cdev' | 'group' | 'noiommu';

/** What the devices of this process share. */
class Shared {
  readonly iommufd: SharedIommufd;
  readonly groups: VfioGroups;
  readonly noiommu: VfioGroups;

  constructor(readonly calls: Syscalls, readonly paths: KernelPaths) {
    this.iommufd = new SharedIommufd(calls, paths);
    this.groups = new VfioGroups(calls, paths);
    this.noiommu = new VfioGroups(calls, paths, 'noiommu');
  }
}

let shared: Shared | undefined;

/**
 * *Now.* Opens a device of the kernel. Container, groups and iommufd of one process are shared and counted. On failure nothing is left open.
 *
 * @param way goes before what the address says; default: that (`group:N`, `/dev/vfio/devices/vfioN`); else `cdev` where this machine has it, or `group`
 * @param paths where sysfs and the VFIO files are; with a tree of its own a caller has groups and an iommufd of its own
 */
export function openKernelPort(address: string, clock: Clock, way?: KernelWay, paths: KernelPaths = kernelPaths): Call<DevicePort> {
  return nowCall(() => {
    const parsed = parseAddress(address);
    requireVfio(address, paths);
    const found = findDevice(parsed, paths);
    const calls = linuxSyscalls();
    const opened = open(found, way ?? usualWay(parsed, found, paths), address, sharedAt(paths, calls));
    return madeOf(opened, (device) => new KernelPort(device, { calls, reactor: sharedReactor(), pool: sharedLanes(), clock }));
  });
}

function open(found: FoundDevice, way: KernelWay, address: string, { iommufd, groups, noiommu, calls, paths }: Shared): OpenedDevice {
  if (way !== 'cdev') return openByGroup(found, address, way === 'group' ? groups : noiommu, calls, paths);
  const { cdev } = found;
  if (cdev !== undefined) return openByCdev({ ...found, cdev }, iommufd, calls, paths);
  const why = "this kernel has no file for the device itself (CONFIG_VFIO_DEVICE_CDEV), or no VFIO driver holds it: open it by its group (way: 'group')";
  throw new VfioError('VFIO_E_UNAVAILABLE', why, { operation: 'open', device: address });
}

function usualWay(address: KernelAddress, { cdev }: FoundDevice, paths: KernelPaths): KernelWay {
  if (address.kind === 'group') return 'group';
  if (address.kind === 'cdev') return 'cdev';
  return cdev !== undefined && exists(paths.iommu) && exists(cdevPath(cdev, paths)) ? 'cdev' : 'group';
}

function sharedAt(paths: KernelPaths, calls: Syscalls): Shared {
  if (paths !== kernelPaths) return new Shared(calls, paths);
  return (shared ??= new Shared(calls, paths));
}
