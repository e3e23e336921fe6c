import { realClock } from '../../clock.js';
import { warningChannel } from '../../diagnostics.js';
import { VfioError } from '../../errors.js';
import type { Syscalls } from '../linux/syscalls.js';
import { exists, noiommuPath, type FoundDevice, type KernelPaths } from './discovery.js';
import type { VfioGroups } from './groups.js';
import type { OpenedDevice } from './opened-device.js';

/**
 * Opens a device by its group, in the container of this process.
 *
 * @param address what errors of the group call it
 */
export function openByGroup({ name, group }: FoundDevice, address: string, groups: VfioGroups, calls: Syscalls, paths: KernelPaths): OpenedDevice {
  if (group === undefined) throw new VfioError('VFIO_E_UNAVAILABLE', "the device has no group on this kernel: open it by its own file (way: 'cdev')", { operation: 'open', device: address });
  if (exists(noiommuPath(group, paths)) && groups.model !== 'noiommu') {
    throw new VfioError('VFIO_E_UNAVAILABLE', "no IOMMU is in front of this device: way: 'noiommu' opens it all the same, and lets it reach all of memory", { operation: 'open', device: address });
  }
  const lease = groups.lease(group, address);
  try {
    const fd = lease.deviceFd(name);
    if (groups.model === 'noiommu') warn(name);
    return {
      name,
      fd,
      space: lease.space,
      release: (step) => {
        step('device fd closed', () => calls.close(fd, name));
        step('group given back', () => lease.release());
      },
    };
  } catch (error) {
    lease.release();
    throw error;
  }
}

function warn(device: string): void {
  if (!warningChannel.hasSubscribers) return;
  const what = 'opened without an IOMMU: this device reads and writes all of memory, the kernel\'s too, and so does whoever can program it; the kernel is tainted from now on';
  warningChannel.publish({ device, atNs: realClock.nowNs(), what });
}
