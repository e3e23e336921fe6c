import { of, Subject, type Observable } from 'rxjs';
import { expect, it } from 'vitest';
import { directCall, type Asker } from '../../src/devices/call.js';
import { pull } from '../../src/migration/pull.js';

/** What a taker is told of these answers, one after the other. */
function told(answers: readonly Observable<string | undefined>[], took: (value: string) => void = () => undefined) {
  const said: string[] = [];
  let calls = 0;
  const stop = pull(() => answers[calls++] ?? new Subject<string>(), {
    took: (value) => {
      said.push(value);
      took(value);
    },
    ended: () => said.push('ended'),
    failed: (error) => said.push(`failed: ${(error as Error).message}`),
  });
  return { said, stop, calls: () => calls };
}

it('calls again until there is no more, as a loop', () => {
  const { said, calls } = told([...Array.from({ length: 20_000 }, () => of('a')), of(undefined), of('b')]);
  expect([said.length, said.at(-1), calls()]).toEqual([20_001, 'ended', 20_001]);
});

it('takes for a failure what its taker throws, and calls no more', () => {
  const { said, calls } = told([of('a'), of('b'), of('c')], (value) => { if (value === 'b') throw new Error('not b'); });
  expect([said, calls()]).toEqual([['a', 'b', 'failed: not b'], 2]);
});

it('says nothing to who has left, whatever is answered then', () => {
  const ways: readonly ((asker: Asker<string | undefined>) => void)[] = [(asker) => asker.answered('late'), (asker) => asker.answered(undefined), (asker) => asker.failed(new Error('late'))];
  for (const answer of ways) {
    const late: Asker<string | undefined>[] = [];
    // One that goes on whoever has left, as a call of the kernel does.
    const { said, stop, calls } = told([of('a'), directCall<string | undefined>((asker) => { late.push(asker); return undefined; })]);
    stop();
    late.forEach(answer);
    expect([said, calls(), late.length]).toEqual([['a'], 2, 1]);
  }
});
