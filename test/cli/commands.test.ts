import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lastValueFrom, NEVER, Subject } from 'rxjs';
import { afterAll, expect, it } from 'vitest';
import { exitCodes, migrateCommand, receiveCommand, resolveCommand } from '../../src/cli/commands.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-commands-'));
afterAll(() => rmSync(folder, { recursive: true }));
const screen = { write: () => undefined, json: true };
let runs = 0;

it('the destination hears the first interrupt whichever line it has just said: unheard it would end the process at once', async () => {
  const interrupt = new Subject<void>();
  let listening: () => void = () => undefined;
  const listens = new Promise<void>((done) => (listening = done));
  const unheard: string[] = [];
  const heard: string[] = [];
  const write = (line: string): void => {
    (interrupt.observed ? heard : unheard).push(line);
    if (line.includes('"listening"')) listening();
    if (line.includes('"holding"')) setImmediate(() => interrupt.next());
  };
  const address = `unix:${join(folder, 'to.sock')}`;
  const received = lastValueFrom(receiveCommand({ devices: ['software:to?bytes=4096=d'], address, journal: join(folder, 'to.journal') }, { write, json: true }, interrupt));
  await listens;
  const sent = lastValueFrom(migrateCommand({ devices: ['software:vf?bytes=4096=d'], address, journal: join(folder, 'from.journal') }, { write: () => undefined, json: true }, NEVER));
  expect([await sent, await received]).toEqual([exitCodes.moved, exitCodes.moved]);
  expect(unheard).toEqual([]);
  expect(heard.map((line) => JSON.parse(line) as object)).toContainEqual(expect.objectContaining({ phase: 'moved' }));
});

it.each(['"phase":"release"', '"phase":"moved"'])('an interrupt at %s is not forgotten: what has come is closed at once', async (when) => {
  const interrupt = new Subject<void>();
  let listening: () => void = () => undefined;
  const listens = new Promise<void>((done) => (listening = done));
  const said: string[] = [];
  const write = (line: string): void => {
    said.push(line.trimEnd());
    if (line.includes('"listening"')) listening();
    if (line.includes(when)) interrupt.next();
  };
  runs += 1;
  const address = `unix:${join(folder, `${runs}.sock`)}`;
  const received = lastValueFrom(receiveCommand({ devices: ['software:to?bytes=4096=d'], address, journal: join(folder, `${runs}-to`) }, { write, json: true }, interrupt));
  await listens;
  const sent = lastValueFrom(migrateCommand({ devices: ['software:vf?bytes=4096=d'], address, journal: join(folder, `${runs}-from`) }, { write: () => undefined, json: true }, NEVER));
  expect([await sent, await received]).toEqual([exitCodes.moved, exitCodes.moved]);
  expect(said.filter((line) => line.includes('"holding"'))).toEqual([]);
  expect(said.at(-1)).toBe('{"interrupted":true,"devices":[{"device":"d","state":"running"}]}');
});

it.each([
  ['receive', (journal: string) => receiveCommand({ devices: ['software=d'], address: 'tcp://127.0.0.1:0', journal }, screen, NEVER)],
  ['resolve', (journal: string) => resolveCommand({ listen: true, address: 'tcp://127.0.0.1:0', journal }, screen, NEVER)],
])('%s: a journal that is no file is refused before anybody is listened for', async (_, command) => {
  const pipe = join(folder, `pipe-${(runs += 1)}`);
  // Opening it would wait for a writer, for ever.
  execFileSync('mkfifo', [pipe]);
  await expect(lastValueFrom(command(pipe))).rejects.toThrow(/pipe-\d+: write journal: it is no regular file: name another one \[VFIO_E_JOURNAL\]$/);
});
