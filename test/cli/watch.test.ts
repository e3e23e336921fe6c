import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lastValueFrom, NEVER, of, Subject, type Observable } from 'rxjs';
import { afterAll, describe, expect, it } from 'vitest';
import type { NamedDevice } from '../../src/cli/devices.js';
import type { Screen } from '../../src/cli/show.js';
import { watchable, watchCommand } from '../../src/cli/watch.js';
import { softwareDevice } from '../../src/devices/software/software-device.js';
import { readTraceFile } from '../../src/testing/index.js';
import { Command } from '../support/command.js';
import { terminal } from './terminal.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-watch-'));
afterAll(() => rmSync(folder, { recursive: true }));

interface Run {
  readonly devices: readonly NamedDevice[];
  readonly trace?: string;
  readonly screen?: Partial<Screen>;
  /** Ctrl-C comes when this is written. */
  readonly until?: string;
  readonly interrupt?: Observable<unknown>;
}

async function said({ devices, trace, screen = {}, until, interrupt }: Run): Promise<{ readonly code: number; readonly lines: readonly string[] }> {
  const written: string[] = [];
  const interrupted = new Subject<void>();
  const write = (text: string): void => {
    written.push(text);
    if (until !== undefined && text.includes(until)) interrupted.next();
  };
  const code = await lastValueFrom(watchCommand({ devices, trace }, { write, json: false, ...screen }, interrupt ?? interrupted));
  return { code, lines: written.join('').trimEnd().split('\n') };
}

const device = (options = {}): NamedDevice & { readonly source: ReturnType<typeof softwareDevice> } => {
  const source = softwareDevice({ name: 'nic', ...options });
  return { name: 'nic', address: source, source };
};

describe('vfio-rx watch', () => {
  it('has a line for each thing that happens, until Ctrl-C, and says what the device was in', async () => {
    const { code, lines } = await said({ devices: [watchable('software:nic?every=10')], until: 'batch 2' });
    expect(code).toBe(0);
    const words = lines.map((line) => line.replace(/^ *\S+ {2}/, '').replace(/ served in [^\s,]+/, ''));
    expect(words.slice(0, 3)).toEqual(['nic  state: running', 'nic  regions: 3 areas, 128.0 KiB, may be mapped', 'nic  health: 0 errors, 0 requests to give it back']);
    expect(words).toEqual(expect.arrayContaining(['nic  irq: msi, vector 0', 'nic  unmap: region 0 0x0+0x10000', 'nic  remap: batch 1 (signal), acked', 'nic  remap: batch 2 (signal), acked']));
    expect(words.at(-1)).toBe('nic  closed in state running; nothing of it is held');
  });

  it('is a line of JSON for each, and a trace that can be replayed', async () => {
    const trace = join(folder, 'run.jsonl');
    const { code, lines } = await said({ devices: [device()], trace, screen: { json: true }, until: '"batch":0' });
    expect(code).toBe(0);
    const objects = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(objects[0]).toEqual({ device: 'nic', ns: expect.any(Number) as unknown, kind: 'state', state: 'running' });
    expect(objects.at(-2)).toEqual({ device: 'nic', ns: expect.any(Number) as unknown, kind: 'closed', state: 'running', because: 'interrupt' });
    const { entries, incomplete } = readTraceFile(trace);
    expect([objects.at(-1), incomplete]).toEqual([{ trace, lines: entries.length + 1, dropped: 0 }, undefined]);
  });

  it('is a table on a terminal, with what became of each device below it', async () => {
    const { stream, lines } = terminal();
    const interrupt = new Subject<void>();
    const watched = [device(), { ...device(), name: 'nic' }];
    const done = said({ devices: watched, screen: { terminal: stream, write: (text) => void stream.write(text) }, interrupt });
    setImmediate(() => interrupt.next());
    expect((await done).code).toBe(0);
    expect(lines().map((line) => line.replace(/ served in .*$/, '').replace(/ +/g, ' '))).toEqual([
      'DEVICE STATE IRQS REMAPS ACKED AREAS ERRORS LAST',
      // As wide as the terminal.
      expect.stringMatching(/^nic#1 running 0 1 0 3, 128.0 KiB 0 closed in state running/),
      expect.stringMatching(/^nic#2 running 0 1 0 3, 128.0 KiB 0 closed in state running/),
      'Ctrl-C closes all of them',
      'nic#1: closed in state running; nothing of it is held',
      'nic#2: closed in state running; nothing of it is held',
      '',
    ]);
  });

  it('closes a device that the kernel asks for, and goes on with the others', async () => {
    const asked = device({ irqs: { req: true } });
    const interrupt = new Subject<void>();
    const written: string[] = [];
    const done = said({ devices: [asked, { ...device(), name: 'other' }], interrupt, screen: { write: (text) => {
      written.push(text);
      if (text.includes('nic    remap')) asked.source.driver.raise({ index: 4 });
      if (text.includes('nic    closed')) interrupt.next();
    } } });
    expect((await done).code).toBe(0);
    expect(written.filter((line) => line.includes('closed')).map((line) => line.replace(/^ *\S+ {2}/, ''))).toEqual([
      'nic    closed in state running, because the kernel asked for it; nothing of it is held\n',
      'other  closed in state running; nothing of it is held\n',
    ]);
  });

  it('says which device failed, and goes on with the others; two traces have a file each', async () => {
    const gone = device();
    gone.source.driver.remove();
    const trace = join(folder, 'two.jsonl');
    writeFileSync(join(folder, 'two-1.jsonl'), 'a trace');
    const { code, lines } = await said({ devices: [gone, { ...device(), name: 'other' }], trace, until: 'remap: batch 0' });
    expect(code).toBe(1);
    expect(lines[0]).toMatch(/^ +0ns {2}nic {4}failed: nic: open: .*\[VFIO_E_NO_DEVICE\]$/);
    expect(lines.some((line) => line.includes('other  closed in state running'))).toBe(true);
    // The one that did not open has written nothing.
    expect(readFileSync(join(folder, 'two-1.jsonl'), 'utf8')).toBe('a trace');
    expect(lines.slice(-2).sort()).toEqual([`${join(folder, 'two-1.jsonl')}: 0 lines`, expect.stringContaining(join(folder, 'two-2.jsonl'))]);
  });

  it('opens nothing where one of its traces cannot be written, and leaves the others as they are', async () => {
    let opened = 0;
    const source = softwareDevice({ name: 'nic' });
    const one: NamedDevice = { name: 'nic', address: { open: (clock) => { opened += 1; return source.open(clock); } } };
    mkdirSync(join(folder, 'kept-2'));
    writeFileSync(join(folder, 'kept-1'), 'a trace');
    await expect(said({ devices: [one, one], trace: join(folder, 'kept') })).rejects.toThrow(/kept-2: write trace: this is a folder: name a file in it \(EISDIR\) \[VFIO_E_ADDRESS\]$/);
    expect([opened, readFileSync(join(folder, 'kept-1'), 'utf8')]).toEqual([0, 'a trace']);
  });

  it('is over at once where Ctrl-C came before a device was open', async () => {
    const never: NamedDevice = { name: 'slow', address: { open: () => NEVER } };
    const { code, lines } = await said({ devices: [never], interrupt: of(undefined) });
    expect({ code, lines }).toEqual({ code: 0, lines: ['       0ns  slow  closed before it was open; nothing of it is held'] });
  });

  it('watches no recorded run', () => {
    expect(() => watchable('trace:run.jsonl')).toThrow(expect.objectContaining({ code: 'VFIO_E_ADDRESS', message: expect.stringContaining('vfio-rx replay goes through it') as unknown }) as Error);
  });

  it.each([
    ['software:nic?every=20', 'remap', 'nic'],
    // Nothing of it holds the event loop.
    ['software:disk?bytes=65536&seed=1', 'health', 'disk'],
  ])('%s: is ended by Ctrl-C, in order', async (name, seen, device) => {
    const command = new Command('watch', name);
    await command.says(({ kind, batch }) => kind === seen && batch !== 0);
    command.kill('SIGINT');
    expect(await command.ended).toBe(0);
    expect(command.lines.at(-1)).toMatchObject({ device, kind: 'closed', state: 'running', because: 'interrupt' });
  }, 60_000);
});
