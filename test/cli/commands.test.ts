import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defer, firstValueFrom, lastValueFrom, NEVER, Subject, tap } from 'rxjs';
import { afterAll, expect, it } from 'vitest';
import type { Clock } from '../../src/clock.js';
import { openDevice } from '../../src/devices/open.js';
import { serveDevice } from '../../src/devices/serve.js';
import { softwareDevice } from '../../src/devices/software/software-device.js';
import { memoryJournal, type JournalEntry } from '../../src/migration/journal.js';
import { migrate } from '../../src/migration/migrate.js';
import { receive } from '../../src/migration/receive.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { connectTo, listenAt } from '../../src/transport/socket-transport.js';
import type { Connection, Transport } from '../../src/transport/transport.js';
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

/** A side that listens, and hears an interrupt at the line that says this. */
function interruptedAt(when: string) {
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
  return { interrupt, listens, said, write, address: `unix:${join(folder, `${runs}.sock`)}` };
}

it.each(['"phase":"release"', '"phase":"moved"'])('an interrupt at %s is not forgotten: what has come is closed at once', async (when) => {
  const { interrupt, listens, said, write, address } = interruptedAt(when);
  const received = lastValueFrom(receiveCommand({ devices: ['software:to?bytes=4096=d'], address, journal: join(folder, `${runs}-to`) }, { write, json: true }, interrupt));
  await listens;
  const sent = lastValueFrom(migrateCommand({ devices: ['software:vf?bytes=4096=d'], address, journal: join(folder, `${runs}-from`) }, { write: () => undefined, json: true }, NEVER));
  expect([await sent, await received]).toEqual([exitCodes.moved, exitCodes.moved]);
  expect(said.filter((line) => line.includes('"holding"'))).toEqual([]);
  expect(said.at(-1)).toBe('{"interrupted":true,"devices":[{"device":"d","state":"running"}]}');
});

/** One end by the library itself, whose connection ends when its journal is to take this record. */
function cutAt(record: JournalEntry['record'], to: Transport) {
  const links: Connection[] = [];
  const kept = memoryJournal();
  const write = (entry: JournalEntry) => defer(() => {
    if (entry.record === record) links[0]?.close();
    return kept.write(entry);
  });
  return { transport: { name: to.name, open: (clock: Clock) => to.open(clock).pipe(tap((link) => links.push(link))) }, journal: { ...kept, write } };
}

const plain = { regions: [{ index: 0, size: 0x1000 }], remap: false, mailbox: false } as const;

it.each(['pre-copy', 'transfer', 'prepare'])('an interrupt of the source in phase %s: it runs again, and says so', async (phase) => {
  const interrupt = new Subject<void>();
  const said: string[] = [];
  const write = (line: string): void => {
    said.push(line.trimEnd());
    if (line.includes(`"phase":"${phase}"`)) interrupt.next();
  };
  runs += 1;
  await using destination = await firstValueFrom(openDevice(softwareDevice({ ...plain, name: 'to' })));
  let listening: (address: string) => void = () => undefined;
  const listens = new Promise<string>((done) => (listening = done));
  const received = expect(lastValueFrom(receive({ devices: [{ name: 'd', destination }], transport: listenAt('tcp://127.0.0.1:0', { listening }), journal: memoryJournal() }))).rejects.toMatchObject({ code: 'VFIO_E_PEER' });
  const sent = lastValueFrom(migrateCommand({ devices: ['software:vf?bytes=4096=d'], address: await listens, journal: join(folder, `${runs}-from`) }, { write, json: true }, interrupt));
  await expect(sent).rejects.toMatchObject({ code: 'VFIO_E_ABORTED' });
  expect(JSON.parse(said.at(-1) ?? '')).toMatchObject({ phase: 'roll-back', devices: [{ device: 'vf', state: 'running' }] });
  await received;
});

it('an interrupt that the source hears when it has decided ends it, in doubt, where that is what becomes of it', async () => {
  const interrupt = new Subject<void>();
  const said: string[] = [];
  const write = (line: string): void => {
    said.push(line.trimEnd());
    if (line.includes('"phase":"commit"')) interrupt.next();
  };
  runs += 1;
  await using destination = await firstValueFrom(openDevice(softwareDevice({ ...plain, name: 'to' })));
  let listening: (address: string) => void = () => undefined;
  const listens = new Promise<string>((done) => (listening = done));
  const at = listenAt('tcp://127.0.0.1:0', { listening });
  const received = lastValueFrom(receive({ devices: [{ name: 'd', destination }], ...cutAt('running', at) }));
  const sent = lastValueFrom(migrateCommand({ devices: ['software:vf?bytes=4096=d'], address: await listens, journal: join(folder, `${runs}-from`) }, { write, json: true }, interrupt));
  expect(await sent).toBe(exitCodes.inDoubt);
  expect(said.at(-1)).toBe('{"resolved":"in-doubt"}');
  expect(await received).toMatchObject({ phase: 'moved' });
});

it('an interrupt at the very line that says in doubt gives the devices up', async () => {
  const { interrupt, listens, said, write, address } = interruptedAt('"phase":"in-doubt"');
  const received = lastValueFrom(receiveCommand({ devices: ['software:to?bytes=4096=d'], address, journal: join(folder, `${runs}-to`) }, { write, json: true }, interrupt));
  await listens;
  await using source = await firstValueFrom(openDevice(softwareDevice({ ...plain, name: 'vf' })));
  const sent = lastValueFrom(migrate({ devices: [{ source, destination: 'd' }], ...cutAt('decided', connectTo(address)) }));
  expect(await sent).toMatchObject({ phase: 'in-doubt' });
  expect(await received).toBe(exitCodes.failed);
  expect(said.at(-1)).toBe('{"resolved":"not-moved","givenUp":true}');
});

it('a device that can be served no longer ends the holding, and what it ends with says that it was moved', async () => {
  runs += 1;
  const [socket, address] = [join(folder, `${runs}-device.sock`), `unix:${join(folder, `${runs}.sock`)}`];
  const to = softwareDevice({ name: 'to' });
  const served = serveDevice(to, socket).subscribe({ error: () => undefined });
  let listening: () => void = () => undefined;
  const listens = new Promise<void>((done) => (listening = done));
  const write = (line: string): void => {
    if (line.includes('"listening"')) listening();
    if (!line.includes('"holding"')) return;
    to.driver.faults.failQuery(0, 'EIO', 99);
    to.driver.revoke(0);
  };
  const codes: number[] = [];
  const received = lastValueFrom(receiveCommand({ devices: [`unix:${socket}=d`], address, journal: join(folder, `${runs}-to`) }, { write, json: true }, NEVER).pipe(tap((code) => codes.push(code))));
  received.catch(() => undefined);
  await listens;
  await using source = await firstValueFrom(openDevice(softwareDevice({ name: 'vf' })));
  const serving = remapIrq(source).pipe(remapRegions(source)).subscribe({ error: () => undefined });
  const sent = lastValueFrom(migrate({ devices: [{ source, destination: 'd' }], transport: connectTo(address), journal: memoryJournal() }));
  expect(await sent).toMatchObject({ phase: 'moved' });
  await expect(received).rejects.toMatchObject({ code: 'VFIO_E_IO' });
  expect(codes).toEqual([exitCodes.moved]);
  serving.unsubscribe();
  served.unsubscribe();
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
