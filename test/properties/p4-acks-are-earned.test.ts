import { describe, it } from 'vitest';
import { ordinary, schedules } from './arbitraries.js';
import { acksAreEarned } from './judges/acks.js';
import { ackMutants } from './mutants.js';
import { expectBrokenBy, expectKept, patienceMs, type Promised } from './promise.js';

/** P4, while user and driver have their troubles. */
const promised: Promised = {
  name: 'P4',
  schedules: schedules({
    menu: { ...ordinary, flicker: 6, detach: 1, 'fail query': 1, 'fail map': 1, 'fail arc': 1, 'ignore acks': 1, unsubscribe: 1, subscribe: 2, reset: 1 },
  }),
  judge: acksAreEarned,
};

describe('P4: acks never exceed what was read', () => {
  it('holds under random schedules', () => { expectKept(promised); }, patienceMs);

  for (const mutant of ackMutants) {
    it(`falls: ${mutant.what}`, () => { expectBrokenBy(promised, mutant); }, patienceMs);
  }
});
