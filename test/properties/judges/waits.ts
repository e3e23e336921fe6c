import { field, isTrace, pageOf, type History } from '../history.js';
import { hasIrq } from '../rows.js';
import { both, nsPerMs, roundingNs, type Judge } from './verdict.js';

/** How a blocked write may return: acked, ETIMEDOUT, ECANCELED. */
const ends = new Set([0, -110, -125]);

/**
 * P2. Every caller of a transition has a result by its deadline; every blocked device_state write returns: acked,
 * ETIMEDOUT, or cancelled (ECANCELED).
 */
export const everyWaitEnds: Judge = (history, { device: { ackTimeoutMs } }) => {
  const complaints = [...unanswered(history)];
  let begun = 0;
  let returned = 0;
  /** By page. */
  const waitingSince = new Map<number, bigint>();
  let tested = 0;
  for (const entry of history) {
    if (entry.what === 'write begins') begun += 1;
    if (entry.what === 'transition answered' && entry.written) tested += 1;
    if (entry.what === 'write returns') returned += 1;
    if (isTrace(entry, 'wait')) {
      tested += 1;
      waitingSince.set(pageOf(entry), entry.atNs);
    }
    if (isTrace(entry, 'release')) {
      const since = waitingSince.get(pageOf(entry)) ?? entry.atNs;
      if (!ends.has(field(entry, 'ret'))) complaints.push(`a wait ended with ${field(entry, 'ret')}`);
      if (entry.atNs - since > BigInt(ackTimeoutMs) * nsPerMs + roundingNs) complaints.push(`a wait of ${entry.atNs - since} ns, longer than ${ackTimeoutMs} ms`);
      waitingSince.delete(pageOf(entry));
    }
  }
  for (const since of waitingSince.values()) complaints.push(`a wait that began at ${since} ns never ended`);
  if (begun !== returned) complaints.push(`of ${begun} writes of device_state only ${returned} returned`);
  return { complaints, tested };
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

/** P2, its last sentence: with a driver that follows the protocol and a live user the deadline never decides. */
export const noDeadlineDecides: Judge = (history, { live }) => {
  const complaints: string[] = [];
  let tested = 0;
  if (!live) return { complaints, tested };
  for (const entry of history) {
    if (entry.what === 'closing') break;
    if (isTrace(entry, 'wait')) tested += 1;
    if (isTrace(entry, 'release') && field(entry, 'ret') !== 0) complaints.push(`a deadline decided: a wait ended with ${field(entry, 'ret')} at ${entry.atNs} ns`);
    if (entry.what === 'transition answered' && /TIMEOUT|DEADLINE|CANCELED/.test(entry.code)) complaints.push(`a deadline decided: transition ${entry.id} failed with ${entry.code}`);
    if (entry.what === 'pipeline ended' && entry.code !== 'complete' && entry.code !== 'unsubscribed') complaints.push(`the pipeline ended: ${entry.code}`);
  }
  return { complaints, tested };
};

const ETIMEDOUT = -110;

/**
 * What is left of P2 where a driver waits in vain, or keeps a write: every caller still has its result by its deadline, and it
 * says what has happened. A wait that timed out is VFIO_E_ACK_TIMEOUT; a result while the write is outstanding VFIO_E_DEADLINE.
 */
export const waitsInVainAreTold = both(everyWaitEnds, (history) => {
  const complaints: string[] = [];
  let tested = 0;
  let writer: number | undefined;
  let ret: number | undefined;
  for (const entry of history) {
    // Who closes, or pulls the device out, is told that.
    if (entry.what === 'closing' || entry.what === 'removed') break;
    if (entry.what === 'write begins') {
      writer = entry.id;
      ret = undefined;
    } else if (isTrace(entry, 'state')) {
      ret = field(entry, 'ret');
    } else if (entry.what === 'transition answered' && entry.id === writer) {
      const fitting = ret === undefined ? ['VFIO_E_DEADLINE'] : ret === ETIMEDOUT ? ['VFIO_E_ACK_TIMEOUT', 'VFIO_E_DEADLINE'] : undefined;
      if (fitting === undefined) continue;
      tested += 1;
      if (!fitting.includes(entry.code)) complaints.push(`transition ${entry.id}, whose write ${ret === undefined ? 'is outstanding' : 'has timed out'}, failed with ${entry.code}`);
    }
  }
  return { complaints, tested };
});

/** P2, all of it. */
export const waitsEndByThemselves = both(everyWaitEnds, noDeadlineDecides);

/** Whether closing and the end of a pipeline are as quick as the disable, or as what the driver keeps them waiting for. */
function nothingRemainsWithin(bound: 'disable' | 'timeout'): Judge {
  return (history, { device: { row } }) => {
    const complaints: string[] = [];
    // Nothing blocks a write where nothing is signalled.
    let tested = hasIrq(row) ? 0 : 1;
    let closing: { readonly atNs: bigint; readonly boundMs: number; readonly timeoutMs: number } | undefined;
    let released = false;
    for (const entry of history) {
      if (entry.what === 'pipeline ended' && bound === 'disable') {
        if (entry.irqs > 0) complaints.push(`the pipeline ended (${entry.code}) at ${entry.atNs} ns, and its irq is still registered`);
        if (entry.waiters > 0) complaints.push(`the pipeline ended (${entry.code}) at ${entry.atNs} ns, and a write still waits for its ack`);
      } else if (entry.what === 'closing') {
        closing = entry;
        // Each run closes; what puts the promise to the test is a write that is blocked meanwhile.
        tested += entry.blocked;
        if (entry.stillBlocked > 0 && bound === 'disable') complaints.push(`closed at ${entry.atNs} ns, and a write is still blocked`);
      } else if (entry.what === 'released' && closing !== undefined) {
        released = true;
        const tookNs = entry.atNs - closing.atNs;
        const boundMs = closing.boundMs + (bound === 'timeout' ? closing.timeoutMs : 0);
        if (tookNs > BigInt(Math.round(boundMs * 1e6)) + roundingNs) complaints.push(`closing took ${tookNs} ns, more than ${boundMs} ms`);
      } else if (entry.what === 'at rest') {
        if (!released) complaints.push('closed, and never released');
        for (const [what, count] of Object.entries(entry.held)) {
          if (count !== 0) complaints.push(`at rest after closing, ${what} is ${count}`);
        }
      }
    }
    return { complaints, tested };
  };
}

/**
 * P6. After close or error at any point, and in every order of close against a blocked write: no fd, mapping or irq
 * registration remains; within the bound of the disable, not of the ack timeout.
 *
 * The bound: a blocked write is free when `close()` returns; then closing takes what slow guests and arcs under way take,
 * and the driver's timeout is longer than both. A pipeline that ends, by an error too, leaves no irq behind it at once.
 */
export const nothingRemains = nothingRemainsWithin('disable');

/** What is left of P6 where a driver keeps a write for longer: the same, once the driver's own bound has passed. */
export const nothingRemainsInTheEnd = nothingRemainsWithin('timeout');
