/**
 * An eventfd in this process: a 64-bit counter with two ends, as eventfd(2) has it. The driver's end adds and may listen
 * for writes; the user's end reads, writes, and may wait, armed once, for the count to leave 0.
 */

/** The largest count there is; only a driver's adds reach it, and there they clamp. */
export const largestCount = 2n ** 64n - 1n;
/** The largest count that a user's writes can reach. */
export const largestWritten = 2n ** 64n - 2n;

/** The driver's entry in the wait queue. Calls come synchronously, inside the user's write or close. */
export interface EventfdListener {
  written(): void;
  hungUp(): void;
}

export class SoftEventfd {
  /** EFD_SEMAPHORE: a read takes 1, whatever the count. */
  readonly semaphore: boolean;
  #count: bigint;
  #listener: EventfdListener | undefined;
  #armed: (() => void) | undefined;
  #closed = false;

  constructor(options: { readonly initial?: bigint; readonly semaphore?: boolean } = {}) {
    this.#count = options.initial ?? 0n;
    this.semaphore = options.semaphore ?? false;
  }

  get count(): bigint {
    return this.#count;
  }

  /** The driver's add: never fails, clamps at 2^64-1. */
  add(count: bigint): void {
    const sum = this.#count + count;
    this.#count = sum > largestCount ? largestCount : sum;
    this.#fire();
  }

  /** write(2): the errno, or undefined where the count was added. 0 adds nothing, and the driver hears it all the same. */
  write(count: bigint): 'EINVAL' | 'EAGAIN' | undefined {
    if (count < 0n || count >= largestCount) return 'EINVAL';
    if (this.#count + count > largestWritten) return 'EAGAIN';
    this.#count += count;
    this.#listener?.written();
    this.#fire();
    return undefined;
  }

  /** read(2): the whole count (1 with EFD_SEMAPHORE), or undefined for EAGAIN. */
  read(): bigint | undefined {
    if (this.#count === 0n) return undefined;
    const count = this.semaphore ? 1n : this.#count;
    this.#count -= count;
    return count;
  }

  /** The driver's wait entry; undefined takes it away. */
  listen(listener: EventfdListener | undefined): void {
    this.#listener = listener;
  }

  /** One-shot, as EPOLLONESHOT: `readable` is called once, at once where a count rests already. Returns the disarming. */
  arm(readable: () => void): () => void {
    this.#armed = readable;
    if (this.#count !== 0n) this.#fire();
    return () => {
      if (this.#armed === readable) this.#armed = undefined;
    };
  }

  /** The user's last reference is gone. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#armed = undefined;
    this.#listener?.hungUp();
    this.#listener = undefined;
  }

  #fire(): void {
    if (this.#count === 0n) return;
    const armed = this.#armed;
    this.#armed = undefined;
    armed?.();
  }
}
