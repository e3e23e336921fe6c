import fc from 'fast-check';
import { expect } from 'vitest';
import { recordLanes, renderDiagram } from '../../src/testing/index.js';
import type { Cast } from './cast.js';
import type { Judge } from './judges/verdict.js';
import { play } from './run.js';
import { schedulePrinted, type Schedule } from './schedule.js';

/** A promise of the protocol, as a property over random schedules. */
export interface Promised {
  readonly name: string;
  readonly schedules: fc.Arbitrary<Schedule>;
  readonly judge: Judge;
}

/** A cast with one part played badly, and the complaint that must come of it. */
export interface Mutant {
  readonly what: string;
  readonly cast: Cast;
  readonly complaint: RegExp;
}

/** Schedules for each property; VFIO_RX_RUNS for a longer hunt. */
export const runs = Number(process.env['VFIO_RX_RUNS'] ?? 1_000);

/** Where every file's schedules begin; VFIO_RX_SEED repeats them. */
export const seed = Number(process.env['VFIO_RX_SEED'] ?? Date.now() % 1_000_000);

/** Time for one property on a busy machine, ms. */
export const patienceMs = 300_000;

/** The promise holds, whatever the schedule. A schedule under which it does not is shown at its smallest. */
export function expectKept(promised: Promised): void {
  let tested = 0;
  const details = check(promised, (schedule) => {
    const verdict = promised.judge(play(schedule), schedule);
    tested += verdict.tested;
    if (verdict.complaints.length > 0) throw new Error(verdict.complaints.slice(0, 5).join('\n'));
  });
  console.log(`${promised.name}: ${details.numRuns} schedules, tested ${tested} times, seed ${seed} (VFIO_RX_SEED repeats it)`);
  if (details.failed) {
    const error = details.errorInstance instanceof Error ? details.errorInstance.message : 'no error';
    const [smallest] = details.counterexample ?? [];
    throw new Error(`${promised.name}, seed ${seed}, after ${details.numShrinks} shrinks\n\n${error}\n\n${smallest === undefined ? '' : drawn(smallest)}`);
  }
  // A few schedules may happen to test little.
  expect(tested, 'how often the promise was put to the test').toBeGreaterThan(runs / 4 - 2 * Math.sqrt(runs));
}

/** What a mutant is found by; anything else that a run throws is a fault of the run and proves nothing. */
class Caught extends Error {}

/** The same judge over the same schedules turns red under a mutant, and for the reason that it should. */
export function expectBrokenBy(promised: Promised, mutant: Mutant): void {
  const details = check(promised, (schedule) => {
    const { complaints } = promised.judge(play(schedule, mutant.cast), schedule);
    if (complaints.some((complaint) => mutant.complaint.test(complaint))) throw new Caught(complaints.join('\n'));
  }, true);
  if (details.failed && !(details.errorInstance instanceof Caught)) {
    throw new Error(`${promised.name}, mutant "${mutant.what}", seed ${seed}: the run failed, not the promise`, { cause: details.errorInstance });
  }
  expect({ mutant: mutant.what, seed, failed: details.failed }).toEqual({ mutant: mutant.what, seed, failed: true });
}

function check(promised: Promised, judged: (schedule: Schedule) => void, endOnFailure = false): fc.RunDetails<[Schedule]> {
  const { stackTraceLimit } = Error;
  // Errors are ordinary answers here (a device has no irq 0), and a tenth of the time went into their stacks.
  Error.stackTraceLimit = 0;
  try {
    return fc.check(fc.property(promised.schedules, judged), { numRuns: runs, seed, endOnFailure });
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

/** The schedule in words, and what came of it as a marble diagram. */
function drawn(schedule: Schedule): string {
  using recording = recordLanes();
  try {
    play(schedule);
  } catch {
    // A run that throws has been recorded up to there.
  }
  return `${schedulePrinted(schedule)}\n\n${renderDiagram(recording.events, { width: 150 })}`;
}
