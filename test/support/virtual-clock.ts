import { VirtualTimeScheduler } from 'rxjs';
import type { Clock } from '../../src/clock.js';

/** A clock that stands still until `flush()`, or until `advanceMs()`. */
export interface VirtualClock extends Clock {
  readonly scheduler: VirtualTimeScheduler;
  /** Runs all that is due, and all that it brings about, to the end. */
  flush(): void;
  /** Runs what is due within so many milliseconds from now, and stands there. */
  advanceMs(ms: number): void;
}

export function virtualClock(): VirtualClock {
  const scheduler = new VirtualTimeScheduler();
  const nowNs = (): bigint => BigInt(Math.round(scheduler.frame * 1_000_000));
  return {
    scheduler,
    virtual: true,
    nowNs,
    // In virtual time nobody blocks a loop.
    watchStalls: () => ({ longestNs: () => 0n, stop: () => undefined }),
    flush() {
      scheduler.maxFrames = Infinity;
      scheduler.flush();
    },
    advanceMs(ms) {
      const until = scheduler.frame + ms;
      scheduler.maxFrames = until;
      scheduler.flush();
      scheduler.frame = until;
    },
  };
}
