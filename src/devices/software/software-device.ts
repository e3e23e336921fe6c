import type { Clock } from '../../clock.js';
import { errnoError } from '../../errors.js';
import { nowCall } from '../call.js';
import type { Call, DevicePort } from '../port.js';
import type { SoftwareVendorDriver } from './driver-face.js';
import { shapeOf, type SoftwareDeviceOptions } from './options.js';
import { SoftwarePort } from './software-port.js';
import { Timers } from './timers.js';
import { VendorDriver } from './vendor-driver.js';

/**
 * A device in this process, with a vendor driver that follows a script: it speaks the remap protocol in every profile
 * and migration v2, in virtual and in real time alike, and it tells what it saw.
 */
export interface SoftwareDevice {
  readonly name: string;
  /** Script and witness; works whether the device is open or not. */
  readonly driver: SoftwareVendorDriver;
  /**
   * *Now.* Opens the device. All its time is the clock's. It can be opened again after the last user's `released` completed.
   * Fails with VFIO_E_BUSY while it is open, with VFIO_E_NO_DEVICE after `driver.remove()`.
   */
  open(clock: Clock): Call<DevicePort>;
}

/** Makes a device, not opened. Throws VFIO_E_RANGE where the options describe none that could be. */
export function softwareDevice(options: SoftwareDeviceOptions = {}): SoftwareDevice {
  const driver = new VendorDriver(shapeOf(options));
  const { name } = driver.shape;
  return {
    name,
    driver,
    open: (clock) => nowCall(() => {
      const timers = new Timers(clock);
      const errno = driver.open(timers);
      if (errno !== undefined) throw errnoError(errno, 'open', name);
      return new SoftwarePort(driver, timers);
    }),
  };
}
