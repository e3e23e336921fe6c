import { Subscription } from 'rxjs';
import type { Clock } from '../../clock.js';

/** Delays on the clock of whoever opened the device: all that this device knows of time. */
export class Timers {
  readonly clock: Clock;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** In a later turn, never inside the caller. Unsubscribing cancels. */
  soon(work: () => void): Subscription {
    if (this.clock.virtual) return this.afterUs(0, work);
    // A timer of Node waits 1 ms at least.
    const turn = setImmediate(work);
    return new Subscription(() => { clearImmediate(turn); });
  }

  /** As `soon`, for what nobody cancels. */
  later(work: () => void): void {
    if (this.clock.virtual) this.afterUs(0, work);
    else setImmediate(work);
  }

  afterUs(delayUs: number, work: () => void): Subscription {
    return this.afterMs(delayUs / 1000, work);
  }

  afterMs(delayMs: number, work: () => void): Subscription {
    return this.clock.scheduler.schedule(work, delayMs);
  }
}
