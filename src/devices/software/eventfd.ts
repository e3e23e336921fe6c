/**
 * An eventfd in this process: a 64-bit counter with two ends, as eventfd(2) has it. The driver's end adds, and its entry in
 * the wait queue hears what everybody does; the user's end reads, writes, and may wait, armed once, for the count to leave 0.
 */

/** The largest count there is; only a driver's adds reach it, and there they clamp. */
export const largestCount = 2n ** 64n - 1n;
/** The largest count that a user's writes can reach. */
export const largestWritten = 2n ** 64n - 2n;

/** The driver's entry in the wait queue. Calls come synchronously, under the eventfd's lock as it were: see `outsideCallbacks`. */
export interface EventfdListener {
  /** The driver's own add woke it. */
  readonly added?: () => void;
  /** A user wrote, if only 0. */
  readonly written?: () => void;
  /** A user's read took something. */
  readonly read?: () => void;
  /** The last reference is gone. */
  readonly hungUp: () => void;
}

/** How deep in wait callbacks we are. The kernel marks the task, not the eventfd: an add to any of them is lost meanwhile. */
let callbacks = 0;
let held: (() => void)[] = [];

/** A work item: done at once, but inside a wait callback only when that has returned, for an add made there is lost. */
export function outsideCallbacks(work: () => void): void {
  if (callbacks === 0) work();
  else held.push(work);
}

function callBack(callback: (() => void) | undefined): void {
  if (callback === undefined) return;
  callbacks += 1;
  try {
    callback();
  } finally {
    callbacks -= 1;
  }
  if (callbacks > 0 || held.length === 0) return;
  const due = held;
  held = [];
  for (const work of due) work();
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

  /** The driver's add: never fails, clamps at 2^64-1; lost inside a wait callback. */
  add(count: bigint): void {
    if (callbacks > 0) return;
    const sum = this.#count + count;
    this.#count = sum > largestCount ? largestCount : sum;
    callBack(this.#listener?.added);
    this.#fire();
  }

  /** The driver takes the count out, which nobody hears. From the wait callback of a write this is that write's value. */
  take(): bigint {
    const count = this.#count;
    this.#count = 0n;
    return count;
  }

  /** write(2): the errno, or undefined where the count was added. 0 adds nothing, and the driver hears it all the same. */
  write(count: bigint): 'EINVAL' | 'EAGAIN' | undefined {
    if (count < 0n || count >= largestCount) return 'EINVAL';
    if (this.#count + count > largestWritten) return 'EAGAIN';
    this.#count += count;
    callBack(this.#listener?.written);
    this.#fire();
    return undefined;
  }

  /** read(2): the whole count (1 with EFD_SEMAPHORE), or undefined for EAGAIN, which the driver does not hear. */
  read(): bigint | undefined {
    if (this.#count === 0n) return undefined;
    const count = this.semaphore ? 1n : this.#count;
    this.#count -= count;
    callBack(this.#listener?.read);
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
    callBack(this.#listener?.hungUp);
    this.#listener = undefined;
  }

  #fire(): void {
    if (this.#count === 0n) return;
    const armed = this.#armed;
    this.#armed = undefined;
    armed?.();
  }
}
