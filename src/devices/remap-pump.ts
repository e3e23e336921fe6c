import { catchError, concatMap, defaultIfEmpty, defer, EMPTY, filter, from, map, merge, Observable, of, Subject, Subscription, take, tap, toArray, type Subscriber } from 'rxjs';
import { timerMs } from '../clock.js';
import { VfioError } from '../errors.js';
import type { VfioDevice } from './device.js';
import { negotiate, type RemapAgreement, type RemapPage, type RemapWishes } from './protocol/negotiation.js';
import type { BatchReason, RemapChannel, RemapSignal } from './remap-batch.js';
import type { RemapSession } from './remap-session.js';
import { RegisteredPage, type Reading } from './remap-page.js';

export interface PumpOptions extends RemapWishes {
  readonly batchDeadlineMs?: number;
}

/** What a batch may take beyond the driver's own timeout. */
const marginMs = 1000;

/** A full batch that was asked for and has not begun. `page` undefined: the one batch of a device without a remap irq. */
interface AskedBatch {
  readonly page: RegisteredPage | undefined;
  readonly because: BatchReason;
  readonly ended: Subject<never>;
}

/**
 * One subscription of `remapIrq`: registers, then hands out one batch after the other. What the last ack has read comes
 * first, then what was asked for, then whoever waits for rest; only after all that the irqs are armed.
 */
export class RemapPump implements RemapSession {
  agreement: RemapAgreement | undefined;
  readonly #device: VfioDevice;
  readonly #options: PumpOptions;
  readonly #out: Subscriber<RemapSignal>;
  readonly #pages: RegisteredPage[] = [];
  /** One for each page at most: who asks while one has not begun shares it. */
  readonly #asked: AskedBatch[] = [];
  readonly #waitingForRest = new Set<Subscriber<never>>();
  #giveBack: (() => void) | undefined;
  #waiting: Subscription | undefined;
  #deadline: Subscription | undefined;
  #inFlight: { readonly batch: number; readonly ended: Subject<never> | undefined } | undefined;
  #nextBatch = 0;
  #released = false;

  constructor(device: VfioDevice, options: PumpOptions, out: Subscriber<RemapSignal>) {
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
    const regions = [...this.#device.layoutsNow.values()];
    negotiation.add(this.#device
      .irqs()
      .pipe(
        map((irqs) => negotiate({ irqs, regions, regionCount: this.#device.info.regions }, this.#device.name, this.#options)),
        concatMap((agreement) => this.#register(agreement).pipe(map(() => agreement))),
      )
      .subscribe({
        next: (agreement) => {
          this.agreement = agreement;
          if (agreement.profile !== 'rfc-v4') this.#letStart();
          for (const page of this.#hasIrq ? this.#pages : [undefined]) void this.#ask(page, 'registered');
          this.#proceed();
        },
        error: (error: unknown) => this.#out.error(error),
      }));
  }

  atRest(): Observable<never> {
    return new Observable<never>((subscriber) => {
      // Over a socket registering takes its time: a driver that does not know the irq yet would refuse.
      if (this.#released || (this.agreement !== undefined && this.agreement.profile !== 'rfc-v4')) {
        subscriber.complete();
        return undefined;
      }
      this.#waitingForRest.add(subscriber);
      if (this.agreement !== undefined) this.#proceed();
      return () => this.#waitingForRest.delete(subscriber);
    });
  }

  requeryAll(): Observable<never> {
    return this.#askAll('after-transition');
  }

  deadlinePassed(): void {
    if (this.#released || !this.#hasIrq) return;
    if (this.agreement?.profile === 'rfc-v4') {
      // Nothing else frees a driver that waits without a bound.
      const message = 'the write of device_state has not returned by its deadline; the irq is disabled, which frees a driver that keeps to the protocol';
      this.#out.error(new VfioError('VFIO_E_DEADLINE', message, { operation: 'remapIrq', device: this.#device.name }));
      return;
    }
    // A driver that lost its own signals is seen through here, and costs no more than this deadline.
    this.#askAll('after-deadline').subscribe({ error: () => undefined });
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
    for (const page of this.#pages) page.close();
    this.#giveBack?.();
    const lost = new VfioError('VFIO_E_CANCELED', 'the remap pipeline ended before it had looked at every region once more', { operation: 'remapIrq', device: this.#device.name });
    this.#inFlight?.ended?.error(lost);
    for (const { ended } of this.#asked.splice(0)) ended.error(lost);
    // Whether the write may be made without a pipeline is the driver's to say.
    this.#letStart();
  }

  get #hasIrq(): boolean {
    return this.agreement !== undefined && 'pages' in this.agreement;
  }

  #askAll(because: BatchReason): Observable<never> {
    return defer(() => {
      // A batch that a write of device_state has overtaken has asked for the layout of the state before.
      const overtaken = this.agreement?.profile === 'saving-layout' && this.#inFlight !== undefined;
      if (this.#released || !(this.#hasIrq || overtaken)) return EMPTY;
      const ended = (overtaken ? [undefined] : this.#pages).map((page) => this.#ask(page, because));
      // Subscribed to before the batch can end: an idle pipeline begins it, and may end it, at once.
      const all = merge(...ended);
      return new Observable<never>((subscriber) => {
        subscriber.add(all.subscribe(subscriber));
        this.#proceed();
      });
    });
  }

  #ask(page: RegisteredPage | undefined, because: BatchReason): Observable<never> {
    const waiting = this.#asked.find((asked) => asked.page === page);
    if (waiting !== undefined) return waiting.ended;
    const asked = { page, because, ended: new Subject<never>() };
    this.#asked.push(asked);
    return asked.ended;
  }

  /** Registers every page or none: on failure `release` closes those that were registered. */
  #register(agreement: RemapAgreement): Observable<unknown> {
    if (!('pages' in agreement)) return of([]);
    const { profile, pages } = agreement;
    return from(pages).pipe(
      concatMap((page) =>
        this.#everyRegionAnswers(page).pipe(
          concatMap(() => this.#device.port.irq({ index: page.irqIndex }, { ackFd: page.ack === 'value' })),
          tap((handle) => this.#pages.push(new RegisteredPage(this.#device, profile, page, handle, (batch) => this.#end(batch)))),
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

  /** Between two batches: begins the next one, or arms the irqs. */
  #proceed(): void {
    // Whoever waited for the end of a batch may have asked for the next one, which then is in flight already.
    if (this.#inFlight !== undefined || this.#released) return;
    const waiting = this.#waitFor();
    for (const page of this.#pages) {
      const reading = page.takeFollowing();
      if (reading === undefined) continue;
      this.#emit(page.channel, reading);
      return;
    }
    const asked = this.#asked.shift();
    if (asked !== undefined) this.#begin(asked);
    else if (this.agreement !== undefined && !this.#hasIrq) this.#out.complete();
    else if (this.#waitingForRest.size > 0) this.#rest(waiting);
    else this.#arm(waiting);
  }

  #begin({ page, because, ended }: AskedBatch): void {
    if (page === undefined) this.#emit(this.#channelOfNone(), { because, sumRead: 0n, doubtful: false, atNs: this.#device.clock.nowNs() }, ended);
    else this.#emit(page.channel, page.full(because), ended);
  }

  #arm(waiting: Subscription): void {
    for (const page of [...this.#pages]) {
      if (waiting.closed) return;
      waiting.add(
        page.next().subscribe({
          next: (reading) => {
            // The first disarms the others.
            waiting.unsubscribe();
            this.#signalled(page, reading);
          },
          error: (error: unknown) => this.#out.error(error),
        }),
      );
    }
  }

  /** Nothing is in flight; if nothing rests in an eventfd either, whoever waited for that starts, before the irqs are armed again. */
  #rest(waiting: Subscription): void {
    waiting.add(
      from([...this.#pages])
        .pipe(
          concatMap((page) => page.readNow().pipe(map((reading) => (reading === undefined ? undefined : { page, reading })))),
          filter((read) => read !== undefined),
          take(1),
          defaultIfEmpty(undefined),
        )
        .subscribe({
          next: (read) => {
            if (read !== undefined) {
              this.#signalled(read.page, read.reading);
              return;
            }
            this.#letStart();
            // What has started may have asked for a batch, or may have ended the pipeline.
            if (this.#waiting === waiting && this.#inFlight === undefined && !this.#released) this.#proceed();
          },
          error: (error: unknown) => this.#out.error(error),
        }),
    );
  }

  #letStart(): void {
    const waiting = [...this.#waitingForRest];
    this.#waitingForRest.clear();
    for (const subscriber of waiting) subscriber.complete();
  }

  /** Ends what was waited for until now. Made before its work begins: a call may answer inside subscribe(), and the batch that follows waits anew. */
  #waitFor(): Subscription {
    this.#waiting?.unsubscribe();
    this.#waiting = new Subscription();
    return this.#waiting;
  }

  #signalled(page: RegisteredPage, reading: Reading): void {
    // The page that was served goes last: one that always signals must not keep the others waiting.
    this.#pages.push(...this.#pages.splice(this.#pages.indexOf(page), 1));
    this.#emit(page.channel, reading);
  }

  #emit(channel: RemapChannel, reading: Reading, ended?: Subject<never>): void {
    const batch = this.#nextBatch++;
    const deadlineMs = this.#options.batchDeadlineMs ?? (channel.ackTimeoutMs ?? 0) + marginMs;
    this.#inFlight = { batch, ended };
    this.#deadline = this.#device.clock.scheduler.schedule(() => this.#missed(batch, reading.because, deadlineMs), timerMs(deadlineMs));
    this.#out.next({ channel, batch, ...reading });
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

  #channelOfNone(): RemapChannel {
    return {
      device: this.#device.name,
      profile: this.agreement?.profile ?? 'static',
      page: 0,
      declared: new Set(this.#device.regions.keys()),
      signals: 'doorbell',
      ackForm: 'none',
      ackTimeoutMs: undefined,
      ack: () => of(false),
      end: (batch) => this.#end(batch),
    };
  }
}
