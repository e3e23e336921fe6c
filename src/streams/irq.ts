import { concatMap, defer, finalize, repeat, type Observable } from 'rxjs';
import { disregard } from '../devices/call.js';
import type { VfioDevice } from '../devices/device.js';
import type { IrqHandle, IrqLine, IrqSignal } from '../devices/port.js';

/**
 * The signals of one irq.
 *
 * ```
 * added   --1---(11)---
 * arming  a-(da)(da)---    a: armed, d: delivered; armed again when the subscriber has returned
 * irq     --a---b------    b: count 2
 * ```
 *
 * The irq is enabled with an eventfd of its own on subscribe. Counts add: two signals before one read are one delivery of 2.
 *
 * - **Emits** `IrqSignal` with the raw count. **Drops** nothing: what comes meanwhile stays in the eventfd.
 * - **Completes** never by itself.
 * - **Fails** with VFIO_E_NO_IRQ, VFIO_E_BUSY, VFIO_E_LIMIT, VFIO_E_CLOSED.
 * - **Releases** on unsubscribe: the irq is disabled and its eventfd closed.
 *
 * @example
 * irq(device, { index: 1 }).subscribe(({ count }) => console.log('MSI', count));
 * @see remapIrq
 */
export function irq(device: VfioDevice, line: IrqLine): Observable<IrqSignal> {
  return device.port.irq(line).pipe(concatMap(signals));
}

/** `repeat` asks for the next signal when the subscriber has returned from the last: that is when the irq is armed again. */
function signals(handle: IrqHandle): Observable<IrqSignal> {
  return defer(() => handle.next()).pipe(
    repeat(),
    finalize(() => disregard(handle.close())),
  );
}
