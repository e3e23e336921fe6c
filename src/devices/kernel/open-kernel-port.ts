import type { Clock } from '../../clock.js';
import { nowCall } from '../call.js';
import { sharedLanes } from '../linux/lanes.js';
import { sharedReactor } from '../linux/reactor.js';
import { linuxSyscalls } from '../linux/syscalls.js';
import type { Call, DevicePort } from '../port.js';
import { parseAddress } from './address.js';
import { findDevice } from './discovery.js';
import { VfioGroups } from './groups.js';
import { KernelPort } from './kernel-port.js';

let groups: VfioGroups | undefined;

/**
 * *Now.* Opens a device of the kernel: group, container, device fd. The containers and groups of one process are shared
 * and counted. On failure nothing is left open.
 */
export function openKernelPort(address: string, clock: Clock): Call<DevicePort> {
  return nowCall(() => {
    const found = findDevice(parseAddress(address));
    const calls = linuxSyscalls();
    groups ??= new VfioGroups(calls);
    const lease = groups.lease(found.group);
    try {
      const fd = lease.deviceFd(found.name);
      return new KernelPort(found.name, fd, lease, { calls, reactor: sharedReactor(), pool: sharedLanes(), clock });
    } catch (error) {
      lease.release();
      throw error;
    }
  });
}
