import { expect, it } from 'vitest';
import { asShown } from '../support/example-run.js';

it('examples/11-resolve ends the doubt, and the device runs at one side, as its page shows', async () => {
  expect(await asShown('11-resolve')).toMatchObject({ code: 0, errors: '' });
});
