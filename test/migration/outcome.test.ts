import { concatMap, EMPTY, NEVER, Observable } from 'rxjs';
import { expect, it } from 'vitest';
import { VfioError } from '../../src/errors.js';
import { Outcome } from '../../src/migration/outcome.js';
import type { MigrationEvent } from '../../src/migration/plan.js';

const at = { atNs: 0n, devices: [], because: new VfioError('VFIO_E_LINK', 'lost', { operation: 'migrate' }) };

/** What an attempt says that is made in the very turn in which the doubt is told. */
function tried(way: 'resolve' | 'giveUp') {
  const said: string[] = [];
  const doubts: (() => void)[] = [];
  const ends: (() => void)[] = [];
  new Observable<MigrationEvent>((subscriber) => {
    const outcome = new Outcome(subscriber);
    doubts.push(() => outcome.doubt(at, { ask: () => NEVER, giveUp: NEVER }));
    ends.push(() => outcome.notMoved(at.because));
  })
    .pipe(concatMap((event) => (event.phase === 'in-doubt' ? event[way]?.() ?? EMPTY : EMPTY)))
    .subscribe({ next: (one) => said.push(one), error: (error: unknown) => said.push(VfioError.is(error) ? error.code : String(error)) });
  const doubt = (): void => doubts.forEach((act) => act());
  doubt();
  return { said, doubt, end: () => ends.forEach((act) => act()) };
}

it.each(['resolve', 'giveUp'] as const)('%s in the turn in which the doubt is told is an attempt like any other', (way) => {
  const { said, end } = tried(way);
  expect(said).toEqual([]);
  end();
  expect(said).toEqual(['not-moved']);
});

it('an attempt that comes to nothing says so', () => {
  const { said, doubt } = tried('resolve');
  doubt();
  expect(said).toEqual(['VFIO_E_IN_DOUBT']);
});
