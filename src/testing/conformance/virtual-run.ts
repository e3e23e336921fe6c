import { setImmediate } from 'node:timers/promises';
import type { Clock } from '../../clock.js';
import { FrameScheduler } from '../frame-scheduler.js';
import { VirtualClock } from '../virtual-clock.js';

/**
 * Runs asynchronous work on a clock that is virtual: when nothing but time can bring it on, time goes to what is due next.
 * So a suite of Promises takes no real time, and comes out the same on a busy machine. Rejects as the work does, and where
 * it waits for something that this clock will never bring.
 */
export async function virtualRun<T>(work: (clock: Clock) => Promise<T>): Promise<T> {
  const scheduler = new FrameScheduler('us');
  const end = { reached: false };
  const result = work(new VirtualClock(scheduler)).finally(() => {
    end.reached = true;
  });
  result.catch(() => undefined);
  for (;;) {
    // Promises run to their end first, however many turns of theirs that takes.
    await setImmediate();
    if (end.reached) return result;
    if (!scheduler.advance()) throw new Error('the work waits for something that virtual time does not bring: a real timer, or nothing at all');
  }
}
