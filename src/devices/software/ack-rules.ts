import { AckSums } from './ack-sums.js';
import type { Faults } from './faults.js';
import type { RemapShape } from './remap-shape.js';

/**
 * When a wait has ended: what a driver of each profile makes of what it hears. One of them serves one registration of one
 * page; the wait's deadline, and who is told, are the irq's own business.
 */
export interface AckRule {
  /** Added to the trigger eventfd, or about to be, mod 2^64. */
  readonly sent: bigint;
  /** Come back by the rule, mod 2^64; 0 where acks carry no number. */
  readonly acked: bigint;
  /** What the present wait waits for, where that is a number; -1 while its signal is held back. */
  readonly target: bigint | undefined;
  /** Bits are signalled; `waited`: a wait begins with them. Returns what to add to the trigger eventfd, in order. */
  signal(bits: bigint, waited: boolean): readonly bigint[];
  /** In the wait callback of an add of our own. */
  added(): void;
  /** In the wait callback of a user's read of the trigger eventfd. */
  read(): void;
  /** In the wait callback of an ack. False where it acknowledges what was never sent. */
  acknowledge(value: bigint): boolean;
  /** Whether the present wait has its answer. */
  answered(): boolean;
  /** After an ack was judged: what was held back and goes now. */
  flush(): readonly bigint[];
}

const mask = 2n ** 64n - 1n;

/** All 64 bits at once fit no count: they go as two adds. */
function addsOf(bits: bigint): readonly bigint[] {
  return bits === mask ? [1n << 63n, bits >> 1n] : [bits];
}

/** region-remap, `value`: the sum of what the user read comes back on an eventfd of its own. */
class ValueRule implements AckRule {
  readonly #sums = new AckSums();
  readonly #faults: Faults;
  #waited = false;
  /** Undefined while its own signal is held back: no ack is judged against a target that is not sent. */
  #target: bigint | undefined;

  constructor(faults: Faults) {
    this.#faults = faults;
  }

  get sent(): bigint {
    return this.#sums.sent;
  }

  get acked(): bigint {
    return this.#sums.acked;
  }

  get target(): bigint {
    return this.#target ?? -1n;
  }

  signal(bits: bigint, waited: boolean): readonly bigint[] {
    const adds = this.#sums.signal(bits);
    if (waited) {
      this.#waited = true;
      this.#target = this.#sums.target;
    }
    return adds;
  }

  added(): void {
    // Its own: nothing to learn from it.
  }

  read(): void {
    // The number that comes back says what was read.
  }

  acknowledge(value: bigint): boolean {
    return this.#sums.acknowledge(this.#faults.takeAnyAck ? this.#sums.outstanding : value);
  }

  answered(): boolean {
    if (this.#target === undefined || !this.#sums.covers(this.#target)) return false;
    this.#waited = false;
    return true;
  }

  flush(): readonly bigint[] {
    const adds = this.#sums.flush();
    if (this.#waited) this.#target ??= this.#sums.target;
    return adds;
  }
}

/**
 * rfc-v4, the read rule: an ack is a bare write to the trigger eventfd, so one that comes while an add of ours is unread can
 * only be for an older batch, and counts for nothing. As posted (`faults.takeAnyAck`) any write after the signal is an ack.
 */
class ReadRule implements AckRule {
  readonly acked = 0n;
  readonly target = undefined;
  readonly #faults: Faults;
  sent = 0n;
  #unread = false;
  #wanted = false;
  #armed = false;
  #heard = false;

  constructor(faults: Faults) {
    this.#faults = faults;
  }

  signal(bits: bigint, waited: boolean): readonly bigint[] {
    this.sent = (this.sent + bits) & mask;
    if (waited) {
      // Armed by the add's own callback; a wait whose add never wakes anybody times out.
      this.#wanted = true;
      this.#armed = false;
      this.#heard = false;
    }
    return addsOf(bits);
  }

  added(): void {
    this.#unread = true;
    this.#heard = false;
    this.#armed = this.#wanted;
  }

  read(): void {
    this.#unread = false;
  }

  acknowledge(): boolean {
    if (!this.#unread || this.#faults.takeAnyAck) this.#heard = true;
    return true;
  }

  answered(): boolean {
    if (!this.#armed || !this.#heard) return false;
    this.#wanted = false;
    this.#armed = false;
    return true;
  }

  flush(): readonly bigint[] {
    return [];
  }
}

/** region-remap, `none`: nobody writes; the driver watches the mappings go. */
class MappingsRule implements AckRule {
  readonly acked = 0n;
  readonly target = undefined;
  readonly #allGone: () => boolean;
  sent = 0n;

  /** @param allGone whether nothing of this page is mapped that the layout does not offer */
  constructor(allGone: () => boolean) {
    this.#allGone = allGone;
  }

  signal(bits: bigint): readonly bigint[] {
    this.sent = (this.sent + bits) & mask;
    return addsOf(bits);
  }

  added(): void {
    // Its own.
  }

  read(): void {
    // What was read is not what is unmapped.
  }

  acknowledge(): boolean {
    return false;
  }

  answered(): boolean {
    return this.#allGone();
  }

  flush(): readonly bigint[] {
    return [];
  }
}

export function ackRuleOf(remap: RemapShape, faults: Faults, allGone: () => boolean): AckRule {
  if (remap.profile === 'rfc-v4') return new ReadRule(faults);
  return remap.ack === 'value' ? new ValueRule(faults) : new MappingsRule(allGone);
}
