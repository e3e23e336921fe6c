import { catchError, concatMap, defer, EMPTY, from, map, merge, Observable, of, Subject, Subscription, take, tap, toArray, type Subscriber } from 'rxjs';
import { timerMs } from '../clock.js';
import { VfioError } from '../errors.js';
import { disregard } from '../devices/call.js';
import type { VfioDevice } from '../devices/device.js';
import type { Call, IrqHandle, IrqSignal } from '../devices/port.js';
import { ackWrites, isSaturated } from '../devices/protocol/ack-value.js';
import { negotiate, type RemapAgreement, type RemapPage } from '../devices/protocol/negotiation.js';
import type { BatchReason, RemapChannel, RemapSignal } from '../devices/remap-batch.js';
import type { RemapSession } from '../devices/remap-session.js';

/** How long `remapIrq` believes in its operators. */
export interface RemapIrqOptions {
  /**
   * How long a batch may take until `acknowledge` ends it, ms; then the stream fails with VFIO_E_BATCH_DEADLINE, because an
   * operator swallowed or kept the batch. Default: 1000 more than the driver's own ack timeout, so that the driver speaks first.
   */
  readonly batchDeadlineMs?: number;
}

/** What a batch may take beyond the driver's own timeout. */
const marginMs = 1000;

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
 * On subscription the irqs are scanned and, where the driver offers the protocol, registered with fresh eventfds.
 * A device whose layouts never change (profile `static`) emits the one batch that maps everything, and completes.
 *
 * - **Emits** `RemapSignal`: first `registered`, then one for each read of the irq, and `after-transition` ones that `transition` asks for.
 * - **Drops** nothing: what the driver adds during a batch stays in the eventfd.
 * - **Completes** when the device is closed between two batches; after its first batch in profile `static`.
 * - **Fails** with VFIO_E_BUSY where another pipeline serves the device, VFIO_E_UNSUPPORTED or VFIO_E_PROTOCOL from the negotiation,
 *   VFIO_E_BATCH_DEADLINE, VFIO_E_CLOSED where the device is closed during a batch, and with what registering says.
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

interface RegisteredPage {
  readonly page: RemapPage;
  readonly handle: IrqHandle;
  readonly channel: RemapChannel;
  /** The sum of what was read and not yet acked: what an ack may say at most. */
  unacked: bigint;
}

/** A full batch that was asked for and has not begun. */
interface AskedBatch {
  readonly channel: RemapChannel;
  readonly because: BatchReason;
  readonly ended: Subject<never>;
}

/** One subscription of `remapIrq`: registers, then hands out one batch after the other. */
class RemapPump implements RemapSession {
  agreement: RemapAgreement | undefined;
  readonly #device: VfioDevice;
  readonly #options: RemapIrqOptions;
  readonly #out: Subscriber<RemapSignal>;
  readonly #pages: RegisteredPage[] = [];
  /** One for each page at most: who asks while one has not begun shares it. */
  readonly #asked: AskedBatch[] = [];
  #giveBack: (() => void) | undefined;
  #waiting: Subscription | undefined;
  #deadline: Subscription | undefined;
  #inFlight: { readonly batch: number; readonly ended: Subject<never> | undefined } | undefined;
  #nextBatch = 0;
  #released = false;

  constructor(device: VfioDevice, options: RemapIrqOptions, out: Subscriber<RemapSignal>) {
    this.#device = device;
    this.#options = options;
    this.#out = out;
  }

  start(): void {
    try {
      this.#giveBack = this.#device.claimRemap(this);
    } catch (error) {
      this.#out.error(error);
      return;
    }
    const negotiation = this.#waitFor();
    negotiation.add(this.#device
      .irqs()
      .pipe(
        map((irqs) => negotiate(irqs, this.#device.info.regions, this.#device.name)),
        concatMap((agreement) => this.#register(agreement).pipe(map(() => agreement))),
      )
      .subscribe({
        next: (agreement) => {
          this.agreement = agreement;
          const channels = agreement.profile === 'static' ? [this.#staticChannel()] : this.#pages.map((page) => page.channel);
          for (const channel of channels) void this.#ask(channel, 'registered');
          this.#proceed();
        },
        error: (error: unknown) => this.#out.error(error),
      }));
  }

  requeryAll(): Observable<never> {
    return defer(() => {
      if (this.#released || this.agreement?.profile !== 'region-remap') return EMPTY;
      const ended = this.#pages.map(({ channel }) => this.#ask(channel, 'after-transition'));
      // Subscribed to before the batch can end: an idle pipeline begins it, and may end it, at once.
      const all = merge(...ended);
      return new Observable<never>((subscriber) => {
        subscriber.add(all.subscribe(subscriber));
        this.#proceed();
      });
    });
  }

  #ask(channel: RemapChannel, because: BatchReason): Observable<never> {
    const waiting = this.#asked.find((asked) => asked.channel === channel);
    if (waiting !== undefined) return waiting.ended;
    const asked = { channel, because, ended: new Subject<never>() };
    this.#asked.push(asked);
    return asked.ended;
  }

  deviceClosed(): void {
    const { batch } = this.#inFlight ?? {};
    if (batch === undefined) this.#out.complete();
    else this.#out.error(new VfioError('VFIO_E_CLOSED', `the device was closed before batch ${batch} had ended`, { operation: 'remapIrq', device: this.#device.name }));
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    this.#waiting?.unsubscribe();
    this.#deadline?.unsubscribe();
    for (const { handle } of this.#pages) disregard(handle.close());
    this.#giveBack?.();
    const lost = new VfioError('VFIO_E_CANCELED', 'the remap pipeline ended before it had looked at every region once more', { operation: 'remapIrq', device: this.#device.name });
    this.#inFlight?.ended?.error(lost);
    for (const { ended } of this.#asked.splice(0)) ended.error(lost);
  }

  /** Registers every page or none: on failure `release` closes those that were registered. */
  #register(agreement: RemapAgreement): Observable<unknown> {
    if (agreement.profile === 'static') return of([]);
    return from(agreement.pages).pipe(
      concatMap((page) =>
        this.#everyRegionAnswers(page).pipe(
          concatMap(() => this.#device.port.irq({ index: page.irqIndex }, { ackFd: true })),
          tap((handle) => this.#pages.push(this.#registered(page, handle))),
        ),
      ),
      toArray(),
    );
  }

  /** R10: a region that cannot be looked at again must not be signalled, so the irq is declined as a whole. */
  #everyRegionAnswers(page: RemapPage): Observable<unknown> {
    return from(page.declared).pipe(
      concatMap((index) => this.#device.port.regionInfo(this.#device.region(index).index)),
      toArray(),
      catchError((cause: unknown) => {
        const operation = `register remap irq ${page.irqIndex}`;
        throw new VfioError('VFIO_E_PROTOCOL', 'a region that the driver declares does not answer; nothing was registered', { operation, device: this.#device.name, cause });
      }),
    );
  }

  #registered(page: RemapPage, handle: IrqHandle): RegisteredPage {
    const registered: RegisteredPage = {
      page,
      handle,
      unacked: 0n,
      channel: {
        profile: 'region-remap',
        page: page.page,
        declared: page.declared,
        ackTimeoutMs: page.ackTimeoutMs,
        ack: (sum) => this.#ack(registered, sum),
        end: (batch) => this.#end(batch),
      },
    };
    return registered;
  }

  #ack(registered: RegisteredPage, sum: bigint): Call<void> {
    return defer(() => {
      const { page, handle, unacked } = registered;
      if (sum < 0n || sum > unacked) {
        const message = `an ack of ${sum}, but ${unacked} was read and not yet acked: more would cover a signal that nobody has seen`;
        throw new VfioError('VFIO_E_RANGE', message, { operation: `ack irq ${page.irqIndex}`, device: this.#device.name });
      }
      registered.unacked -= sum;
      return from(ackWrites(sum)).pipe(concatMap((count) => handle.ack(count)), toArray(), map(() => undefined));
    });
  }

  #staticChannel(): RemapChannel {
    return {
      profile: 'static',
      page: 0,
      declared: new Set(this.#device.regions.keys()),
      ackTimeoutMs: undefined,
      ack: () => of(undefined),
      end: (batch) => this.#end(batch),
    };
  }

  /** Idle: takes the next full batch that was asked for, else arms the irqs. */
  #proceed(): void {
    // Whoever waited for the end of a batch may have asked for the next one, which then is in flight already.
    if (this.#inFlight !== undefined) return;
    const waiting = this.#waitFor();
    const asked = this.#asked.shift();
    if (asked !== undefined) {
      this.#emit(asked.channel, asked.because, 0n, this.#device.clock.nowNs(), asked.ended);
      return;
    }
    if (this.agreement?.profile === 'static') {
      this.#out.complete();
      return;
    }
    waiting.add(
      merge(...this.#pages.map((page) => page.handle.next().pipe(map((signal) => ({ page, signal })))))
        .pipe(take(1))
        .subscribe({
          next: ({ page, signal }) => this.#signalled(page, signal),
          error: (error: unknown) => this.#out.error(error),
        }),
    );
  }

  /** Ends what was waited for until now. Made before its work begins: a call may answer inside subscribe(), and the batch that follows waits anew. */
  #waitFor(): Subscription {
    this.#waiting?.unsubscribe();
    this.#waiting = new Subscription();
    return this.#waiting;
  }

  #signalled(page: RegisteredPage, signal: IrqSignal): void {
    const { channel } = page;
    // The page that was served goes last: one that always signals must not keep the others waiting.
    this.#pages.push(...this.#pages.splice(this.#pages.indexOf(page), 1));
    page.unacked += signal.count;
    this.#emit(channel, isSaturated(signal.count) ? 'saturated' : 'signal', page.unacked, signal.atNs, undefined);
  }

  #emit(channel: RemapChannel, because: BatchReason, sumRead: bigint, atNs: bigint, ended: Subject<never> | undefined): void {
    const batch = this.#nextBatch++;
    const deadlineMs = this.#options.batchDeadlineMs ?? (channel.ackTimeoutMs ?? 0) + marginMs;
    this.#inFlight = { batch, ended };
    this.#deadline = this.#device.clock.scheduler.schedule(() => this.#missed(batch, because, deadlineMs), timerMs(deadlineMs));
    this.#out.next({ channel, batch, because, sumRead, atNs });
  }

  #missed(batch: number, because: BatchReason, deadlineMs: number): void {
    const message = `batch ${batch} (${because}) was not ended within ${deadlineMs} ms: an operator swallowed or kept it; the irq is disabled`;
    this.#out.error(new VfioError('VFIO_E_BATCH_DEADLINE', message, { operation: 'remapIrq', device: this.#device.name }));
  }

  #end(batch: number): void {
    const current = this.#inFlight;
    if (this.#released || current?.batch !== batch) return;
    this.#deadline?.unsubscribe();
    this.#inFlight = undefined;
    current.ended?.complete();
    this.#proceed();
  }
}

