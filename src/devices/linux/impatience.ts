/** The longest time without sleep, in questions of some 0.4 us each. */
const mostAsks = 200;
/** In vain so often one after the other, it is passed over; at most so many times before the next try. */
const patience = 4;
const maxSkipped = 1023;

/**
 * Whether the next piece of bytes that are on their way is asked for again at once, or waited for in the kernel.
 *
 * The sender copies pieces of some 40 KiB, a few microseconds each. To fall asleep after each of them and to be woken costs both sides more
 * than the copy, so whoever has nothing else to do until the bytes are there stays awake for it. Where that is in vain (the sender
 * has no processor of its own, or is slow) again and again, the number of times that are passed over doubles until the next try.
 */
export class Impatience {
  #asks = 0;
  #inVain = 0;
  #skip = 0;

  /** Nothing is there. True: ask again at once. */
  asksAgain(): boolean {
    if (this.#skip > 0) {
      this.#skip -= 1;
      return false;
    }
    this.#asks += 1;
    if (this.#asks <= mostAsks) return true;
    this.#asks = 0;
    this.#inVain += 1;
    if (this.#inVain >= patience) this.#skip = Math.min(2 ** (this.#inVain - patience), maxSkipped);
    return false;
  }

  /** Something came. */
  came(): void {
    if (this.#asks > 0) this.#inVain = 0;
    this.#asks = 0;
  }
}
