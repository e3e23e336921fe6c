import { expect, it } from 'vitest';
import { asShown } from '../support/example-run.js';

it('examples/10-abort gives up in the middle, and the source runs, as its page shows', async () => {
  expect(await asShown('10-abort')).toMatchObject({ code: 0, errors: '' });
});
