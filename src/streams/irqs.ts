import { concatMap, merge, type Observable } from 'rxjs';
import type { VfioDevice } from '../devices/device.js';
import type { IrqSignal } from '../devices/port.js';
import { begun, signalsOf, unmasksByEventfd, type SignalOptions } from './irq.js';

/**
 * The signals of several vectors of one irq index, registered together.
 *
 * ```
 * vector 0  --1-----1--
 * vector 2  ----1---1--
 * irqs      --a-b---(ab)
 * ```
 *
 * MSI cannot be resized, nor can MSI-X before Linux 6.5: what is enabled first decides how many vectors there are, so name
 * all that you need. `info.noResize` of `device.irqs()` tells. `begin` of the options is subscribed when all of them are registered.
 *
 * - **Emits** `IrqSignal`; `line.vector` says whose it is. Every vector is armed by itself, and waits for nobody but its subscriber.
 * - **Drops** nothing. **Completes** never by itself.
 * - **Fails** as `irq` does, and with VFIO_E_RANGE for vectors that are none: all vectors or none are registered, and one that fails ends all.
 * - **Releases** on unsubscribe: `begin`, and every vector, the last with its index.
 *
 * @example
 * irqs(device, 2, [0, 1, 2, 3]).subscribe(({ line }) => console.log('MSI-X', line.vector));
 * @see irq
 */
export function irqs(device: VfioDevice, index: number, vectors: readonly number[], options: SignalOptions = {}): Observable<IrqSignal> {
  return device.port.irqInfo(index).pipe(
    concatMap((info) =>
      device.port.irqs(index, vectors, { ackFd: unmasksByEventfd(info, options) }).pipe(
        concatMap((handles) => begun(merge(...handles.map((handle) => signalsOf(handle, info, options))), options)),
      ),
    ),
  );
}
