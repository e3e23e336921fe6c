import { mkdtempSync, rmSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { lastValueFrom, NEVER } from 'rxjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { recordCommand } from '../../src/cli/record.js';
import { replayCommand } from '../../src/cli/replay.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-replay-'));
const trace = join(folder, 'run.jsonl');
const did: string[] = [];
beforeAll(async () => {
  const note = (text: string): void => void did.push(...text.split('\n').flatMap((line) => (/ms|us|ns/.test(line) && line.startsWith(' ') ? [line.trim().replace(/^\S+ +/, '')] : [])));
  await lastValueFrom(recordCommand({ device: 'software', out: trace, states: ['pre-copy', 'stop-copy', 'running'] }, { write: note, json: false }, NEVER));
});
afterAll(() => rmSync(folder, { recursive: true }));

async function said(path: string, json = false): Promise<readonly string[]> {
  const written: string[] = [];
  expect(await lastValueFrom(replayCommand(path, { write: (text) => written.push(text), json }))).toBe(0);
  return written.join('').trimEnd().split('\n');
}

describe('vfio-rx replay', () => {
  it('tells again what happened', async () => {
    const lines = await said(trace);
    expect(did.length).toBeGreaterThan(5);
    expect(lines.slice(0, -1).map((line) => line.trim().replace(/^\S+ +/, ''))).toEqual(did);
    expect(lines.at(-1)).toMatch(/^followed to its end: \d+ entries$/);
    expect((await said(trace, true)).map((line) => JSON.parse(line) as object).at(-1)).toEqual({ followed: expect.any(Number) as unknown });
  });

  it('says how far it went in one that was cut off', async () => {
    const cut = join(folder, 'cut.jsonl');
    writeFileSync(cut, readFileSync(trace).subarray(0, 3000));
    expect((await said(cut)).at(-1)).toMatch(/^followed as far as it goes: .*line \d+: cut off within the line; the \d+ entries before it were read/);
  });

  it('names the first call that was not recorded: a run of another program', async () => {
    const other = resolve(import.meta.dirname, '../devices/replay/demanded-remap.jsonl');
    await expect(said(other)).rejects.toThrow(/line \d+: expected access \{"region":7,"offset":0,"readBytes":2\}; actual setState \{"to":"pre-copy"\}/);
  });

  it('fails where there is no such trace', async () => {
    await expect(said(join(folder, 'none'))).rejects.toMatchObject({ code: 'VFIO_E_ADDRESS' });
    await expect(said(import.meta.filename)).rejects.toMatchObject({ code: 'VFIO_E_TRACE' });
  });
});
