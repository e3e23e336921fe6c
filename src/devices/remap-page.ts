import { map } from 'rxjs';
import { VfioError } from '../errors.js';
import { disregard } from './call.js';
import type { VfioDevice } from './device.js';
import type { Call, IrqHandle } from './port.js';
import { isSaturated } from './protocol/ack-value.js';
import type { RemapPage } from './protocol/negotiation.js';
import type { BatchReason, RemapChannel } from './remap-batch.js';
import { ackForms, type Acked } from './remap-acks.js';
import { steps, type Steps } from './steps.js';

/** What a batch is made of. */
export interface Reading {
  readonly because: BatchReason;
  readonly sumRead: bigint;
  readonly doubtful: boolean;
  readonly atNs: bigint;
}

/** One registered page: what was read from its irq, what of that is acked, and what the next batch takes. */
export class RegisteredPage {
  readonly channel: RemapChannel;
  readonly #device: VfioDevice;
  readonly #page: RemapPage;
  readonly #handle: IrqHandle;
  /** The sum of what was read and not yet acked: what an ack may say at most. */
  #unacked = 0n;
  /** What the batch in flight read and may be an echo: it is acked where that batch finds a change, and forgotten where not. */
  #doubted = 0n;
  #following: Reading | undefined;

  /** @param end ends the batch in flight, if it has this number */
  constructor(device: VfioDevice, profile: 'rfc-v4' | 'region-remap', page: RemapPage, handle: IrqHandle, end: (batch: number) => void) {
    this.#device = device;
    this.#page = page;
    this.#handle = handle;
    this.channel = {
      device: device.name,
      profile,
      page: page.page,
      declared: page.declared,
      signals: page.signals,
      ackForm: page.ack,
      ackTimeoutMs: page.ackTimeoutMs,
      ack: (sum) => steps(() => this.#ack(sum)),
      end,
    };
  }

  /** Arms, waits, reads once. */
  next(): Call<Reading> {
    return this.#handle.next().pipe(map(({ count, atNs }) => this.#signalled(count, atNs)));
  }

  /** What rests in the eventfd now; undefined for nothing. */
  readNow(): Call<Reading | undefined> {
    return this.#handle.readNow().pipe(map((count) => (count === undefined ? undefined : this.#signalled(count, this.#device.clock.nowNs()))));
  }

  /** What the last ack read comes before anything else; given once. */
  takeFollowing(): Reading | undefined {
    const following = this.#following;
    this.#following = undefined;
    return following;
  }

  /** A batch about every declared region that takes along what was read and not yet acked. */
  full(because: BatchReason): Reading {
    this.#doubted = 0n;
    return { because, sumRead: this.#unacked, doubtful: false, atNs: this.#device.clock.nowNs() };
  }

  close(): void {
    disregard(this.#handle.close());
  }

  #signalled(count: bigint, atNs: bigint, full = false): Reading {
    this.#unacked += count;
    this.#doubted = 0n;
    return { because: full || isSaturated(count) ? 'saturated' : 'signal', sumRead: this.#unacked, doubtful: false, atNs };
  }

  *#ack(sum: bigint): Steps<boolean> {
    const most = this.#unacked + this.#doubted;
    if (sum < 0n || sum > most) {
      const message = `an ack of ${sum}, but ${most} was read and not yet acked: more would cover a signal that nobody has seen`;
      throw new VfioError('VFIO_E_RANGE', message, { operation: `ack irq ${this.#page.irqIndex}`, device: this.#device.name });
    }
    if (sum === 0n) return false;
    const acked = (yield ackForms[this.#page.ack](this.#handle, sum)) as Acked;
    this.#settle(sum, acked);
    return acked.written;
  }

  #settle(sum: bigint, { read }: Acked): void {
    if (read?.full !== true) this.#unacked = sum > this.#unacked ? 0n : this.#unacked - sum;
    this.#doubted = 0n;
    if (read === undefined) return;
    const atNs = this.#device.clock.nowNs();
    if (read.doubtful) {
      this.#doubted = read.count;
      this.#following = { because: 'signal', sumRead: read.count, doubtful: true, atNs };
    } else {
      this.#following = this.#signalled(read.count, atNs, read.full);
    }
  }
}
