import { concat, concatMap, defer, EMPTY, finalize, ignoreElements, merge, repeat, type Observable } from 'rxjs';
import { disregard } from '../devices/call.js';
import type { VfioDevice } from '../devices/device.js';
import type { IrqHandle, IrqInfo, IrqLine, IrqSignal } from '../devices/port.js';

/** How an irq that masks itself is unmasked. */
export interface UnmaskOptions {
  /** By a call of VFIO_DEVICE_SET_IRQS (default), or through an eventfd of its own. An irq that does not mask itself needs neither. */
  readonly unmaskBy?: 'call' | 'eventfd';
}

/** How the signals of an irq are had. */
export interface SignalOptions extends UnmaskOptions {
  /**
   * What makes the device interrupt, such as a write to its doorbell: subscribed once the irq is registered, so that no signal of it is
   * lost, over a socket either. What it emits is dropped, its failure is that of the stream, and it ends with it.
   */
  readonly begin?: Observable<unknown>;
}

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
 * INTx is a level, and masks itself with each signal. It is unmasked when the subscriber has returned, so clear the device's
 * cause before that: a line that is still up signals again at once.
 *
 * ```
 * cause   --c----(cd)--    c is cleared by the subscriber at once, d when it is told a second time
 * irq     --a----(aa)--
 * unmask  --u----(uu)--    when the subscriber has returned, by call or through an eventfd
 * ```
 *
 * What makes the device interrupt is given as `begin`: it waits until the irq is registered, which over a socket takes its time.
 *
 * ```
 * registered  --r---
 * begin         w|      a write that the device answers by its irq
 * irq         ---a--
 * ```
 *
 * ERR (an uncorrectable error) and REQ (the kernel wants the device back) are irqs like any other; `health` listens to both.
 *
 * - **Emits** `IrqSignal` with the raw count. **Drops** nothing: what comes meanwhile stays in the eventfd, or in the line.
 * - **Completes** never by itself.
 * - **Fails** as `begin` does, with VFIO_E_NO_IRQ, VFIO_E_BUSY (the line is in use, or another of INTx, MSI and MSI-X is), VFIO_E_LIMIT, VFIO_E_CLOSED.
 * - **Releases** on unsubscribe: `begin`, and the irq, which is disabled and its eventfds closed.
 *
 * @example
 * const begin = device.region(0).request({ offset: 4, write: Uint8Array.of(1) });
 * irq(device, { index: 1 }, { begin }).subscribe(({ count }) => console.log('MSI', count));
 * @see irqs, remapIrq, health
 */
export function irq(device: VfioDevice, line: IrqLine, options: SignalOptions = {}): Observable<IrqSignal> {
  return device.port.irqInfo(line.index).pipe(
    concatMap((info) => device.port.irq(line, { ackFd: unmasksByEventfd(info, options) }).pipe(concatMap((handle) => begun(signalsOf(handle, info, options), options)))),
  );
}

/** The signals of what is registered, and what makes the device send them. */
export function begun(signals: Observable<IrqSignal>, { begin = EMPTY }: SignalOptions): Observable<IrqSignal> {
  return merge(signals, begin.pipe(ignoreElements()));
}

export function unmasksByEventfd(info: IrqInfo, { unmaskBy = 'call' }: UnmaskOptions): boolean {
  return info.automasked && unmaskBy === 'eventfd';
}

/** The signals of a registered irq, whose handle is closed with the subscription. */
export function signalsOf(handle: IrqHandle, info: IrqInfo, options: UnmaskOptions): Observable<IrqSignal> {
  const unmask = defer(() => (unmasksByEventfd(info, options) ? handle.ack(1n) : handle.unmask()));
  const again = info.automasked ? unmask.pipe(ignoreElements()) : EMPTY;
  // Concatenated, so that it is asked for when the subscriber has returned from the last: then the irq is armed again.
  return concat(handle.next(), defer(() => concat(again, handle.next())).pipe(repeat())).pipe(finalize(() => disregard(handle.close())));
}
