import { mkdtempSync, readFileSync, rmSync, stat, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { firstValueFrom } from 'rxjs';
import { afterAll, describe, expect, it } from 'vitest';
import { traceFile } from '../../../src/devices/replay/trace-file.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-trace-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('traceFile', () => {
  it('writes the lines in their order and says how many', async () => {
    const path = join(folder, 'a.jsonl');
    const file = traceFile(path);
    const lines = Array.from({ length: 1000 }, (_, index) => `{"line":${index}}`);
    expect(lines.every((line) => file.write(line))).toBe(true);
    file.end();
    file.end();
    expect(file.write('late')).toBe(false);
    expect(await firstValueFrom(file.closed)).toEqual({ path, lines: 1000, dropped: 1 });
    expect(readFileSync(path, 'utf8')).toBe(lines.map((line) => `${line}\n`).join(''));
  });

  it('leaves what is there as it is, until there is something to write', async () => {
    const path = join(folder, 'kept.jsonl');
    writeFileSync(path, 'a trace');
    const file = traceFile(path);
    file.end();
    expect(await firstValueFrom(file.closed)).toEqual({ path, lines: 0, dropped: 0 });
    expect(readFileSync(path, 'utf8')).toBe('a trace');
  });

  it.each([
    ['opens', true, 'first\nsecond\n', 2],
    ['does not open', false, 'a trace', 0],
  ] as const)('writes nothing over while a device is being opened that %s', async (_, opens, then, lines) => {
    const path = join(folder, `held-${lines}.jsonl`);
    writeFileSync(path, 'a trace');
    const file = traceFile(path);
    const held = file.hold?.();
    file.write('first');
    await new Promise((turn) => stat(path, turn));
    expect(readFileSync(path, 'utf8')).toBe('a trace');
    if (opens) {
      held?.open();
      file.write('second');
    }
    file.end();
    expect(await firstValueFrom(file.closed)).toEqual({ path, lines, dropped: 0 });
    expect(readFileSync(path, 'utf8')).toBe(then);
  });

  it('keeps what is recorded of a device that does not open where there was nothing before', async () => {
    const path = join(folder, 'new.jsonl');
    const file = traceFile(path);
    file.hold?.();
    file.write('first');
    file.end();
    expect(await firstValueFrom(file.closed)).toEqual({ path, lines: 1, dropped: 0 });
    expect(readFileSync(path, 'utf8')).toBe('first\n');
  });

  it('does not wait for the disk: it drops what finds no room, says so, and goes on when there is some', async () => {
    const path = join(folder, 'b.jsonl');
    const file = traceFile(path, { maxPendingBytes: 25 });
    // All within one turn of the loop: nothing is written before it ends.
    expect(['1234567890', '1234567890', '1234567890'].map((line) => file.write(line))).toEqual([true, true, false]);
    file.end();
    expect(await firstValueFrom(file.closed)).toEqual({ path, lines: 2, dropped: 1 });
    expect(readFileSync(path, 'utf8')).toBe('1234567890\n1234567890\n');
  });

  it('says what the disk said, and takes nothing more', async () => {
    const path = join(folder, 'nowhere', 'c.jsonl');
    const file = traceFile(path);
    expect(file.write('first')).toBe(true);
    file.end();
    expect(await firstValueFrom(file.closed)).toMatchObject({ lines: 0, dropped: 1, error: { code: 'VFIO_E_ADDRESS', errno: 'ENOENT', device: path } });
    expect(file.write('second')).toBe(false);
  });

  it('survives a disk that is full', async () => {
    const file = traceFile('/dev/full');
    file.write('first');
    file.end();
    expect(await firstValueFrom(file.closed)).toMatchObject({ lines: 0, dropped: 1, error: { errno: 'ENOSPC' } });
  });
});
