import { ok, wrong, type Finding } from './finding.js';
import type { Found } from './inventory.js';
import { isThere, mayUse, type Machine } from './machine.js';
import { asRoot, giveFile } from './mending.js';

/** How a device is opened: by its own file and an iommufd, or by its group in a container. */
export type Way = 'cdev' | 'group';

const iommufd = '/dev/iommu';
const container = '/dev/vfio/vfio';

/** The way that opening takes where the address does not say which (docs/opening.md): what is there decides, not what may be opened. A device that is not bound has no file yet. */
export function usualWay(machine: Machine, device?: Found): Way {
  if (device?.kind === 'other') return 'cdev';
  const makesFiles = isThere(machine, iommufd) && isThere(machine, '/dev/vfio/devices');
  return makesFiles && (device?.vfio !== true || device.cdev !== undefined) ? 'cdev' : 'group';
}

/** The file that all devices share which are opened this way. */
export function sharedFile(machine: Machine, way: Way): Finding {
  if (way === 'cdev') return mayUse(machine, iommufd) ? ok('permissions', `${iommufd} may be opened`) : wrong('permissions', `${iommufd} may not be opened by this user`, [giveFile(machine, iommufd)]);
  if (!isThere(machine, container)) return wrong('permissions', `there is no ${container}: load the module; in a container the file is to be passed in`, [asRoot(machine, 'modprobe vfio')]);
  return mayUse(machine, container) ? ok('permissions', `${container} may be opened`) : wrong('permissions', `${container} may not be opened by this user`, [asRoot(machine, `chmod 0666 ${container}`)]);
}
