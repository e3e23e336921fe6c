import type { History } from '../history.js';
import type { Schedule } from '../schedule.js';

/** What one run says of a promise. */
export interface Verdict {
  /** Where the promise was broken, each in a sentence. */
  readonly complaints: readonly string[];
  /** How often the run put the promise to the test: one that nobody tests is not kept, only not broken. */
  readonly tested: number;
}

export type Judge = (history: History, schedule: Schedule) => Verdict;

/** What the rounding of ms to ns may add. */
export const roundingNs = 1_000n;
export const nsPerMs = 1_000_000n;

/** Both must hold. */
export function both(one: Judge, other: Judge): Judge {
  return (history, schedule) => {
    const [a, b] = [one(history, schedule), other(history, schedule)];
    return { complaints: [...a.complaints, ...b.complaints], tested: a.tested + b.tested };
  };
}
