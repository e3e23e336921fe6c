import type { Clock } from '../../clock.js';
import { nowCall } from '../call.js';
import { sharedLanes } from '../linux/lanes.js';
import { sharedReactor } from '../linux/reactor.js';
import { linuxSyscalls, type Syscalls } from '../linux/syscalls.js';
import type { Call, DevicePort } from '../port.js';
import { parseAddress } from './address.js';
import { findDevice, kernelPaths, requireVfio, type KernelPaths } from './discovery.js';
import { VfioGroups } from './groups.js';
import { KernelPort } from './kernel-port.js';

let groups: VfioGroups | undefined;

/**
 * *Now.* Opens a device of the kernel: group, container, device fd. The containers and groups of one process are shared
 * and counted. On failure nothing is left open.
 *
 * @param paths where sysfs and the VFIO files are; with a tree of its own a caller has groups of its own
 */
export function openKernelPort(address: string, clock: Clock, paths: KernelPaths = kernelPaths): Call<DevicePort> {
  return nowCall(() => {
    const parsed = parseAddress(address);
    requireVfio(address, paths);
    const found = findDevice(parsed, paths);
    const calls = linuxSyscalls();
    const lease = groupsAt(paths, calls).lease(found.group, address);
    try {
      const fd = lease.deviceFd(found.name);
      return new KernelPort(found.name, fd, lease, { calls, reactor: sharedReactor(), pool: sharedLanes(), clock });
    } catch (error) {
      lease.release();
      throw error;
    }
  });
}

function groupsAt(paths: KernelPaths, calls: Syscalls): VfioGroups {
  if (paths !== kernelPaths) return new VfioGroups(calls, paths);
  groups ??= new VfioGroups(calls);
  return groups;
}
