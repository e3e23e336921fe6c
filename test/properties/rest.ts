import { VirtualTimeScheduler, type SchedulerAction, type Subscription } from 'rxjs';
import type { Clock } from '../../src/clock.js';

/** A run that does not come to rest. */
export class Livelock extends Error {
  override readonly name = 'Livelock';
}

/** A run that has taken this many turns will not come to rest; the longest one that does takes a few hundred. */
const mostTurns = 20_000;

/** Virtual time whose turns are counted: a run that feeds itself for ever is a failure, not a hang. */
class CountedTurns extends VirtualTimeScheduler {
  #turns = 0;

  override schedule<T>(work: (this: SchedulerAction<T>, state?: T) => void, delay = 0, state?: T): Subscription {
    const counted = (action: SchedulerAction<T>, given?: T): void => {
      this.#turns += 1;
      if (this.#turns > mostTurns) throw new Livelock(`no rest after ${mostTurns} turns, at ${this.frame} ms`);
      work.call(action, given);
    };
    return super.schedule(function (this: SchedulerAction<T>, given?: T) { counted(this, given); }, delay, state);
  }
}

/** The one clock of a run; its scheduler's frames are milliseconds, in fractions where an act is timed in µs. */
export interface RunClock extends Clock {
  /** Lets time pass until nothing is due any more. Throws where that never comes. */
  toRest(): void;
}

export function runClock(): RunClock {
  const scheduler = new CountedTurns();
  return {
    scheduler,
    virtual: true,
    nowNs: () => BigInt(Math.round(scheduler.frame * 1_000_000)),
    watchStalls: () => ({ longestNs: () => 0n, stop: () => undefined }),
    toRest: () => { scheduler.flush(); },
  };
}
