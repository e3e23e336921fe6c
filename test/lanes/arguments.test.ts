import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const root = join(import.meta.dirname, '../..');

it.each([
  ['test/lanes/run.mjs', '--lan', "Unknown option '--lan' (more: npm test -- --help)\n"],
  ['test/lanes/run.mjs', '--lane=units', 'there is no lane "units"; there are: '],
  ['test/lanes/run.mjs', '--lane', "Option '-"],
  ['test/lanes/kernel/run.mjs', '--kernal', "Unknown option '--kernal' (more: npm run test:kernel -- --help)\n"],
  ['test/lanes/kernel/run.mjs', '--kernel=5', 'there is no kernel "5"; there are: '],
])('%s %s: one line, and 2', async (script, argument, says) => {
  const failed = await promisify(execFile)(process.execPath, [join(root, script), argument]).then(() => undefined, (error: unknown) => error as { readonly code: number; readonly stderr: string; readonly stdout: string });
  expect(failed).toMatchObject({ code: 2, stdout: '' });
  expect(failed?.stderr.startsWith(says)).toBe(true);
  expect(failed?.stderr.split('\n')).toHaveLength(2);
});
