import { catchError, defer, map, of } from 'rxjs';
import { VfioError } from '../errors.js';
import type { Call, IrqInfo } from './port.js';
import { offersRfcV4 } from './protocol/negotiation.js';

/** What the user itself knows when a write of device_state fails. */
export interface AtRefusal {
  readonly device: string;
  /** The remap irq is registered. */
  readonly registered: boolean;
  readonly irqs: Call<readonly IrqInfo[]>;
  /** What it means where the driver found something mapped (EBUSY); undefined where it cannot mean that. */
  readonly mapped: (error: VfioError) => VfioError | undefined;
}

/**
 * What the driver's errno means to who knows the protocol. A driver of profile `saving-layout` says EBUSY where something is
 * mapped that the target's layout lacks. A driver of the proposal of 2020 says ENODEV to a write of device_state while its remap irq is not registered, which is what
 * a device that has vanished says, too. The user tells them apart by its own registration, not by the errno.
 *
 * @returns the error that the caller gets
 */
export function explainRefusal(error: unknown, { device, registered, irqs, mapped }: AtRefusal): Call<unknown> {
  if (!VfioError.is(error)) return of(error);
  if (error.errno === 'EBUSY') return of(mapped(error) ?? error);
  if (error.errno !== 'ENODEV' || registered) return of(error);
  const refused = (): VfioError =>
    new VfioError('VFIO_E_REFUSED', 'refused by the vendor driver: its remap irq is not registered, subscribe to remapIrq() first', {
      operation: error.operation,
      device,
      errno: error.errno,
      cause: error,
    });
  const closed = (): VfioError => new VfioError('VFIO_E_CLOSED', 'the device was closed before it went on', { operation: error.operation, device, errno: error.errno, cause: error });
  // Where nobody answers it has vanished, unless it is this user who closes it: that takes the irq away, too.
  return defer(() => irqs).pipe(
    map((all) => (offersRfcV4(all) ? refused() : error)),
    catchError((failed: unknown) => of(VfioError.is(failed) && failed.code === 'VFIO_E_CLOSED' ? closed() : error)),
  );
}
