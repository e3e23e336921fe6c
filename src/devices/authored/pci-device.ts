import { nowCall } from '../call.js';
import type { Call, DevicePort } from '../port.js';
import type { Clock } from '../../clock.js';
import { Timers } from '../software/timers.js';
import { AuthoredPort } from './authored-port.js';
import type { DeviceBehaviour } from './behaviour.js';
import { configImage } from './config-image.js';
import { shapeOfPciDevice, type PciDeviceDescription } from './description.js';

/** A PCI device that its author wrote: `serveDevice` serves it, `openDevice` opens it in this process. */
export interface PciDevice {
  readonly name: string;
  /** *Now.* Each is a device of its own, in its state after a reset. */
  open(clock: Clock): Call<DevicePort>;
}

/**
 * Makes a PCI device of a description and a stream. The description is all that does not change: ids, BARs, capabilities; from it come configuration
 * space and the table of MSI-X. The stream is what the device does.
 *
 * ```
 * bus.accesses  --W------R--W    W: written   R: read
 * behaviour     --I---------I    I: an irq
 * ```
 *
 * `behaviour` is subscribed when the device is opened and anew after each reset, so whatever it makes inside is in its state after a reset.
 *
 * Throws VFIO_E_RANGE where the description is of no device that could be. A behaviour that fails is told on `vfio-rx:warning`, and until a reset each
 * access fails with VFIO_E_NO_DEVICE.
 *
 * @example
 * // A register that counts its writes, and interrupts at each.
 * const counter = pciDevice(
 *   { vendorId: 0x1234, deviceId: 1, classCode: 0xff0000, bars: [{ index: 0, kind: 'memory', size: 16 }], interrupts: { msi: 1 } },
 *   ({ accesses }) => {
 *     let writes = 0;
 *     return accesses.pipe(
 *       tap((access) => { if (access.kind === 'read') access.answer(writes); else writes += 1; }),
 *       filter(({ kind }) => kind === 'write'),
 *       map(() => ({ message: 0 })),
 *     );
 *   },
 * );
 * serveDevice(counter, '/run/counter.sock').subscribe();
 * @see serveDevice
 */
export function pciDevice(description: PciDeviceDescription, behaviour: DeviceBehaviour): PciDevice {
  const shape = shapeOfPciDevice(description);
  // Said now, and not when a client comes.
  configImage(shape);
  return { name: shape.name, open: (clock) => nowCall(() => new AuthoredPort(shape, behaviour, new Timers(clock))) };
}
