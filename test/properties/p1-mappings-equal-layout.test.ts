import { describe, it } from 'vitest';
import { ordinary, schedules } from './arbitraries.js';
import { mappingsEqualLayout } from './judges/mappings.js';
import { mappingMutants } from './mutants.js';
import { expectBrokenBy, expectKept, patienceMs, type Promised } from './promise.js';

/** P1, while user and driver have their troubles. */
const promised: Promised = {
  name: 'P1',
  schedules: schedules({
    menu: { ...ordinary, 'fail map': 4, 'fail query': 1, 'fail arc': 1, 'ignore acks': 1, unsubscribe: 1, subscribe: 1, reset: 1, detach: 1 },
    ending: 'subscribe again',
  }),
  judge: mappingsEqualLayout,
};

describe('P1: when all is quiet the mappings equal the layout', () => {
  it('holds under random schedules', () => { expectKept(promised); }, patienceMs);

  for (const mutant of mappingMutants) {
    it(`falls: ${mutant.what}`, () => { expectBrokenBy(promised, mutant); }, patienceMs);
  }
});
