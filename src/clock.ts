import { asyncScheduler, type SchedulerLike } from 'rxjs';

/**
 * The only source of time (law 1). Operators of rxjs get `scheduler` passed explicitly; its delays are milliseconds,
 * in real and in virtual time alike. A TestScheduler of `vfio-rx/testing` brings a virtual clock.
 */
export interface Clock {
  /** Monotonic, ns. */
  nowNs(): bigint;
  readonly scheduler: SchedulerLike;
  /** True where time only passes when a scheduler flushes: a real kernel cannot follow it. */
  readonly virtual: boolean;
  /** Watches for user code that blocks the loop, until `stop()`. */
  watchStalls(): StallWatch;
}

/** The longest time that the loop was not free since the watch began. */
export interface StallWatch {
  longestNs(): bigint;
  stop(): void;
}

/** What a timer can wait at most, ms: above 2^31 - 1 Node fires after 1 ms. */
const longestTimerMs = 2 ** 31 - 1;

/** A delay as a timer can take it: bounds come from devices, too. */
export function timerMs(ms: number): number {
  return Math.min(ms, longestTimerMs);
}

const stallTickMs = 5;
const stallTickNs = BigInt(stallTickMs) * 1_000_000n;

/** One watch of the loop for all who ask: it ticks while there is one, and each remembers its longest gap. */
class Stalls {
  readonly #watches = new Set<OneWatch>();
  #timer: NodeJS.Timeout | undefined;
  #lastNs = 0n;

  watch(): StallWatch {
    const nowNs = process.hrtime.bigint();
    if (this.#timer === undefined) {
      this.#lastNs = nowNs;
      this.#timer = setInterval(() => this.#tick(), stallTickMs);
      this.#timer.unref();
    }
    const watch = new OneWatch(this, nowNs);
    this.#watches.add(watch);
    return watch;
  }

  #tick(): void {
    const nowNs = process.hrtime.bigint();
    for (const watch of this.#watches) this.see(watch, nowNs);
    this.#lastNs = nowNs;
  }

  /** A gap that is still going on counts too: the answer to a timed-out call may be delivered in the very turn that ends the
   *  stall, before the next tick. */
  see(watch: OneWatch, nowNs: bigint): bigint {
    const fromNs = watch.beganNs > this.#lastNs ? watch.beganNs : this.#lastNs;
    const lateNs = nowNs - fromNs - stallTickNs;
    if (lateNs > watch.gapNs) watch.gapNs = lateNs;
    return watch.gapNs;
  }

  forget(watch: OneWatch): void {
    this.#watches.delete(watch);
    if (this.#watches.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

class OneWatch implements StallWatch {
  readonly #stalls: Stalls;
  readonly beganNs: bigint;
  gapNs = 0n;

  constructor(stalls: Stalls, beganNs: bigint) {
    this.#stalls = stalls;
    this.beganNs = beganNs;
  }

  longestNs(): bigint {
    return this.#stalls.see(this, process.hrtime.bigint());
  }

  stop(): void {
    this.#stalls.forget(this);
  }
}

const stalls = new Stalls();

/** CLOCK_MONOTONIC and rxjs's asyncScheduler. */
export const realClock: Clock = {
  nowNs: () => process.hrtime.bigint(),
  scheduler: asyncScheduler,
  virtual: false,
  watchStalls: () => stalls.watch(),
};
