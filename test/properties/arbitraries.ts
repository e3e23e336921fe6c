import fc from 'fast-check';
import type { State } from '../../src/devices/port.js';
import { rows, type Row } from './rows.js';
import { keepsItsDuties, type Act, type DeviceSketch, type Misbehaviour, type Offer, type RegionSketch, type Schedule, type Timed } from './schedule.js';

/** How often each act stands in a schedule, beside the others, in tenths at the finest; what is not named does not happen. */
export type Menu = Partial<Readonly<Record<Act['do'], number>>>;

export interface Ranges {
  readonly row: Row;
  readonly misbehaviour: fc.Arbitrary<Misbehaviour>;
  /** How many of the regions may stand on a second page. */
  readonly mostOnNextPage: number;
  /** Whether user and guests are quick: then no deadline decides. */
  readonly live: boolean;
  /** How often, in tenths, the user does not subscribe before it is told to. */
  readonly lateSubscribers: number;
  readonly mostSignalDelayUs: number;
  readonly menu: Menu;
  readonly ending: Schedule['ending'];
  /** The user's longest delay in one operator. */
  readonly latestUs: number;
  readonly ackTimeoutMs: readonly number[];
  /** Whether callers bring deadlines of their own; else the default. */
  readonly deadlinesMs?: readonly number[];
  /** The longest time until a guest lets go. */
  readonly slowestGuestUs: number;
  /** What may happen, once or twice, when all that has come to rest. */
  readonly afterRest?: Menu;
  /** What comes after all that is random. */
  readonly finale?: fc.Arbitrary<readonly Timed[]>;
}

/** Everything that happens while user and driver keep their duties, and what both must live with. */
export const ordinary: Menu = { transition: 12, revoke: 2, restore: 4, flicker: 2, touch: 2, hold: 2 };

/** A write that is likely to be blocked, and a close soon after it has begun. */
export const closedWhileBlocked: fc.Arbitrary<readonly Timed[]> = fc
  .record({ ignored: fc.constantFrom(true, true, false), beganUs: us(20_000), closedUs: fc.integer({ min: 0, max: 3_000 }) })
  .map(({ ignored, beganUs, closedUs }) => [
    { afterUs: beganUs, act: { do: 'subscribe' } },
    { afterUs: 0, act: { do: 'restore', region: 0 } },
    { afterUs: 0, act: { do: 'transition', to: 'running', deadlineMs: undefined } },
    { afterUs: 400_000, act: { do: 'ignore acks', on: ignored } },
    { afterUs: 0, act: { do: 'transition', to: 'stop-copy', deadlineMs: undefined } },
    { afterUs: closedUs, act: { do: 'close' } },
  ]);

/** The same with a driver that hears its acks, and offers nothing of its own accord. The write that takes the device out of the group is over by then. */
export const closedWhileServed: fc.Arbitrary<readonly Timed[]> = fc
  .record({ beganUs: us(20_000), closedUs: us(3_000) })
  .map(({ beganUs, closedUs }) => [
    { afterUs: beganUs, act: { do: 'subscribe' } },
    { afterUs: 0, act: { do: 'transition', to: 'running', deadlineMs: undefined } },
    { afterUs: 400_000, act: { do: 'transition', to: 'stop-copy', deadlineMs: undefined } },
    { afterUs: closedUs, act: { do: 'close' } },
  ]);

/** A write that begins while the ack for something else is still to come. */
export const withAnAckInFlight: fc.Arbitrary<readonly Timed[]> = fc
  .record({ region: fc.nat({ max: 2 }), what: fc.constantFrom('flicker' as const, 'restore' as const, 'revoke' as const), laterUs: fc.integer({ min: 0, max: 5_000 }) })
  .map(({ region, what, laterUs }) => [
    { afterUs: 20_000, act: { do: 'transition', to: 'running', deadlineMs: undefined } },
    { afterUs: 400_000, act: { do: 'flicker', region } },
    { afterUs: laterUs, act: { do: what, region } },
    { afterUs: laterUs, act: { do: 'transition', to: 'stop-copy', deadlineMs: undefined } },
  ]);

export const ordinaryRanges: Ranges = {
  row: rows['doorbell, value'],
  misbehaviour: fc.constant(keepsItsDuties),
  mostOnNextPage: 0,
  live: false,
  lateSubscribers: 0,
  mostSignalDelayUs: 800,
  menu: ordinary,
  ending: 'nothing',
  latestUs: 5_000,
  ackTimeoutMs: [2, 10, 50, 500],
  slowestGuestUs: 30_000,
};

/** Often nothing, often a little, sometimes much. */
function us(most: number): fc.Arbitrary<number> {
  if (most === 0) return fc.constant(0);
  return fc.oneof(
    { weight: 4, arbitrary: fc.constant(0) },
    { weight: 3, arbitrary: fc.integer({ min: 1, max: Math.min(100, most) }) },
    { weight: 2, arbitrary: fc.integer({ min: 0, max: most }) },
  );
}

const offer = fc.constantFrom<Offer>('all', 'sparse', 'nothing');

const region: fc.Arbitrary<RegionSketch> = fc.record({
  pages: fc.integer({ min: 1, max: 3 }),
  outside: offer,
  saving: fc.constantFrom<Offer>('nothing', 'sparse', 'all'),
  declared: fc.boolean(),
});

/** The first region has something to revoke: a device without that asks for nothing. */
const firstRegion: fc.Arbitrary<RegionSketch> = fc.record({
  pages: fc.integer({ min: 1, max: 3 }),
  outside: fc.constantFrom<Offer>('all', 'sparse'),
  saving: fc.constantFrom<Offer>('nothing', 'sparse'),
  declared: fc.constant(true),
});

function device({ row, mostOnNextPage, ackTimeoutMs, mostSignalDelayUs }: Ranges): fc.Arbitrary<DeviceSketch> {
  return fc.record({
    row: fc.constant(row),
    regions: fc.tuple(firstRegion, fc.array(region, { maxLength: 2 })).map(([first, more]) => [first, ...more]),
    firstIndex: mostOnNextPage === 0 && row === ordinaryRanges.row ? fc.constant(0) : fc.constantFrom(0, 0, 2),
    onNextPage: fc.constantFrom(0, 0, 0, mostOnNextPage),
    migration: fc.constantFrom(7, 7, 5, 3, 1),
    ackTimeoutMs: fc.constantFrom(...ackTimeoutMs),
    maxWaits: fc.integer({ min: 1, max: 3 }),
    signalDelayUs: us(mostSignalDelayUs),
    arcLatencyUs: us(2_000),
  }).map((sketch) => ({ ...sketch, onNextPage: Math.min(sketch.onNextPage, sketch.regions.length - 1) }));
}

const state = fc.constantFrom<Exclude<State, 'error'>>('pre-copy', 'running', 'stop-copy', 'pre-copy-p2p', 'stop', 'running-p2p', 'resuming');
/** Mostly where something is revoked on the way. */
const target = fc.oneof({ weight: 3, arbitrary: fc.constant('over' as const) }, { weight: 1, arbitrary: state });

function actsOf(ranges: Ranges): Readonly<Record<Act['do'], fc.Arbitrary<Act>>> {
  const which = fc.nat({ max: 2 });
  const times = fc.integer({ min: 1, max: 4 });
  const deadlineMs = ranges.deadlinesMs === undefined ? fc.constant(undefined) : fc.constantFrom(undefined, ...ranges.deadlinesMs);
  const plain = (what: 'detach' | 'subscribe' | 'unsubscribe' | 'reset' | 'remove' | 'close'): fc.Arbitrary<Act> => fc.constant({ do: what });
  const onRegion = (what: 'revoke' | 'restore' | 'flicker' | 'touch'): fc.Arbitrary<Act> => which.map((index) => ({ do: what, region: index }));
  return {
    transition: fc.record({ do: fc.constant('transition' as const), to: target, deadlineMs }),
    hold: fc.record({ do: fc.constant('hold' as const), region: which, letsGoAfterUs: us(ranges.slowestGuestUs) }),
    'fail query': fc.record({ do: fc.constant('fail query' as const), region: which, times }),
    'fail map': fc.record({ do: fc.constant('fail map' as const), region: which, times }),
    'fail arc': fc.record({ do: fc.constant('fail arc' as const), to: state }),
    'ignore acks': fc.record({ do: fc.constant('ignore acks' as const), on: fc.boolean() }),
    revoke: onRegion('revoke'),
    restore: onRegion('restore'),
    flicker: onRegion('flicker'),
    touch: onRegion('touch'),
    detach: plain('detach'),
    subscribe: plain('subscribe'),
    unsubscribe: plain('unsubscribe'),
    reset: plain('reset'),
    remove: plain('remove'),
    close: plain('close'),
  };
}

export function schedules(changes: Partial<Ranges> = {}): fc.Arbitrary<Schedule> {
  const ranges = { ...ordinaryRanges, ...changes };
  const acts = actsOf(ranges);
  const weighted = (menu: Menu) => (Object.entries(menu) as [Act['do'], number][]).map(([what, weight]) => ({ weight: Math.round(10 * weight), arbitrary: acts[what] }));
  const pause = fc.oneof({ weight: 1, arbitrary: us(20_000) }, { weight: 2, arbitrary: fc.integer({ min: 0, max: 20_000 }) });
  const timed: fc.Arbitrary<Timed> = fc.record({ afterUs: pause, act: fc.oneof(...weighted(ranges.menu)) });
  const late = fc.array(us(ranges.latestUs), { maxLength: 3 });
  return fc.record({
    device: device(ranges),
    misbehaviour: ranges.misbehaviour,
    live: fc.constant(ranges.live),
    subscribesAtOnce: fc.nat({ max: 9 }).map((n) => n >= ranges.lateSubscribers),
    lateUs: fc.oneof({ weight: 1, arbitrary: fc.constant([]) }, { weight: 3, arbitrary: fc.array(late, { minLength: 5, maxLength: 5 }) }),
    acts: fc.tuple(fc.array(timed, { minLength: 1, maxLength: 10, size: 'max' }), ranges.finale ?? fc.constant([])).map(([acts, finale]) => [...acts, ...finale]),
    afterRest: ranges.afterRest === undefined ? fc.constant([]) : fc.array(fc.record({ afterUs: fc.integer({ min: 0, max: 5_000 }), act: fc.oneof(...weighted(ranges.afterRest)) }), { maxLength: 5 }),
    ending: fc.constant(ranges.ending),
  });
}
