import { expect, it } from 'vitest';
import { asShown } from '../support/example-run.js';

it('examples/06-hot-unplug works until the kernel asks, and then gives the device back, as its page shows', async () => {
  expect(await asShown('06-hot-unplug')).toMatchObject({ code: 0, errors: '' });
});
