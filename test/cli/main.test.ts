import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { lastValueFrom } from 'rxjs';
import { expect, it } from 'vitest';
import { fileJournal } from '../../src/migration/file-journal.js';

/** What a shell does with the command's output. */

const root = resolve(import.meta.dirname, '../..');
const program = ['--import', 'tsx', 'src/cli/main.ts'];
/** Code, and what is said on standard error. */
function onFullDisk(...args: readonly string[]): Promise<readonly unknown[]> {
  const full = `exec "$0" ${program.join(' ')} "$@" > /dev/full`;
  return new Promise((end) => execFile('sh', ['-c', full, process.execPath, ...args], { cwd: root }, (error, _, stderr) => end([error?.code, stderr])));
}

const disk: unknown = expect.stringMatching(/^what is said cannot be written: ENOSPC[^\n]*\n$/);
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
  expect(await onFullDisk('render', trace, '--svg')).toEqual([1, disk]);
});

it('ends a migration with what became of it, even where the disk is full: 1 would say that nothing was moved', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-main-'));
  const journal = join(folder, 'journal');
  await lastValueFrom(fileJournal(journal).write({ migration: 'm', devices: ['d'], side: 'source', record: 'decided' }), { defaultValue: undefined });
  expect(await onFullDisk('resolve', '--at', 'tcp://127.0.0.1:0', '--journal', journal)).toEqual([3, disk]);
  rmSync(folder, { recursive: true });
});
