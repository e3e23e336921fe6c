import { describe, it } from 'vitest';
import { ordinary, schedules } from './arbitraries.js';
import { field, isTrace, type History } from './history.js';
import { deadlineMutants, waitMutants } from './mutants.js';
import { expectBrokenBy, expectKept, patienceMs, type Promised } from './promise.js';

/** How a blocked write may return: acked, ETIMEDOUT, ECANCELED. */
const ends = new Set([0, -110, -125]);
/** What the rounding of ms to ns may add. */
const roundingNs = 1_000n;
const nsPerMs = 1_000_000n;

/**
 * P2. Every caller of a transition has a result by its deadline; every blocked device_state write returns: acked,
 * ETIMEDOUT, or cancelled (ECANCELED).
 *
 * Everything may go wrong here: acks are ignored, queries fail, operators keep batches past every deadline, the pipeline
 * goes and comes, the device is reset, removed, closed.
 */
const everyWaitEnds: Promised = {
  name: 'P2, every wait ends',
  schedules: schedules({
    menu: {
      ...ordinary, detach: 1, 'ignore acks': 2, 'fail query': 2, 'fail map': 1, 'fail arc': 1, unsubscribe: 2, subscribe: 2, reset: 1, remove: 0.3, close: 0.3,
    },
    latestUs: 100_000,
    deadlinesMs: [1, 5, 50],
  }),
  judge: (history, { device: { ackTimeoutMs } }) => {
    const complaints = [...unanswered(history)];
    let begun = 0;
    let returned = 0;
    let waitingSince: bigint | undefined;
    let tested = 0;
    for (const entry of history) {
      if (entry.what === 'write begins') begun += 1;
      if (entry.what === 'write returns') returned += 1;
      if (isTrace(entry, 'wait')) {
        tested += 1;
        waitingSince = entry.atNs;
      }
      if (isTrace(entry, 'release')) {
        if (!ends.has(field(entry, 'ret'))) complaints.push(`a wait ended with ${field(entry, 'ret')}`);
        if (waitingSince !== undefined && entry.atNs - waitingSince > BigInt(ackTimeoutMs) * nsPerMs + roundingNs) complaints.push(`a wait of ${entry.atNs - waitingSince} ns, longer than ${ackTimeoutMs} ms`);
        waitingSince = undefined;
      }
    }
    if (waitingSince !== undefined) complaints.push(`a wait that began at ${waitingSince} ns never ended`);
    if (begun !== returned) complaints.push(`of ${begun} writes of device_state only ${returned} returned`);
    return { complaints, tested };
  },
};

/** Callers who have no result by their deadline. Who detached has asked for none. */
function unanswered(history: History): readonly string[] {
  const complaints: string[] = [];
  const waiting = new Map<number, bigint>();
  for (const entry of history) {
    if (entry.what === 'transition asked') waiting.set(entry.id, entry.atNs + BigInt(entry.deadlineMs) * nsPerMs);
    if (entry.what === 'transition detached') waiting.delete(entry.id);
    if (entry.what !== 'transition answered') continue;
    const deadlineNs = waiting.get(entry.id) ?? 0n;
    if (entry.atNs > deadlineNs + roundingNs) complaints.push(`transition ${entry.id} was answered at ${entry.atNs} ns (${entry.code}), after its deadline at ${deadlineNs} ns`);
    waiting.delete(entry.id);
  }
  for (const id of waiting.keys()) complaints.push(`transition ${id} was never answered`);
  return complaints;
}

/**
 * P2, its last sentence: with a driver that follows the protocol and a live user the deadline never decides.
 *
 * The user is never later than an eighth of the driver's timeout with one step, nor its guests: a wait may fall behind
 * one batch in flight, and has its own after it.
 */
const noDeadlineDecides: Promised = {
  name: 'P2, no deadline decides',
  schedules: schedules({
    menu: { ...ordinary, 'fail map': 1, 'fail arc': 1 },
    latestUs: 20_000,
    ackTimeoutMs: [1_000],
    slowestGuestUs: 20_000,
  }),
  judge: (history) => {
    const complaints: string[] = [];
    let tested = 0;
    for (const entry of history) {
      if (isTrace(entry, 'wait')) tested += 1;
      if (isTrace(entry, 'release') && field(entry, 'ret') !== 0) complaints.push(`a deadline decided: a wait ended with ${field(entry, 'ret')} at ${entry.atNs} ns`);
      if (entry.what === 'transition answered' && /TIMEOUT|DEADLINE|CANCELED/.test(entry.code)) complaints.push(`a deadline decided: transition ${entry.id} failed with ${entry.code}`);
      if (entry.what === 'pipeline ended') complaints.push(`the pipeline ended: ${entry.code}`);
    }
    return { complaints, tested };
  },
};

describe('P2: every wait ends', () => {
  it('holds under random schedules', () => { expectKept(everyWaitEnds); }, patienceMs);

  for (const mutant of waitMutants) {
    it(`falls: ${mutant.what}`, () => { expectBrokenBy(everyWaitEnds, mutant); }, patienceMs);
  }
});

describe('P2: with a driver that keeps its duties and a live user the deadline never decides', () => {
  it('holds under random schedules', () => { expectKept(noDeadlineDecides); }, patienceMs);

  for (const mutant of deadlineMutants) {
    it(`falls: ${mutant.what}`, () => { expectBrokenBy(noDeadlineDecides, mutant); }, patienceMs);
  }
});
