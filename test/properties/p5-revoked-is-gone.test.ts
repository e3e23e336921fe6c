import { describe, it } from 'vitest';
import { ordinary, schedules } from './arbitraries.js';
import { revokedIsGone } from './judges/mappings.js';
import { revocationMutants } from './mutants.js';
import { expectBrokenBy, expectKept, patienceMs, type Promised } from './promise.js';

/** P5, with guests that hold on, and a close now and then. */
const promised: Promised = {
  name: 'P5',
  schedules: schedules({
    menu: { ...ordinary, touch: 4, hold: 5, detach: 1, 'fail query': 1, 'fail map': 1, 'fail arc': 1, 'ignore acks': 1, unsubscribe: 1, subscribe: 2, close: 0.5 },
  }),
  judge: revokedIsGone,
};

describe('P5: what was revoked is neither mapped nor touched', () => {
  it('holds under random schedules', () => { expectKept(promised); }, patienceMs);

  for (const mutant of revocationMutants) {
    it(`falls: ${mutant.what}`, () => { expectBrokenBy(promised, mutant); }, patienceMs);
  }
});
