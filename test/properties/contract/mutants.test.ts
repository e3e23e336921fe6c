import fc from 'fast-check';
import { concatMap, timer } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { trueCast, type Cast } from '../cast.js';
import {
  ackMutants, closeMutants, deadlineMutants, mappingMutants, oldUserMutants, pageMutants, requeryMutants, revocationMutants, withoutIdleRule,
} from '../mutants.js';
import { patienceMs, runs, seed, type Mutant } from '../promise.js';
import { Livelock } from '../rest.js';
import { play } from '../run.js';
import { rows, type RowName } from '../rows.js';
import { keepsItsDuties, type Misbehaviour, type Schedule } from '../schedule.js';
import { cellOf, promises, type PromiseName } from './cells.js';
import { quietly, schedulesOf } from './check.js';

/** Schedules that a mutant has until it is found out. */
const mutantRuns = Math.max(runs, 1_000);

/** Whether a promise of a cell falls under this cast, in one of so many schedules. */
function falls(row: RowName, misbehaviour: string, promise: PromiseName, cast: Cast, complaint = /./, numRuns = mutantRuns): boolean {
  const cell = cellOf(row, misbehaviour);
  const fallen = (schedule: Schedule): boolean => {
    try {
      return promises[promise](play(schedule, cast), schedule).complaints.some((one) => complaint.test(one));
    } catch (error) {
      // A part that is played badly may find no rest in some schedules: those say nothing of the promise. With the true cast none may.
      if (error instanceof Livelock && cast !== trueCast) return false;
      throw error;
    }
  };
  return quietly(() => fc.sample(schedulesOf(cell), { numRuns, seed }).some(fallen));
}

/** Rows in which a part that is played badly shows: acks that carry a number, bare ones, none. */
const shownIn: readonly (readonly [PromiseName, RowName, readonly Mutant[]])[] = [
  ['P1', 'rfc-v4, write-zero', mappingMutants],
  ['P1', 'bitmap, none', mappingMutants],
  ['P2', 'bitmap, value', deadlineMutants],
  ['P3', 'rfc-v4, write-one', requeryMutants.slice(0, 2)],
  ['P3', 'bitmap, value', requeryMutants],
  ['P4', 'bitmap, value', ackMutants],
  ['P4', 'rfc-v4, write-zero', ackMutants.slice(2)],
  ['P5', 'bitmap, value', revocationMutants],
  ['P5', 'rfc-v4, write-zero', revocationMutants],
  ['P5', 'saving-layout', revocationMutants.filter(({ what }) => what.startsWith('holders'))],
  ['P6', 'doorbell, none', closeMutants],
  ['P7', 'rfc-v4, write-zero', oldUserMutants],
  ['P7', 'doorbell, value', oldUserMutants],
  ['P8', 'bitmap, value', pageMutants],
  ['P8', 'doorbell, none', pageMutants.slice(0, 1)],
];

describe('each promise of the contract falls when a part is played badly', () => {
  for (const [promise, row, mutants] of shownIn) {
    for (const { what, cast, complaint } of mutants) {
      it(`${promise}, ${row}: ${what}`, () => { expect(falls(row, 'none', promise, cast, complaint)).toBe(true); }, patienceMs);
    }
  }
});

describe('the posted rule: any ack that follows the signal ends the wait', () => {
  for (const row of ['rfc-v4, write-zero', 'rfc-v4, write-one'] as const) {
    it(`${row}: corrupts without the idle rule`, () => { expect(falls(row, 'take any ack', 'P5', withoutIdleRule)).toBe(true); }, patienceMs);

    it(`${row}: does not with it`, () => { expect(falls(row, 'take any ack', 'P5', trueCast, /./, runs)).toBe(false); }, patienceMs);

    it(`${row}: corrupts whatever the user does where the driver also signals outside device_state`, () => {
      // Between the idle rule's look and the driver, on its thread, the write is nowhere; just then the driver signals.
      const slowThread: Cast = { ...trueCast, driver: (port) => ({ setState: (to) => timer(1, port.clock.scheduler).pipe(concatMap(() => port.setState(to))) }) };
      const schedule = (misbehaviour: Misbehaviour): Schedule => ({
        device: {
          row: rows[row], firstIndex: 0, onNextPage: 0, migration: 7, ackTimeoutMs: 50, maxWaits: 1, signalDelayUs: 0, arcLatencyUs: 0,
          regions: [{ pages: 1, outside: 'all', saving: 'nothing', declared: true }, { pages: 1, outside: 'all', saving: 'all', declared: true }],
        },
        misbehaviour, live: true, subscribesAtOnce: true, lateUs: [[], [], [], [], [2_000]],
        acts: [{ afterUs: 10_000, act: { do: 'transition', to: 'stop-copy', deadlineMs: undefined } }, { afterUs: 200, act: { do: 'revoke', region: 1 } }],
        afterRest: [], ending: 'nothing',
      });
      const posted = schedule({ what: 'take any ack', begin: (driver) => { driver.takeAnyAck = true; } });
      expect(promises.P5(play(posted, slowThread), posted).complaints).toContainEqual(expect.stringMatching(/is still mapped/));
      const byReadRule = schedule(keepsItsDuties);
      expect(promises.P5(play(byReadRule, slowThread), byReadRule).complaints).toEqual([]);
    });

    it(`${row}: the read rule is safe without the idle rule`, () => { expect(falls(row, 'none', 'P5', withoutIdleRule, /./, runs)).toBe(false); }, patienceMs);
  }
});
