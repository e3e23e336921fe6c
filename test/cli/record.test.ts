import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { lastValueFrom, NEVER, timer, type Observable } from 'rxjs';
import { afterAll, describe, expect, it } from 'vitest';
import { recordCommand, type RecordOptions } from '../../src/cli/record.js';
import { readTraceFile } from '../../src/testing/index.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-record-'));
afterAll(() => rmSync(folder, { recursive: true }));

const out = join(folder, 'run.jsonl');

async function said(options: Partial<RecordOptions> = {}, until: Observable<unknown> = NEVER): Promise<{ readonly code: number; readonly lines: readonly string[] }> {
  const written: string[] = [];
  const code = await lastValueFrom(recordCommand({ device: 'software', out, states: ['pre-copy', 'running'], ...options }, { write: (text) => written.push(text), json: false }, until));
  return { code, lines: written.join('').trimEnd().split('\n') };
}

describe('vfio-rx record', () => {
  it('tells what happens, and what it has kept', async () => {
    const { code, lines } = await said();
    expect(code).toBe(0);
    expect(lines[0]).toMatch(/^recording software\d+ to .*run\.jsonl$/);
    expect(lines[1]).toMatch(/^ *[\d.]+[mu]s {2}batch 0, registered, region 0 -0 \+1, region 1 -0 \+2$/);
    expect(lines.at(-2)).toMatch(/ pre-copy -> running$/);
    const { entries, incomplete } = readTraceFile(out);
    expect(incomplete).toBeUndefined();
    expect(lines.at(-1)).toBe(`${out}: ${entries.length + 1} lines. Look at it: vfio-rx render ${out}`);
  });

  it('ends in order when it is interrupted, or its time is over', async () => {
    expect((await said({ states: [] }, timer(5))).lines[0]).toMatch(/, until the interrupt \(Ctrl-C\)$/);
    expect(readTraceFile(out).incomplete).toBeUndefined();
    expect((await said({ states: [], forMs: 5 })).code).toBe(0);
    expect(readTraceFile(out).incomplete).toBeUndefined();
  });

  it('keeps what there was where the device fails', async () => {
    await expect(said({ device: `trace:${join(folder, 'none.jsonl')}` })).rejects.toMatchObject({ code: 'VFIO_E_ADDRESS' });
    await said();
    const [header = '', ...lines] = readFileSync(out, 'utf8').split('\n');
    writeFileSync(join(folder, 'other.jsonl'), [header, ...lines.slice(0, 20), '{"at":"x"}'].join('\n'));
    await expect(said({ device: `trace:${join(folder, 'other.jsonl')}` })).rejects.toMatchObject({ name: 'VfioError' });
    expect(readTraceFile(out).entries.length).toBeGreaterThan(19);
  });

  it('fails where the trace cannot be written, and before it begins where the test is there already', async () => {
    await expect(said({ out: join(folder, 'no', 'run.jsonl') })).rejects.toMatchObject({ code: 'VFIO_E_ADDRESS', operation: 'write trace' });
    await expect(said({ test: import.meta.filename })).rejects.toThrow(/name another one \[VFIO_E_ADDRESS\]$/);
  });

  it('is ended by Ctrl-C', async () => {
    const child = spawn(process.execPath, ['--import', 'tsx', 'src/cli/main.ts', 'record', 'software', '--out', out, '--json'], { cwd: resolve(import.meta.dirname, '../..'), stdio: ['ignore', 'pipe', 'inherit'] });
    const lines: string[] = [];
    const ended = new Promise((end) => child.once('close', end));
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      lines.push(...text.trimEnd().split('\n'));
      if (text.includes('batch 0')) child.kill('SIGINT');
    });
    expect(await ended).toBe(0);
    expect(JSON.parse(lines.at(-1) ?? '')).toEqual({ trace: out, lines: readTraceFile(out).entries.length + 1, dropped: 0 });
    expect(readTraceFile(out).incomplete).toBeUndefined();
  });
});
