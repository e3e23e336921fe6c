import fc from 'fast-check';
import { closedWhileServed, ordinary, schedules, withAnAckInFlight, type Menu, type Ranges } from '../arbitraries.js';
import type { Cast } from '../cast.js';
import { trueCast } from '../cast.js';
import type { Judge } from '../judges/verdict.js';
import { play } from '../run.js';
import { ackKind, hasIrq, hasPages } from '../rows.js';
import type { Schedule } from '../schedule.js';
import { insteads, promises, promisesOf, type Cell, type PromiseName } from './cells.js';

/** The driver that was posted signals inside device_state, and at once: only so a user can be safe from its rule. */
function isPosted({ row, fault }: Cell): boolean {
  return fault.what === 'take any ack' && ackKind(row) === 'bare';
}

/** What happens in a row, beyond which nothing can: who has no irq is told of nothing, and is not asked anything. */
function rangesOf(cell: Cell): Partial<Ranges> {
  const { row, fault } = cell;
  const irq = hasIrq(row);
  const posted = isPosted(cell);
  const { revoke, restore, flicker, ...others } = ordinary;
  return {
    row,
    misbehaviour: fc.constantFrom(...fault.begins.map((begin) => ({ what: fault.what, begin }))),
    mostOnNextPage: hasPages(row) ? 2 : 0,
    menu: { ...others, ...(irq && !posted ? { revoke, restore, flicker } : {}), 'fail map': 1, 'fail arc': 1 },
    // Nothing after it looks at everything, but for what the driver says of it.
    ...(irq && !posted ? { afterRest: { revoke, restore, flicker } as Menu } : {}),
    ending: 'anew, then close',
    ...(posted ? { mostSignalDelayUs: 0 } : {}),
  };
}

/** All that a cell may meet: half of the users are quick and undisturbed, the others have every trouble that there is. */
export function schedulesOf(cell: Cell): fc.Arbitrary<Schedule> {
  const ranges = rangesOf(cell);
  const irq = hasIrq(cell.row);
  // A reset changes layouts, too, and signals it outside device_state.
  const resets = isPosted(cell) ? {} : { reset: 1 };
  const quick: Partial<Ranges> = { ...ranges, live: true, latestUs: 20_000, ackTimeoutMs: [1_000], slowestGuestUs: 20_000 };
  const troubled: Partial<Ranges> = {
    ...ranges,
    menu: { ...ranges.menu, detach: 1, unsubscribe: 2, subscribe: 2, remove: 0.3, close: 0.3, ...resets, ...(irq ? { 'fail query': 1 } : {}) },
    lateSubscribers: 2,
    latestUs: 100_000,
    ackTimeoutMs: [2, 10, 50, 500],
    deadlinesMs: [1, 5, 50],
  };
  return fc.oneof(
    { weight: 2, arbitrary: schedules(quick) },
    ...(ranges.afterRest === undefined ? [] : [{ weight: 1, arbitrary: schedules({ ...quick, finale: withAnAckInFlight }) }]),
    { weight: 2, arbitrary: schedules(troubled) },
    { weight: 1, arbitrary: schedules({ ...troubled, finale: closedWhileServed }) },
  );
}

/** Errors are ordinary answers here (a device has no irq 0), and a tenth of the time went into their stacks. */
export function quietly<T>(work: () => T): T {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return work();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

/** Schedules that are tried in making a counterexample smaller. */
const mostTries = 2_000;

/** What came of one cell. */
export interface CellResult {
  readonly runs: number;
  /** How often each promise was put to the test, and in how many runs one that is said to fall did fall. */
  readonly tested: Readonly<Record<string, number>>;
  readonly fallen: Readonly<Record<string, number>>;
  /** The smallest schedule under which something broke that must hold. */
  readonly broken: { readonly schedule: Schedule; readonly complaints: readonly string[] } | undefined;
}

/** Every schedule is put to every promise of the cell, and to what holds in the place of those that fall. */
export function checkCell(cell: Cell, runs: number, seed: number, cast: Cast = trueCast, tick: () => void = () => undefined): CellResult {
  const falls = new Set<PromiseName>(cell.falls.map((name) => insteads[name].of));
  const holding: [string, Judge][] = [
    ...promisesOf(cell.row).filter((name) => !falls.has(name)).map((name): [string, Judge] => [name, promises[name]]),
    ...cell.falls.map((name): [string, Judge] => [`${insteads[name].of} (${insteads[name].mark})`, insteads[name].judge]),
  ];
  const tested: Record<string, number> = {};
  const fallen: Record<string, number> = {};
  for (const [name] of holding) tested[name] = 0;
  for (const name of falls) fallen[name] = 0;
  let shrinking = false;
  let tries = 0;
  const judged = (schedule: Schedule): void => {
    // A counterexample that no more tries have made smaller is small enough.
    if (shrinking && (tries += 1) > mostTries) return;
    const history = play(schedule, cast);
    const complaints: string[] = [];
    for (const [name, judge] of holding) {
      const verdict = judge(history, schedule);
      if (!shrinking) tested[name] = (tested[name] ?? 0) + verdict.tested;
      complaints.push(...verdict.complaints.map((complaint) => `${name}: ${complaint}`));
    }
    for (const name of falls) {
      if (promises[name](history, schedule).complaints.length > 0) fallen[name] = (fallen[name] ?? 0) + 1;
    }
    if (!shrinking) tick();
    if (complaints.length === 0) return;
    shrinking = true;
    throw new Error(complaints.slice(0, 5).join('\n'));
  };
  const details = quietly(() => fc.check(fc.property(schedulesOf(cell), judged), { numRuns: runs, seed }));
  const [schedule] = details.counterexample ?? [];
  const message = details.errorInstance instanceof Error ? details.errorInstance.message : 'no error';
  return { runs: details.numRuns, tested, fallen, broken: schedule === undefined ? undefined : { schedule, complaints: message.split('\n') } };
}
