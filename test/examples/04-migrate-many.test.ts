import { expect, it } from 'vitest';
import { asShown } from '../support/example-run.js';

it('examples/04-migrate-many moves three devices together, and draws it, as its page shows', async () => {
  const { code, lines, errors } = await asShown('04-migrate-many');
  for (const name of ['vf0', 'vf1', 'vf2', 'to0', 'to1', 'to2']) expect(lines).toContain(name);
  expect(lines.join('\n')).toContain('[<pre-copy-p2p>');
  expect([code, errors]).toEqual([0, '']);
});
