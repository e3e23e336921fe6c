import { defer, NEVER, Subject, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { VfioError } from '../../src/errors.js';
import { memoryJournal, type Journal, type JournalEntry } from '../../src/migration/journal.js';
import type { InDoubt, MigrationEvent } from '../../src/migration/plan.js';
import { virtualClock } from '../support/virtual-clock.js';
import { pair } from './pair.js';

/** Where nobody comes. */
const nowhere = { name: 'nowhere', open: () => NEVER };

/** A disk that does not answer one kind of entry before it is told. */
function hanging(record: JournalEntry['record'], answers: Observable<never>): Journal & { readonly entries: readonly JournalEntry[] } {
  const journal = memoryJournal();
  return { ...journal, write: (entry) => defer(() => (entry.record === record ? answers : journal.write(entry))) };
}

function played(side: 'source' | 'destination', record: JournalEntry['record'], answers: Observable<never> = NEVER) {
  const clock = virtualClock();
  const p = pair(clock, 2, () => { clock.flush(); }, {}, { latencyMs: 1 });
  const last: Partial<Record<'source' | 'destination', MigrationEvent | VfioError>> = {};
  const hear = (of: 'source' | 'destination') => ({ next: (event: MigrationEvent) => (last[of] = event), error: (error: unknown) => (last[of] = error as VfioError) });
  const journal = hanging(record, answers);
  p.receive(side === 'destination' ? { journal } : {}).subscribe(hear('destination'));
  p.migrate(side === 'source' ? { journal } : {}).subscribe(hear('source'));
  clock.flush();
  const word = (of: 'source' | 'destination'): string | undefined => {
    const one = last[of];
    return VfioError.is(one) ? one.code : one?.phase;
  };
  return { clock, p, last, words: [word('source'), word('destination')], runs: () => [p.source, p.destination].map((some) => some.some(({ driver }) => driver.state === 'running')) };
}

describe('a disk that does not answer', () => {
  it.each([
    ['source', 'begun', ['VFIO_E_DEADLINE', undefined], [true, true]],
    // What stands there is not known: nobody runs, and that is said.
    ['source', 'decided', ['in-doubt', 'in-doubt'], [false, false]],
    ['source', 'moved', ['moved', 'moved'], [false, true]],
    ['destination', 'begun', ['VFIO_E_DEADLINE', 'VFIO_E_DEADLINE'], [true, true]],
    ['destination', 'prepared', ['VFIO_E_PEER', 'VFIO_E_JOURNAL'], [true, false]],
    ['destination', 'running', ['in-doubt', 'in-doubt'], [false, false]],
  ] as const)("the %s's, of the entry %s: it ends all the same", (side, record, words, runs) => {
    const seen = played(side, record);
    expect(seen.words).toEqual(words);
    expect(seen.runs()).toEqual(runs);
  });

  it('and answers at last: it goes on from there', () => {
    const answers = new Subject<never>();
    const { clock, last, runs } = played('source', 'decided', answers);
    const said: string[] = [];
    (last.source as InDoubt).resolve(nowhere).subscribe({ next: (one) => said.push(one), error: (error: unknown) => said.push(String(error)) });
    answers.complete();
    clock.flush();
    expect([said, runs()]).toEqual([['not-moved'], [true, false]]);
  });
});
