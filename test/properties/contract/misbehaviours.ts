import type { TargetState } from '../../../src/devices/protocol/migration-states.js';
import { ackKind, addsBits, hasIrq, type Row } from '../rows.js';
import { keepsItsDuties, type Misbehaviour } from '../schedule.js';

/** A way in which drivers misbehave, and in which rows that can be. */
export interface Fault {
  readonly what: string;
  /** One of them is taken for a run. */
  readonly begins: readonly Misbehaviour['begin'][];
  /** The switch, in the software driver and in the kernel's. */
  readonly switches: string;
  /** Why it makes no sense in the row; undefined where it does. */
  readonly nonsense: (row: Row) => string | undefined;
}

const nobodyAcks = 'nobody acks';
const nothingToSignal = 'nothing is signalled';
const namesNoRegion = 'a doorbell names no region';

const signals = (row: Row): string | undefined => (hasIrq(row) ? undefined : nothingToSignal);
const acks = (row: Row): string | undefined => signals(row) ?? (ackKind(row) === 'none' ? nobodyAcks : undefined);
const bits = (row: Row): string | undefined => signals(row) ?? (addsBits(row) ? undefined : namesNoRegion);

/** In some of the runs long enough that the caller's deadline passes, ms. */
const stalls = [300, 7_000];
const failing: readonly TargetState[] = ['stop-copy', 'pre-copy', 'running', 'stop'];

/** Section 7 of the protocol: every misbehaviour that the drivers of this project have a switch for. */
export const faults: readonly Fault[] = [
  { what: keepsItsDuties.what, begins: [keepsItsDuties.begin], switches: '', nonsense: () => undefined },
  { what: 'never answer an ack', switches: 'ignoreAcks, ignore_acks', begins: [(driver) => { driver.ignoreAcks = true; }], nonsense: acks },
  { what: 'signal twice', switches: 'signalTwice, signal_twice', begins: [(driver) => { driver.signalTwice = true; }], nonsense: signals },
  { what: 'add one', switches: 'addOne, add_one', begins: [(driver) => { driver.addOne = true; }], nonsense: bits },
  { what: 'signal undeclared', switches: 'signalUndeclared, signal_undeclared', begins: [(driver) => { driver.signalUndeclared = true; }], nonsense: bits },
  { what: 'signal before the layout', switches: 'signalBeforeLayout, signal_before_layout', begins: [(driver) => { driver.signalBeforeLayout = true; }], nonsense: signals },
  { what: 'take any ack', switches: 'takeAnyAck, take_any_ack', begins: [(driver) => { driver.takeAnyAck = true; }], nonsense: acks },
  { what: 'drain always', switches: "drain = 'always'", begins: [(driver) => { driver.drain = 'always'; }], nonsense: signals },
  { what: 'drain sometimes', switches: "drain = 'sometimes'", begins: [(driver) => { driver.drain = 'sometimes'; }], nonsense: acks },
  { what: 'drain at the ack', switches: "drain = 'at-ack'", begins: [(driver) => { driver.drain = 'at-ack'; }], nonsense: acks },
  { what: 'roll back silently', switches: 'silentRollBack, silent_roll_back', begins: [(driver) => { driver.silentRollBack = true; }], nonsense: signals },
  { what: 'ignore a disable', switches: 'ignoreDisable, ignore_disable', begins: [(driver) => { driver.ignoreDisable = true; }], nonsense: signals },
  { what: 'stall', switches: 'stallMs, stall_ms', begins: stalls.map((ms) => (driver) => { driver.stallMs = ms; }), nonsense: () => undefined },
  { what: 'fail at an arc', switches: 'failArc(), fail_arc', begins: failing.map((state) => (driver) => { driver.failArc(state, 'EIO', Infinity); }), nonsense: () => undefined },
];
