/**
 * The driver's arithmetic of the `value` ack: what it added to the trigger eventfd and what came back on the ack eventfd,
 * both mod 2^64, for one registration of one page.
 *
 * The user acks the sum of what it read, and reads are prefixes of what was sent. So an ack for an older batch, a late
 * one, and signals that fell into one count all sort themselves out without a sequence number.
 */

const mask = 2n ** 64n - 1n;
/** A count must stay below this: at it a reader could not tell how much was added. */
const unreachable = 2n ** 64n - 1n;

const wrap = (value: bigint): bigint => value & mask;

export class AckSums {
  #sent: bigint;
  #acked: bigint;
  /** Signals that do not fit yet, as an OR of bits. */
  #held = 0n;

  /** @param start where both sums begin; anything but 0 is for tests of the wrap-around. */
  constructor(start = 0n) {
    this.#sent = start;
    this.#acked = start;
  }

  get sent(): bigint {
    return this.#sent;
  }

  get acked(): bigint {
    return this.#acked;
  }

  /** Sent, and not yet come back. */
  get outstanding(): bigint {
    return wrap(this.#sent - this.#acked);
  }

  /** What a wait that begins now waits for; undefined while its own signal is held back. */
  get target(): bigint | undefined {
    return this.#held === 0n ? this.#sent : undefined;
  }

  /** Counts a signal of `bits` as sent, or holds it back where it would fill the count. Returns what to add to the eventfd. */
  signal(bits: bigint): readonly bigint[] {
    this.#held |= bits;
    return this.flush();
  }

  /**
   * An ack of `value` came. False for one that is larger than what is outstanding: it names signals that never were, and
   * changes nothing. Whoever waits is judged first, then `flush()` sends what was held back: after that `sent` may stand a
   * whole lap beyond the target.
   */
  acknowledge(value: bigint): boolean {
    if (value > this.outstanding) return false;
    this.#acked = wrap(this.#acked + value);
    return true;
  }

  /** True when everything up to `target` has come back. Correct across the wrap, since outstanding never reaches 2^64-1. */
  covers(target: bigint): boolean {
    return this.outstanding <= wrap(this.#sent - target);
  }

  /** Counts as sent what fits by now of what was held back. Returns what to add to the eventfd, in order. */
  flush(): readonly bigint[] {
    const adds: bigint[] = [];
    while (this.#held !== 0n) {
      // All 64 bits at once fit no count: they go as two adds.
      const value = this.#held === mask ? 1n << 63n : this.#held;
      if (this.outstanding + value >= unreachable) break;
      this.#held &= ~value;
      this.#sent = wrap(this.#sent + value);
      adds.push(value);
    }
    return adds;
  }
}
