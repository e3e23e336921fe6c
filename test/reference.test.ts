import { execFile } from 'node:child_process';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const root = resolve(import.meta.dirname, '..');

it('documents every type that a public signature names, and every link leads somewhere', async () => {
  const typedoc = join(root, 'node_modules', '.bin', 'typedoc');
  // Warnings are errors (typedoc.json), and what it printed stands in the rejection. Types are checked by the typecheck: that was most of the time.
  await expect(promisify(execFile)(typedoc, ['--emit', 'none', '--skipErrorChecking'], { cwd: root })).resolves.toMatchObject({ stderr: '' });
  // 5 s alone; a busy machine has taken 14 times as long as a quiet one.
}, 120_000);
