import { describe, it } from 'vitest';
import { ordinary, schedules } from './arbitraries.js';
import { requeryBeforeAck } from './judges/acks.js';
import { requeryMutants } from './mutants.js';
import { expectBrokenBy, expectKept, patienceMs, type Promised } from './promise.js';

/** P3, with queries that fail and pipelines that come and go. */
const promised: Promised = {
  name: 'P3',
  schedules: schedules({ menu: { ...ordinary, flicker: 6, 'fail query': 4, 'ignore acks': 1, unsubscribe: 1, subscribe: 2, reset: 1 } }),
  judge: requeryBeforeAck,
};

describe('P3: no ack before the re-query', () => {
  it('holds under random schedules', () => { expectKept(promised); }, patienceMs);

  for (const mutant of requeryMutants) {
    it(`falls: ${mutant.what}`, () => { expectBrokenBy(promised, mutant); }, patienceMs);
  }
});
