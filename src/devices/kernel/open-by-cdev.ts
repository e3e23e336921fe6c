import { VfioError } from '../../errors.js';
import type { Syscalls } from '../linux/syscalls.js';
import { encodeAttach, encodeBind, encodeDetach, readBound } from '../uapi/cdev.js';
import { IOMMU_DESTROY, IOMMU_GET_HW_INFO, IOMMU_HWPT_ALLOC, VFIO_DEVICE_ATTACH_IOMMUFD_PT, VFIO_DEVICE_BIND_IOMMUFD, VFIO_DEVICE_DETACH_IOMMUFD_PT } from '../uapi/constants.js';
import { encodeHwInfoQuery, encodeTrackingHwpt, readHwptId, readTracksWrites } from '../uapi/hwpt.js';
import { encodeDestroy } from '../uapi/iommufd.js';
import { cdevPath, groupMates, groupPath, type FoundDevice, type KernelPaths } from './discovery.js';
import { explained, type Meaning } from './explained.js';
import type { OpenedDevice, ReleaseStep } from './opened-device.js';
import { runAll } from './run-all.js';
import type { IommufdLease, SharedIommufd } from './shared-iommufd.js';
import { whoHolds } from './who-holds.js';

const detach = 'VFIO_DEVICE_DETACH_IOMMUFD_PT';

/**
 * Opens a device by its own file and binds it to the iommufd of this process. Where the IOMMU tracks which pages a device writes, and the device has a group
 * of its own, it is attached to a page table of its own that does; else to the IOAS itself.
 *
 * Fails with VFIO_E_UNAVAILABLE, VFIO_E_PERMISSION, VFIO_E_ADDRESS, VFIO_E_BUSY, VFIO_E_LIMIT; leaves nothing open then.
 */
export function openByCdev(found: FoundDevice & { readonly cdev: string }, iommufds: SharedIommufd, calls: Syscalls, paths: KernelPaths): OpenedDevice {
  const { name: device, cdev } = found;
  const path = cdevPath(cdev, paths);
  const undo: (() => void)[] = [];
  try {
    const iommufd = iommufds.lease();
    undo.unshift(() => iommufd.release());
    const fd = explained(() => calls.open(path), {
      ENOENT: ['VFIO_E_UNAVAILABLE', `no such file (${path}): the kernel makes none for a device without an IOMMU, and a container may lack it`],
      EACCES: ['VFIO_E_PERMISSION', `permission denied: give this user access to ${path}`],
    }, device);
    undo.unshift(() => calls.close(fd, device));
    const bound = encodeBind(iommufd.fd);
    explained(() => calls.ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, bound, { operation: 'VFIO_DEVICE_BIND_IOMMUFD', device }), {
      EBUSY: () => groupHolders(found, paths),
      // What is asked is well formed, but the kernel binds no device twice.
      EINVAL: () => ['VFIO_E_BUSY', whoHolds([{ path, way: 'by its own file' }], fd) ?? `it is open by its own file (${path}), in a process that /proc does not show to this one; or its IOMMU does not keep caches coherent, as an iommufd wants`],
      EPERM: ['VFIO_E_PERMISSION', 'not permitted: this machine has no interrupt remapping; load iommufd with allow_unsafe_interrupts=1 where every user of the device is trusted'],
    });
    const tracking = isAlone(found, paths) ? trackingTable(readBound(bound, device), iommufd, calls, device) : undefined;
    if (tracking !== undefined) undo.splice(1, 0, () => destroy(tracking.hwpt, iommufd, calls, device));
    calls.ioctl(fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, encodeAttach(tracking?.hwpt ?? iommufd.ioas), { operation: 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', device });
    return {
      name: device,
      fd,
      space: iommufd.space,
      tracking,
      release: (step: ReleaseStep) => {
        step('detached from the IOMMU', () => calls.ioctl(fd, VFIO_DEVICE_DETACH_IOMMUFD_PT, encodeDetach(), { operation: detach, device }));
        step('device fd closed', () => calls.close(fd, device));
        if (tracking !== undefined) step('page table given back', () => destroy(tracking.hwpt, iommufd, calls, device));
        step('iommufd given back', () => iommufd.release());
      },
    };
  } catch (error) {
    runAll(undo);
    throw error;
  }
}

/** Who has the group of the device, or another device of it: a group has one owner. */
function groupHolders({ name, group }: FoundDevice, paths: KernelPaths): Meaning {
  if (group === undefined) return ['VFIO_E_BUSY', 'another owner has the IOMMU of this device'];
  const mates = groupMates(group, paths).filter((mate) => mate.name !== name);
  const files = mates.flatMap(({ name: mate, cdev }) => (cdev === undefined ? [] : [{ path: cdevPath(cdev, paths), way: `by the own file of ${mate}, a device of its group` }]));
  const holders = whoHolds([{ path: groupPath(group, paths), way: 'by its group' }, ...files]);
  if (holders !== undefined) return ['VFIO_E_BUSY', holders];
  const drivers = mates.flatMap(({ name: mate, driver }) => (driver === undefined || driver === 'pcieport' || driver.includes('vfio') ? [] : [`${driver} has ${mate}`]));
  if (drivers.length === 0) return ['VFIO_E_BUSY', 'its group is in use, by a process that /proc does not show to this one'];
  return ['VFIO_E_GROUP_NOT_VIABLE', `another driver holds a device of its group (${drivers.join(', ')}): bind all of them to a VFIO driver, or to none`];
}

/** All devices of a group have one page table, and one log of what they write: whose that would be nobody could say. Bridges have neither. */
function isAlone({ name, group }: FoundDevice, paths: KernelPaths): boolean {
  return group === undefined || groupMates(group, paths).every((mate) => mate.name === name || mate.driver === 'pcieport');
}

/** undefined where the IOMMU tracks no writes, or there is none in front of the device (an mdev). */
function trackingTable(id: number, { fd, ioas }: IommufdLease, calls: Syscalls, device: string): OpenedDevice['tracking'] {
  try {
    const info = encodeHwInfoQuery(id);
    calls.ioctl(fd, IOMMU_GET_HW_INFO, info, { operation: 'IOMMU_GET_HW_INFO', device });
    if (!readTracksWrites(info)) return undefined;
    const table = encodeTrackingHwpt(id, ioas);
    calls.ioctl(fd, IOMMU_HWPT_ALLOC, table, { operation: 'IOMMU_HWPT_ALLOC', device });
    return { iommufd: fd, hwpt: readHwptId(table) };
  } catch (error) {
    if (VfioError.is(error)) return undefined;
    throw error;
  }
}

function destroy(hwpt: number, { fd }: IommufdLease, calls: Syscalls, device: string): void {
  calls.ioctl(fd, IOMMU_DESTROY, encodeDestroy(hwpt), { operation: 'IOMMU_DESTROY', device });
}
