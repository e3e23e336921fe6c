import { expect, it } from 'vitest';
import { asShown } from '../support/example-run.js';

it('examples/05-own-policy goes by its own verdicts, as its page shows', async () => {
  expect(await asShown('05-own-policy')).toMatchObject({ code: 0, errors: '' });
});
