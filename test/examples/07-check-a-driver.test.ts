import { expect, it } from 'vitest';
import { asShown } from '../support/example-run.js';

it('examples/07-check-a-driver finds nothing wrong with a sound driver', async () => {
  expect(await asShown('07-check-a-driver')).toMatchObject({ code: 0, errors: '' });
});

it('examples/07-check-a-driver says which rule a spoilt one breaks, as its page shows', async () => {
  expect(await asShown('07-check-a-driver', '--spoilt')).toMatchObject({ code: 1, errors: '' });
});
