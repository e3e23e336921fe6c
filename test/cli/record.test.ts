import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { lastValueFrom, NEVER, timer, type Observable } from 'rxjs';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { replayCommand } from '../../src/cli/replay.js';
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

  it('leaves a trace that is there as it is where the device does not open', async () => {
    const before = join(folder, 'before.jsonl');
    writeFileSync(before, 'a trace');
    await expect(said({ device: 'vfio-user:/no/such.sock', out: before })).rejects.toMatchObject({ name: 'VfioError' });
    expect(readFileSync(before, 'utf8')).toBe('a trace');
  });

  it('leaves it as it is where the device opens and then cannot say what it has', async () => {
    await said();
    const before = readFileSync(out, 'utf8');
    const [header = '', ...lines] = before.split('\n');
    const broken = join(folder, 'broken.jsonl');
    writeFileSync(broken, [header, ...lines.slice(0, 2), '{"at":"x"}'].join('\n'));
    await expect(said({ device: `trace:${broken}` })).rejects.toMatchObject({ name: 'VfioError' });
    expect(readFileSync(out, 'utf8')).toBe(before);
    // Where nothing stands there is nothing to lose: then it is kept as far as it came.
    const fresh = join(folder, 'fresh.jsonl');
    await expect(said({ device: `trace:${broken}`, out: fresh })).rejects.toMatchObject({ name: 'VfioError' });
    expect(readTraceFile(fresh).entries.length).toBeGreaterThan(1);
  });

  it('fails where the trace cannot be written, and before it begins where the test is there already', async () => {
    const screen = { write: vi.fn(), json: false };
    await expect(lastValueFrom(recordCommand({ device: 'software', out: join(folder, 'no', 'run.jsonl'), states: ['pre-copy'] }, screen, NEVER))).rejects.toThrow(/write trace: there is no such folder: make it, or name another one \(ENOENT\) \[VFIO_E_ADDRESS\]$/);
    expect(screen.write).not.toHaveBeenCalled();
    await expect(said({ test: import.meta.filename })).rejects.toThrow(/name another one \[VFIO_E_ADDRESS\]$/);
    await expect(said({ test: join(folder, 'no', 'a.test.ts') })).rejects.toThrow(/write test: there is no such folder/);
  });

  it('writes nothing over a recording that it goes by, nor the test over the trace', async () => {
    const kept = join(folder, 'kept.jsonl');
    await said({ out: kept });
    const before = readFileSync(kept);
    await expect(said({ device: `trace:${kept}`, out: join(folder, 'no', '..', 'kept.jsonl') })).rejects.toThrow(/write trace: it would be written over itself: name another file \[VFIO_E_ADDRESS\]$/);
    expect(readFileSync(kept)).toEqual(before);
    const both = join(folder, 'both');
    await expect(said({ out: both, test: both })).rejects.toThrow(/write test: it would be written over itself/);
    expect(existsSync(both)).toBe(false);
  });

  it('says at once that a name is none', () => {
    expect(() => recordCommand({ device: 'eth0', out, states: [] }, { write: vi.fn(), json: false }, NEVER)).toThrow(expect.objectContaining({ code: 'VFIO_E_ADDRESS' }) as Error);
  });

  it('keeps as many bytes of device state as it is told, and loads what it has saved', async () => {
    const { lines } = await said({ states: ['stop-copy', 'resuming', 'running'], dataBytes: 1 << 18 });
    expect(lines.join('\n')).toMatch(/running -> stop-copy\n.* 201\d\d\d bytes saved, then end\n[^]* stop-copy -> resuming\n.* 201\d\d\d bytes loaded\n/);
    const trace = readTraceFile(out);
    expect([trace.header.dataBytes, trace.incomplete]).toEqual([1 << 18, undefined]);
    const loaded = trace.entries.flatMap((entry) => (entry.kind === 'call' && entry.name === 'data.write' ? [entry.args.bytes] : []));
    expect(loaded.map(({ size, kept }) => size - kept.length)).toEqual(loaded.map(() => 0));
    expect(loaded.reduce((sum, { size }) => sum + size, 0)).toBeGreaterThan(200_000);
    for (const dataBytes of [undefined, 0]) {
      const { lines: recorded } = await said({ states: ['stop-copy', 'resuming', 'running'], dataBytes });
      const replayed: string[] = [];
      await lastValueFrom(replayCommand(out, { write: (text) => replayed.push(text), json: false }));
      const did = (text: string): string => text.trim().replace(/^\S+ +/, '');
      expect(replayed.slice(0, -1).map(did)).toEqual(recorded.slice(1, -1).map(did));
    }
  });

  it('is ended at once by a second Ctrl-C', async () => {
    const pipe = join(folder, 'nobody-reads');
    // Opening it for writing waits for a reader, for ever, and so does the trace.
    execFileSync('mkfifo', [pipe]);
    const child = spawn(process.execPath, ['--import', 'tsx', 'src/cli/main.ts', 'record', 'software', '--out', pipe], { cwd: resolve(import.meta.dirname, '../..'), stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = new Promise((end) => child.once('close', (code, signal) => end(signal ?? code)));
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (/batch 0|Ctrl-C again/.test(text)) child.kill('SIGINT');
    });
    expect(await ended).toBe('SIGINT');
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
    expect(lines).toContain('{"interrupted":true}');
    expect(JSON.parse(lines.at(-1) ?? '')).toEqual({ trace: out, lines: readTraceFile(out).entries.length + 1, dropped: 0 });
    expect(readTraceFile(out).incomplete).toBeUndefined();
  });
});
