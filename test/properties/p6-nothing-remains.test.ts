import { describe, it } from 'vitest';
import { closedWhileBlocked, ordinary, schedules } from './arbitraries.js';
import { closeMutants } from './mutants.js';
import { expectBrokenBy, expectKept, patienceMs, type Promised } from './promise.js';

/** What the rounding of ms to ns may add. */
const roundingNs = 1_000n;

/**
 * P6. After close or error at any point, and in every order of close against a blocked write: no fd, mapping or irq
 * registration remains; within the bound of the disable, not of the ack timeout.
 *
 * The bound: a blocked write is free when `close()` returns; then closing takes what slow guests and arcs under way take,
 * and the driver's timeout is longer than both. A pipeline that ends, by an error too, leaves no irq behind it at once.
 */
const nothingRemains: Promised = {
  name: 'P6',
  schedules: schedules({
    menu: {
      ...ordinary, transition: 14, detach: 1, 'ignore acks': 2, 'fail query': 2, 'fail map': 1, 'fail arc': 1, unsubscribe: 2, subscribe: 2, reset: 1, remove: 0.3, close: 1,
    },
    latestUs: 200_000,
    ackTimeoutMs: [300, 1_000],
    finale: closedWhileBlocked,
    ending: 'close',
  }),
  judge: (history) => {
    const complaints: string[] = [];
    let tested = 0;
    let closing: { readonly atNs: bigint; readonly boundMs: number } | undefined;
    let released = false;
    for (const entry of history) {
      if (entry.what === 'pipeline ended') {
        if (entry.irqs > 0) complaints.push(`the pipeline ended (${entry.code}) at ${entry.atNs} ns, and its irq is still registered`);
        if (entry.waiters > 0) complaints.push(`the pipeline ended (${entry.code}) at ${entry.atNs} ns, and a write still waits for its ack`);
      } else if (entry.what === 'closing') {
        closing = entry;
        // Each run closes; what puts the promise to the test is a write that is blocked meanwhile.
        tested += entry.blocked;
        if (entry.stillBlocked > 0) complaints.push(`closed at ${entry.atNs} ns, and a write is still blocked`);
      } else if (entry.what === 'released' && closing !== undefined) {
        released = true;
        const tookNs = entry.atNs - closing.atNs;
        if (tookNs > BigInt(Math.round(closing.boundMs * 1e6)) + roundingNs) complaints.push(`closing took ${tookNs} ns, more than ${closing.boundMs} ms`);
      } else if (entry.what === 'at rest') {
        if (!released) complaints.push('closed, and never released');
        for (const [what, count] of Object.entries(entry.held)) {
          if (count !== 0) complaints.push(`at rest after closing, ${what} is ${count}`);
        }
      }
    }
    return { complaints, tested };
  },
};

describe('P6: after close nothing remains', () => {
  it('holds under random schedules', () => { expectKept(nothingRemains); }, patienceMs);

  for (const mutant of closeMutants) {
    it(`falls: ${mutant.what}`, () => { expectBrokenBy(nothingRemains, mutant); }, patienceMs);
  }
});
