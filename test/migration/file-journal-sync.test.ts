import { constants, fstatSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type * as Fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lastValueFrom } from 'rxjs';
import { afterAll, expect, it, vi } from 'vitest';
import { fileJournal } from '../../src/migration/file-journal.js';

/** What the journal asks of the system that outlives a machine without power. */
const calls = vi.hoisted((): string[] => []);

vi.mock('node:fs', async (original) => {
  const fs = await original<typeof Fs>();
  type Done = (error: Error | null) => void;
  const synced = (sync: (fd: number, done: Done) => void) => (fd: number, done: Done): void => sync(fd, (error) => {
    calls.push(fstatSync(fd).isDirectory() ? 'folder synced' : 'file synced');
    done(error);
  });
  const write = (fd: number, bytes: Uint8Array, offset: number, length: number, position: number, done: Done): void => {
    calls.push(isSynced(fd) ? 'written and synced' : 'written');
    fs.write(fd, bytes, offset, length, position, done);
  };
  return { ...fs, default: fs, write, fsync: synced(fs.fsync), fdatasync: synced(fs.fdatasync) };
});

/** Whether each write returns when its bytes are on the disk. */
function isSynced(fd: number): boolean {
  const [, flags = '0'] = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')) ?? [];
  return (Number.parseInt(flags, 8) & constants.O_DSYNC) === constants.O_DSYNC;
}

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-sync-'));
afterAll(() => rmSync(folder, { recursive: true }));

it('an entry is on the disk before it is said to be there, and so is the name of a new file', async () => {
  const journal = fileJournal(join(folder, 'journal'));
  const write = async (record: 'begun' | 'decided'): Promise<readonly string[]> => {
    await lastValueFrom(journal.write({ migration: 'm', devices: ['vf0'], side: 'source', record }), { defaultValue: undefined });
    return calls.splice(0);
  };
  expect(await write('begun')).toEqual(['written', 'file synced', 'folder synced']);
  expect(await write('decided')).toEqual(['written and synced']);
});
