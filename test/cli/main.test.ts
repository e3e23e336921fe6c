import { execFile, spawn } from 'node:child_process';
import { join, resolve } from 'node:path';
import { expect, it } from 'vitest';

/** What a shell does with the command's output. */

const root = resolve(import.meta.dirname, '../..');
const program = ['--import', 'tsx', 'src/cli/main.ts'];
const trace = join(root, 'test/devices/replay/demanded-remap.jsonl');

it('is over in order when nobody reads any more, as behind `| head -1`', async () => {
  const child = spawn(process.execPath, [...program, 'watch', 'software:nic?every=5', '--json'], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
  child.stdout.once('data', () => child.stdout.destroy());
  const code = await new Promise((end) => child.once('close', end));
  expect([code, errors]).toEqual([0, '']);
});

it('says in a line that the disk is full, and ends with 1', async () => {
  const full = `exec "$0" ${program.join(' ')} render ${trace} --svg > /dev/full`;
  const [code, errors] = await new Promise<readonly unknown[]>((end) => execFile('sh', ['-c', full, process.execPath], { cwd: root }, (error, _, stderr) => end([error?.code, stderr])));
  expect([code, errors]).toEqual([1, expect.stringMatching(/^what is said cannot be written: ENOSPC[^\n]*\n$/) as unknown]);
});
