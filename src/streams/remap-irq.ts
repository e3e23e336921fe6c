import { Observable } from 'rxjs';
import type { VfioDevice } from '../devices/device.js';
import type { RemapWishes } from '../devices/protocol/negotiation.js';
import type { RemapSignal } from '../devices/remap-batch.js';
import { RemapPump } from '../devices/remap-pump.js';

/** How `remapIrq` speaks to the driver, and how long it believes in its operators. */
export interface RemapIrqOptions extends RemapWishes {
  /**
   * How long a batch may take until `acknowledge` ends it, ms; then the stream fails with VFIO_E_BATCH_DEADLINE, because an
   * operator swallowed or kept the batch. Default: 1000 more than the driver's own ack timeout, so that the driver speaks first.
   */
  readonly batchDeadlineMs?: number;
}

/**
 * The demands of a vendor driver to look at its regions again, one batch at a time.
 *
 * ```
 * signal    ------1-11----------     what is added to the eventfd
 * ended     ----x-----x---x-----     acknowledge() ends a batch, acked or not
 * arming    ----a-d---(ad)a-----     a: armed, d: delivered; never while a batch is in flight
 * remapIrq  r-----s---t---------     r: registered, everything is looked at once; t: a sum of 2
 * ```
 *
 * On subscription the irqs are scanned and, where the driver offers the protocol, registered with fresh eventfds: every page
 * of a device of more than 64 regions has an irq of its own. Where there is none (the profiles `static` and `saving-layout`)
 * it emits the one batch that maps everything, and completes.
 *
 * In `rfc-v4` a write of device_state starts between two batches, when the eventfd is empty (the idle rule): a driver of that
 * form takes any ack for the one that it waits for. One that also signals outside device_state cannot be made safe from here.
 *
 * - **Emits** `RemapSignal`: first `registered`, then one for each read of the irq, and full ones that `transition` asks for
 *   (`after-transition`, `after-deadline`). With `write-one` acks what comes back after an ack is emitted as `doubtful`.
 * - **Drops** nothing: what the driver adds during a batch stays in the eventfd.
 * - **Completes** when the device is closed between two batches; after its first batch where there is no irq.
 * - **Fails** with VFIO_E_BUSY where another pipeline serves the device, VFIO_E_PROTOCOL from the negotiation, VFIO_E_BATCH_DEADLINE,
 *   VFIO_E_DEADLINE where a write of device_state passes its deadline in `rfc-v4`, VFIO_E_CLOSED where the device is closed during
 *   a batch, and with what registering says.
 * - **Releases** the irqs on unsubscribe, error and completion; this ends a write of device_state that waits for an ack (VFIO_E_CANCELED).
 *
 * @example
 * remapIrq(device).pipe(remapRegions(device)).subscribe((remap) => console.log(remap.batch, remap.diffs));
 * @see remapRegions, transition
 */
export function remapIrq(device: VfioDevice, options: RemapIrqOptions = {}): Observable<RemapSignal> {
  return new Observable<RemapSignal>((subscriber) => {
    const pump = new RemapPump(device, options, subscriber);
    subscriber.add(() => pump.release());
    pump.start();
  });
}
