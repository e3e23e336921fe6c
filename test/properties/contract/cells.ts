import { mappingsEqualLayout, mappingsEqualLayoutAnew, revokedIsGone, revokedIsGoneWhenDone } from '../judges/mappings.js';
import { acksAreEarned, requeryBeforeAck } from '../judges/acks.js';
import { missingIrqIsNeverSuccess, oldOnesWork, pagesAreIndependent } from '../judges/neighbours.js';
import type { Judge } from '../judges/verdict.js';
import { nothingRemains, nothingRemainsInTheEnd, waitsEndByThemselves, waitsInVainAreTold } from '../judges/waits.js';
import { hasPages, rows, type Row, type RowName } from '../rows.js';
import { faults, type Fault } from './misbehaviours.js';

/** The promises of section 6 of the protocol. */
export const promises = {
  P1: mappingsEqualLayout,
  P2: waitsEndByThemselves,
  P3: requeryBeforeAck,
  P4: acksAreEarned,
  P5: revokedIsGone,
  P6: nothingRemains,
  P7: oldOnesWork,
  P8: pagesAreIndependent,
} as const satisfies Readonly<Record<string, Judge>>;

export type PromiseName = keyof typeof promises;

/** What is left of a promise that a driver's fault makes impossible: it holds, and a test says so, where the promise does not. */
export interface Instead {
  readonly of: PromiseName;
  /** A letter in the table. */
  readonly mark: string;
  /** What the user gets, by when. */
  readonly what: string;
  readonly judge: Judge;
}

export const insteads = {
  foundLater: {
    of: 'P1', mark: 'a', judge: mappingsEqualLayoutAnew,
    what: 'Nobody tells the user that a layout has changed. No error and no warning: what came stays trapped, what went stays mapped (mmap of it fails), until the next batch that looks at everything, '
      + 'which is the one after any write of device_state, after a deadline, or of a new subscription; from then on the mappings equal the layout.',
  },
  driverTimesOut: {
    of: 'P2', mark: 'b', judge: waitsInVainAreTold,
    what: 'The driver waits in vain: the caller gets VFIO_E_ACK_TIMEOUT when the driver\'s own timeout has passed, or VFIO_E_DEADLINE at its own deadline if that is earlier. State and layout are as before.',
  },
  callerTimesOut: {
    of: 'P2', mark: 'c', judge: waitsInVainAreTold,
    what: 'The caller gets VFIO_E_DEADLINE at its deadline; the write stays outstanding (VFIO_E_BUSY to another one), and what it brings home late is the device\'s state. In rfc-v4 the pipeline ends with VFIO_E_DEADLINE too, which disables the irq.',
  },
  notAsked: {
    of: 'P3', mark: 'd', judge: mappingsEqualLayoutAnew,
    what: 'The count does not name the region that changed, so that its batch does not ask for that: the next one that looks at everything does. A lie of this kind cannot be seen, but where the count is no multiple of the lowest declared bit: that is told on the channel vfio-rx:warning.',
  },
  neverRead: {
    of: 'P3', mark: 'e', judge: mappingsEqualLayoutAnew,
    what: 'A signal that the driver has eaten itself is never read, so nothing asks for its regions before the next batch that looks at everything; where acks are numbers, those of later signals make up for it meanwhile.',
  },
  goneWhenDone: {
    of: 'P5', mark: 'f', judge: revokedIsGoneWhenDone,
    what: 'The driver returns from the write although the user has not unmapped. The batch after the write looks at everything: when `transition` completes, what was revoked is not mapped any more, and guests have let go before (as long as the pipeline lives; it ends with an error of its own).',
  },
  goneInTheEnd: {
    of: 'P6', mark: 'g', judge: nothingRemainsInTheEnd,
    what: 'Closing takes as long as the driver keeps the write: max_waits x ack_timeout_ms, and its stall. `close()` and `released` then complete, and nothing remains.',
  },
  refusedLate: {
    of: 'P7', mark: 'h', judge: missingIrqIsNeverSuccess,
    what: 'The driver goes on as if the irq were registered: a write that needs it fails with VFIO_E_ACK_TIMEOUT after the driver\'s timeout instead of VFIO_E_REFUSED or VFIO_E_CANCELED at once.',
  },
} as const satisfies Readonly<Record<string, Instead>>;

export type InsteadName = keyof typeof insteads;

/** One cell of the table. */
export interface Cell {
  readonly row: Row;
  readonly fault: Fault;
  /** Why there is no such cell. */
  readonly nonsense: string | undefined;
  /** What falls, and what holds in its place. */
  readonly falls: readonly InsteadName[];
  /** What of it falls so seldom that no run may demand it: less than once in 10,000 schedules. */
  readonly seldom: readonly PromiseName[];
  /** What holds because there is nothing that could break it. */
  readonly vacuous: readonly PromiseName[];
  /** What else is to be known of the cell. */
  readonly note: string | undefined;
}

type Falls = Readonly<Record<string, readonly InsteadName[]>>;

/** Drivers that eat signals: own changes of layouts are lost, and so are the acks of waits. */
const eaten: readonly InsteadName[] = ['foundLater', 'driverTimesOut'];
const early: readonly InsteadName[] = ['foundLater', 'goneWhenDone'];

/** Acks that count what was read: what was eaten is missing in them, and signals of other regions make up for it, so that a wait may end too early. */
const eatenAndMadeUpFor: readonly InsteadName[] = [...eaten, 'neverRead', 'goneWhenDone'];

/** What a fault breaks wherever it makes sense; a row may differ. */
const everywhere: Falls = {
  'never answer an ack': ['driverTimesOut'],
  'signal before the layout': early,
  'drain always': eaten,
  'drain sometimes': eaten,
  'drain at the ack': eaten,
  'ignore a disable': ['goneInTheEnd', 'refusedLate'],
  stall: ['callerTimesOut', 'goneInTheEnd'],
};

const byRow: Readonly<Partial<Record<RowName, Falls>>> = {
  'doorbell, value': { 'take any ack': ['goneWhenDone'] },
  // Nobody acks too early here; what is found too late keeps a wait waiting.
  'doorbell, none': { 'signal before the layout': [...early, 'driverTimesOut'], 'drain always': [...eaten, 'neverRead'] },
  'bitmap, value': {
    'take any ack': ['goneWhenDone'],
    'add one': ['foundLater', 'notAsked', 'goneWhenDone'],
    'drain sometimes': eatenAndMadeUpFor,
    'drain at the ack': eatenAndMadeUpFor,
  },
  'bitmap, none': { 'signal before the layout': [...early, 'driverTimesOut'], 'drain always': [...eaten, 'neverRead'], 'add one': ['foundLater', 'driverTimesOut', 'notAsked'] },
};

/** The eaten number and the one that makes up for it have to meet within one wait. */
const seldomFalls: Readonly<Partial<Record<RowName, Readonly<Record<string, readonly PromiseName[]>>>>> = {
  'bitmap, value': { 'drain sometimes': ['P3', 'P5'], 'drain at the ack': ['P3', 'P5'] },
};

/** Nothing that the user does ever ends a wait, so that no revocation succeeds and no ack covers anything. */
const nothingSucceeds: readonly PromiseName[] = ['P3', 'P4', 'P5'];

const vacuousIn: Readonly<Record<string, readonly PromiseName[]>> = { 'never answer an ack': ['P5'], 'drain always': nothingSucceeds };
const vacuousInRow: Readonly<Partial<Record<RowName, readonly PromiseName[]>>> = { 'saving-layout': ['P3'], static: ['P3', 'P5'] };

/** Where mappings ack and the layout comes late, there is nothing to go when the driver looks: hardly any write is ever blocked, and closing frees none. */
const seldomBlocked: Readonly<Record<string, readonly PromiseName[]>> = { 'signal before the layout': ['P6'] };
const vacuousInCell: Readonly<Partial<Record<RowName, Readonly<Record<string, readonly PromiseName[]>>>>> = { 'doorbell, none': seldomBlocked, 'bitmap, none': seldomBlocked };

const notes: Readonly<Record<string, string>> = {
  'signal undeclared': 'The user looks at more than it must. In bitmap rows a count that is no multiple of the lowest declared bit is told on the channel vfio-rx:warning as it is decoded.',
  'take any ack': 'In rfc-v4 all holds by the idle rule, with a driver that signals only inside device_state. One that also signals on its own cannot be made safe by any user: then P5 falls to f.',
};

export function cellOf(rowName: RowName, what: string): Cell {
  const row: Row = rows[rowName];
  const fault = faults.find((one) => one.what === what);
  if (fault === undefined) throw new Error(`no misbehaviour is called ${what}`);
  const nonsense = fault.nonsense(row);
  return {
    row,
    fault,
    nonsense,
    falls: nonsense === undefined ? (byRow[rowName]?.[what] ?? everywhere[what] ?? []) : [],
    seldom: seldomFalls[rowName]?.[what] ?? [],
    vacuous: [...(vacuousIn[what] ?? []), ...(vacuousInRow[rowName] ?? []), ...(vacuousInCell[rowName]?.[what] ?? [])],
    note: notes[what],
  };
}

/** The promises that a row can keep or break at all. */
export function promisesOf(row: Row): readonly PromiseName[] {
  const names = Object.keys(promises) as PromiseName[];
  return names.filter((name) => name !== 'P8' || hasPages(row));
}
