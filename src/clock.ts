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

/** Ticks while a watch is on, and remembers the longest gap. A gap that is still going on counts too: the answer to a
 *  timed-out call may be delivered in the very turn that ends the stall, before the next tick. */
function watchRealStalls(): StallWatch {
  let last = process.hrtime.bigint();
  let longest = 0n;
  const tickNs = BigInt(stallTickMs) * 1_000_000n;
  const sample = (): void => {
    const now = process.hrtime.bigint();
    const late = now - last - tickNs;
    if (late > longest) longest = late;
    last = now;
  };
  const timer = setInterval(sample, stallTickMs);
  timer.unref();
  return {
    longestNs() {
      sample();
      return longest;
    },
    stop() {
      clearInterval(timer);
    },
  };
}

/** CLOCK_MONOTONIC and rxjs's asyncScheduler. */
export const realClock: Clock = {
  nowNs: () => process.hrtime.bigint(),
  scheduler: asyncScheduler,
  virtual: false,
  watchStalls: watchRealStalls,
};
