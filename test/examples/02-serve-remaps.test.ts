import { expect, it } from 'vitest';
import { asShown } from '../support/example-run.js';

it('examples/02-serve-remaps says what was taken away, given back and acked, as its page shows', async () => {
  expect(await asShown('02-serve-remaps')).toMatchObject({ code: 0, errors: '' });
});
