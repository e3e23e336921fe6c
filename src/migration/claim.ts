import type { VfioDevice } from '../devices/device.js';
import { VfioError } from '../errors.js';

/** Devices that a migration has, from either side, until it has ended; one in doubt keeps them. */
const taken = new WeakSet<VfioDevice>();

/** Takes the devices for one migration; gives them back when called. Throws VFIO_E_BUSY, with none taken, where another migration has one of them. */
export function claim(devices: readonly VfioDevice[], operation: string): () => void {
  const other = devices.find((device, place) => taken.has(device) || devices.indexOf(device) < place);
  if (other !== undefined) throw new VfioError('VFIO_E_BUSY', 'a migration has this device already', { operation, device: other.name });
  for (const device of devices) taken.add(device);
  return () => {
    for (const device of devices) taken.delete(device);
  };
}
