import { describe, it } from 'vitest';
import { ordinary, schedules } from './arbitraries.js';
import { everyWaitEnds, noDeadlineDecides } from './judges/waits.js';
import { deadlineMutants, waitMutants } from './mutants.js';
import { expectBrokenBy, expectKept, patienceMs, type Promised } from './promise.js';

/**
 * P2, its first sentence. Everything may go wrong here: acks are ignored, queries fail, operators keep batches past every
 * deadline, the pipeline goes and comes, the device is reset, removed, closed.
 */
const atWorst: Promised = {
  name: 'P2, every wait ends',
  schedules: schedules({
    menu: {
      ...ordinary, detach: 1, 'ignore acks': 2, 'fail query': 2, 'fail map': 1, 'fail arc': 1, unsubscribe: 2, subscribe: 2, reset: 1, remove: 0.3, close: 0.3,
    },
    latestUs: 100_000,
    deadlinesMs: [1, 5, 50],
  }),
  judge: everyWaitEnds,
};

/**
 * P2, its last sentence.
 *
 * The user is never later than an eighth of the driver's timeout with one step, nor its guests: a wait may fall behind
 * one batch in flight, and has its own after it.
 */
const atBest: Promised = {
  name: 'P2, no deadline decides',
  schedules: schedules({
    live: true,
    menu: { ...ordinary, 'fail map': 1, 'fail arc': 1 },
    latestUs: 20_000,
    ackTimeoutMs: [1_000],
    slowestGuestUs: 20_000,
  }),
  judge: noDeadlineDecides,
};

describe('P2: every wait ends', () => {
  it('holds under random schedules', () => { expectKept(atWorst); }, patienceMs);

  for (const mutant of waitMutants) {
    it(`falls: ${mutant.what}`, () => { expectBrokenBy(atWorst, mutant); }, patienceMs);
  }
});

describe('P2: with a driver that keeps its duties and a live user the deadline never decides', () => {
  it('holds under random schedules', () => { expectKept(atBest); }, patienceMs);

  for (const mutant of deadlineMutants) {
    it(`falls: ${mutant.what}`, () => { expectBrokenBy(atBest, mutant); }, patienceMs);
  }
});
