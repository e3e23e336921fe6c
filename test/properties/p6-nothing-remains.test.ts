import { describe, it } from 'vitest';
import { closedWhileBlocked, ordinary, schedules } from './arbitraries.js';
import { closeMutants } from './mutants.js';
import { nothingRemains } from './judges/waits.js';
import { expectBrokenBy, expectKept, patienceMs, type Promised } from './promise.js';

/** P6: each run closes, and many in the middle of a blocked write. */
const promised: Promised = {
  name: 'P6',
  schedules: schedules({
    menu: {
      ...ordinary, transition: 14, detach: 1, 'ignore acks': 2, 'fail query': 2, 'fail map': 1, 'fail arc': 1, unsubscribe: 2, subscribe: 2, reset: 1, remove: 0.3, close: 1,
    },
    latestUs: 200_000,
    ackTimeoutMs: [300, 1_000],
    finale: closedWhileBlocked,
    ending: 'close',
  }),
  judge: nothingRemains,
};

describe('P6: after close nothing remains', () => {
  it('holds under random schedules', () => { expectKept(promised); }, patienceMs);

  for (const mutant of closeMutants) {
    it(`falls: ${mutant.what}`, () => { expectBrokenBy(promised, mutant); }, patienceMs);
  }
});
