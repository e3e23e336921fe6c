import { describe, it } from 'vitest';
import { ordinary, schedules } from './arbitraries.js';
import { field, isTrace } from './history.js';
import { ackMutants } from './mutants.js';
import { expectBrokenBy, expectKept, patienceMs, type Promised } from './promise.js';

/**
 * P4. Acks never exceed batches that read a signal or found a change, so acks are finite; with the `value` ack, acked
 * never exceeds read.
 *
 * Reads are counted where the user reads the eventfd, acks where they arrive at the driver. (That acks are finite shows in
 * that every run comes to rest.)
 */
const acksAreEarned: Promised = {
  name: 'P4',
  schedules: schedules({
    menu: { ...ordinary, flicker: 6, detach: 1, 'fail query': 1, 'fail map': 1, 'fail arc': 1, 'ignore acks': 1, unsubscribe: 1, subscribe: 2, reset: 1 },
  }),
  judge: (history) => {
    const complaints: string[] = [];
    let tested = 0;
    const read = { times: 0, sum: 0n };
    const acked = { times: 0, sum: 0n };
    for (const entry of history) {
      if (isTrace(entry, 'register')) {
        Object.assign(read, { times: 0, sum: 0n });
        Object.assign(acked, { times: 0, sum: 0n });
      } else if (entry.what === 'irq read') {
        read.times += 1;
        read.sum += entry.count;
      } else if (isTrace(entry, 'ack')) {
        tested += 1;
        acked.times += 1;
        acked.sum += BigInt(field(entry, 'value'));
        if (acked.times > read.times) complaints.push(`ack ${acked.times} at ${entry.atNs} ns, after ${read.times} reads`);
        if (acked.sum > read.sum) complaints.push(`acked ${acked.sum} of ${read.sum} that were read, at ${entry.atNs} ns`);
      } else if (entry.what === 'at rest') {
        complaints.push(...entry.violations.filter(({ kind }) => kind === 'ack-not-sent').map(({ value }) => `the driver never sent ${value}`));
      }
    }
    return { complaints, tested };
  },
};

describe('P4: acks never exceed what was read', () => {
  it('holds under random schedules', () => { expectKept(acksAreEarned); }, patienceMs);

  for (const mutant of ackMutants) {
    it(`falls: ${mutant.what}`, () => { expectBrokenBy(acksAreEarned, mutant); }, patienceMs);
  }
});
