import { describe, it } from 'vitest';
import { ordinary, schedules } from './arbitraries.js';
import { field, isTrace } from './history.js';
import { requeryMutants } from './mutants.js';
import { expectBrokenBy, expectKept, patienceMs, type Promised } from './promise.js';
import { declaredRegions } from './schedule.js';

interface Signal {
  /** The driver's sum with this signal in it: the ack that covers it brings the acked sum here or beyond. */
  readonly sum: number;
  readonly notAsked: Set<number>;
}

/**
 * P3. For every signal there is a later re-query of its region before the ack that covers it, whatever the interleaving
 * of signal, read and coalescing.
 *
 * A doorbell is about every declared region. Signals and acks are the driver's; a query counts when the driver has
 * answered it: one that failed says nothing.
 */
const requeryBeforeAck: Promised = {
  name: 'P3',
  schedules: schedules({ menu: { ...ordinary, flicker: 6, 'fail query': 4, 'ignore acks': 1, unsubscribe: 1, subscribe: 2, reset: 1 } }),
  judge: (history, { device }) => {
    const complaints: string[] = [];
    let tested = 0;
    let signals: Signal[] = [];
    let sent = 0;
    let acked = 0;
    for (const entry of history) {
      if (isTrace(entry, 'register') || isTrace(entry, 'unregister')) {
        signals = [];
        sent = 0;
        acked = 0;
      } else if (isTrace(entry, 'signal')) {
        sent += field(entry, 'add');
        signals.push({ sum: sent, notAsked: new Set(declaredRegions(device)) });
      } else if (entry.what === 'query answered') {
        for (const { notAsked } of signals) notAsked.delete(entry.region);
      } else if (isTrace(entry, 'ack')) {
        acked += field(entry, 'value');
        const covered = signals.filter(({ sum }) => sum <= acked);
        signals = signals.filter(({ sum }) => sum > acked);
        for (const { sum, notAsked } of covered) {
          tested += 1;
          if (notAsked.size > 0) complaints.push(`signal ${sum} was acked at ${entry.atNs} ns, and region ${[...notAsked].join(', ')} not asked since`);
        }
      }
    }
    return { complaints, tested };
  },
};

describe('P3: no ack before the re-query', () => {
  it('holds under random schedules', () => { expectKept(requeryBeforeAck); }, patienceMs);

  for (const mutant of requeryMutants) {
    it(`falls: ${mutant.what}`, () => { expectBrokenBy(requeryBeforeAck, mutant); }, patienceMs);
  }
});
