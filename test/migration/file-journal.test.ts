import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lastValueFrom } from 'rxjs';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { fileJournal } from '../../src/migration/file-journal.js';
import type { Journal, JournalEntry } from '../../src/migration/journal.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-journal-'));
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
const fresh = () => join(folder, `${(files += 1)}.journal`);
const entry = (record: 'begun' | 'decided' | 'moved'): JournalEntry => ({ migration: 'm', devices: ['vf0'], side: 'source', record });
const write = (path: string, one: JournalEntry) => lastValueFrom(fileJournal(path).write(one), { defaultValue: undefined });
const read = (path: string) => lastValueFrom(fileJournal(path).read());

describe('a journal in a file', () => {
  it('says the last entry, to whoever opens it', async () => {
    const path = fresh();
    expect(await read(path)).toBeUndefined();
    for (const record of ['begun', 'decided', 'moved'] as const) {
      await write(path, entry(record));
      expect(await read(path)).toMatchObject(entry(record));
    }
  });

  it('has its full size from the first entry on', async () => {
    const path = fresh();
    await write(path, entry('begun'));
    const { size } = statSync(path);
    await write(path, entry('decided'));
    await write(path, entry('moved'));
    expect(statSync(path).size).toBe(size);
  });

  it('keeps the entry before one that was torn', async () => {
    const path = fresh();
    await write(path, entry('begun'));
    const before = readFileSync(path);
    await write(path, entry('decided'));
    const after = readFileSync(path);
    // Every place at which the write could have ended.
    const changed = [...after.keys()].filter((n) => after[n] !== before[n]);
    expect(changed.length).toBeGreaterThan(40);
    for (const end of changed.slice(0, -1)) {
      writeFileSync(path, Buffer.concat([after.subarray(0, end), before.subarray(end)]));
      expect(await read(path)).toMatchObject(entry('begun'));
    }
  });

  it('keeps each entry, however long those before it were', async () => {
    const path = fresh();
    for (const count of [1, 2000, 1, 1, 5000, 3000, 1, 1, 1]) {
      const long = { ...entry('begun'), devices: Array.from({ length: count }, (_, n) => `vf${n}`) };
      await write(path, long);
      expect(await read(path)).toEqual(expect.objectContaining(long));
      const after = readFileSync(path);
      expect([after.length, after.at(-1), after.at(after.length / 2 - 1)]).toEqual([128 * 1024, 10, 10]);
    }
  });

  it('takes nothing for granted between two entries: another may have written, or taken the file away', async () => {
    const path = fresh();
    const [mine, other] = [fileJournal(path), fileJournal(path)];
    const writes = (journal: Journal, one: JournalEntry) => lastValueFrom(journal.write(one), { defaultValue: undefined });
    // Twice: the file is there for the second.
    for (const record of ['begun', 'decided'] as const) await writes(mine, entry(record));
    await writes(other, { ...entry('begun'), migration: 'n' });
    await writes(other, { ...entry('decided'), migration: 'n' });
    await writes(mine, entry('decided'));
    expect(await read(path)).toMatchObject(entry('decided'));
    // Torn, it would have left the other's.
    const torn = readFileSync(path);
    torn.fill(0, torn.lastIndexOf('"migration":"m"'), torn.lastIndexOf('"migration":"m"') + 1);
    writeFileSync(path, torn);
    expect(await read(path)).toMatchObject({ migration: 'n', record: 'decided' });
    rmSync(path);
    await writes(mine, entry('moved'));
    expect(await read(path)).toMatchObject(entry('moved'));
  });

  it('closes what it opens, whatever comes of it', async () => {
    const path = fresh();
    // The folder that is listed has one, too, which is gone when it is looked at.
    const open = () => readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`) === path;
      } catch {
        return false;
      }
    });
    await write(path, entry('begun'));
    await write(path, entry('decided'));
    fileJournal(path).read().subscribe().unsubscribe();
    await read(path);
    truncateSync(path, 10);
    await expect(write(path, entry('moved'))).rejects.toMatchObject({ code: 'VFIO_E_JOURNAL' });
    await vi.waitFor(() => expect(open()).toEqual([]));
  });

  it('that holds nothing whole, or something else, is a typed error', async () => {
    const path = fresh();
    writeFileSync(path, 'not a journal');
    await expect(read(path)).rejects.toMatchObject({ code: 'VFIO_E_JOURNAL', device: path });
    await expect(write(path, entry('begun'))).rejects.toMatchObject({ code: 'VFIO_E_JOURNAL' });
    await expect(write(join(folder, 'no', 'folder'), entry('begun'))).rejects.toMatchObject({ code: 'VFIO_E_JOURNAL' });
    await expect(write('/dev/full', entry('begun'))).rejects.toMatchObject({ code: 'VFIO_E_JOURNAL' });
    const cutOff = fresh();
    await write(cutOff, entry('begun'));
    truncateSync(cutOff, 10);
    await expect(read(cutOff)).rejects.toMatchObject({ code: 'VFIO_E_JOURNAL' });
  });

  it('refuses an entry that has no room', async () => {
    await expect(write(fresh(), { ...entry('begun'), devices: ['x'.repeat(100_000)] })).rejects.toMatchObject({ code: 'VFIO_E_JOURNAL' });
  });
});
