import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { firstValueFrom, lastValueFrom, tap } from 'rxjs';
import { afterAll, describe, expect, it } from 'vitest';
import type { Clock } from '../../src/clock.js';
import { openDevice } from '../../src/devices/open.js';
import { softwareDevice } from '../../src/devices/software/software-device.js';
import { memoryJournal, type JournalEntry } from '../../src/migration/journal.js';
import { migrate } from '../../src/migration/migrate.js';
import type { InDoubt } from '../../src/migration/plan.js';
import { connectTo } from '../../src/transport/socket-transport.js';
import type { Connection } from '../../src/transport/transport.js';
import { Command } from '../support/command.js';
import { identity, type Identity } from '../transport/certificates.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-cli-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Processes on a busy machine, ms. */
const patienceMs = 120_000;

let runs = 0;

interface Both {
  readonly source: Command;
  readonly destination: Command;
  readonly address: string;
  readonly journals: readonly [string, string];
}

async function started(count = 1, bytes = 1 << 20, flags: readonly string[] = ['--exit']): Promise<Both> {
  const journals = [join(folder, `${(runs += 1)}-source`), join(folder, `${runs}-destination`)] as const;
  const devices = Array.from({ length: count }, (_, n) => n);
  const destination = new Command('receive', ...devices.map((n) => `software:to${n}?bytes=${bytes}=d${n}`), '--at', 'tcp://127.0.0.1:0', '--journal', journals[1], ...flags);
  const { listening } = await destination.says((line) => 'listening' in line);
  const address = String(listening);
  const source = new Command('migrate', ...devices.map((n) => `software:vf${n}?bytes=${bytes}&seed=${n + 1}=d${n}`), '--to', address, '--journal', journals[0]);
  return { source, destination, address, journals };
}

const digests = (side: Command): unknown[] => side.lines.filter((line) => 'digest' in line).map(({ digest }) => digest);

describe('two processes over TCP', () => {
  it.each([1, 3])('move %i devices whole', async (count) => {
    const { source, destination } = await started(count);
    expect(await Promise.all([source.ended, destination.ended])).toEqual([0, 0]);
    expect(digests(source)).toHaveLength(count);
    expect(digests(destination)).toEqual(digests(source));
    expect(source.lines.at(-1)).toMatchObject({ phase: 'moved' });
  }, patienceMs);

  it('the destination runs the devices until Ctrl-C, and says what they were in', async () => {
    const { source, destination } = await started(1, 1 << 12, []);
    await destination.says((line) => 'holding' in line);
    expect(await source.ended).toBe(0);
    destination.kill('SIGINT');
    expect(await destination.ended).toBe(0);
    expect(destination.lines.at(-1)).toEqual({ interrupted: true, devices: [{ device: 'd0', state: 'running' }] });
  }, patienceMs);

  it.each(['SIGKILL', 'SIGINT'] as const)('the destination by %s: the source runs, and says why', async (signal) => {
    const { source, destination } = await started(1, 64 << 20);
    await destination.says(({ phase }) => phase === 'transfer');
    destination.kill(signal);
    expect(await source.ended).toBe(1);
    expect(source.lines.at(-1)).toMatchObject({ error: { code: signal === 'SIGKILL' ? 'VFIO_E_LINK' : 'VFIO_E_PEER' } });
    expect(source.lines.at(-2)).toMatchObject({ phase: 'roll-back', devices: [{ state: 'running' }] });
  }, patienceMs);

  it('the source dies after its decision or before it: what its journal says is told', async () => {
    const { source, destination, journals } = await started(1, 64 << 20);
    await source.says(({ phase }) => phase === 'transfer');
    source.kill('SIGKILL');
    expect(await destination.ended).toBe(1);
    // Reset, or ended in the middle of a frame: it depends on what the dead process had not read yet.
    expect(destination.lines.at(-1)).toMatchObject({ error: { code: expect.stringMatching(/^VFIO_E_(LINK|STREAM)$/) as string } });
    // One that is ended while it waits leaves everything as it was, also its address.
    const path = join(folder, 'resolve.sock');
    const waiting = new Command('resolve', '--at', `unix:${path}`, '--journal', journals[1]);
    await waiting.says((line) => 'listening' in line);
    waiting.kill('SIGTERM');
    expect(await waiting.ended).toBe(3);
    expect([waiting.lines.at(-1), existsSync(path)]).toEqual([{ resolved: 'in-doubt' }, false]);
    // Both started again: nothing was decided, so nothing was moved.
    const listening = new Command('resolve', '--at', 'tcp://127.0.0.1:0', '--journal', journals[1]);
    const at = await listening.says((line) => 'listening' in line);
    const asking = new Command('resolve', '--to', String(at.listening), '--journal', journals[0]);
    expect(await Promise.all([listening.ended, asking.ended])).toEqual([1, 1]);
    expect([listening.lines.at(-1), asking.lines.at(-1)]).toEqual([{ resolved: 'not-moved' }, { resolved: 'not-moved' }]);
  }, patienceMs);

  it('a destination in doubt is given up by Ctrl-C: it never runs, and says so to the source that had decided', async () => {
    const journal = join(folder, 'given-up');
    const destination = new Command('receive', 'software:to?bytes=4096=d', '--at', 'tcp://127.0.0.1:0', '--journal', journal);
    const { listening } = await destination.says((line) => 'listening' in line);
    await using source = await firstValueFrom(openDevice(softwareDevice({ name: 'vf', regions: [{ index: 0, size: 0x1000 }], remap: false, mailbox: false })));
    // The connection ends when the decision is written, so that COMMIT is lost.
    const links: Connection[] = [];
    const to = connectTo(String(listening));
    const kept = memoryJournal();
    const cut = { ...kept, write: (entry: JournalEntry) => kept.write(entry).pipe(tap(() => { if (entry.record === 'decided') links[0]?.close(); })) };
    const plan = { devices: [{ source, destination: 'd' }], transport: { name: to.name, open: (clock: Clock) => to.open(clock).pipe(tap((link) => links.push(link))) }, journal: cut };
    const last = await lastValueFrom(migrate(plan));
    expect(last).toMatchObject({ phase: 'in-doubt' });
    await destination.says(({ phase }) => phase === 'in-doubt');
    destination.kill('SIGINT');
    expect(await destination.ended).toBe(1);
    expect(destination.lines.at(-1)).toEqual({ resolved: 'not-moved', givenUp: true });
    const promising = new Command('resolve', '--at', 'tcp://127.0.0.1:0', '--journal', journal);
    const at = await promising.says((line) => 'listening' in line);
    expect(await firstValueFrom((last as InDoubt).resolve(connectTo(String(at.listening))))).toBe('not-moved');
    expect(await promising.ended).toBe(1);
    expect(source.currentState.state).toBe('running');
  }, patienceMs);

  it('over TLS, where the side that listens turns a stranger away and waits on', async () => {
    const authority = identity({ name: 'authority' });
    const flags = (name: string, shown: Identity): readonly string[] => {
      const write = (what: string, text: string): string => {
        const path = join(folder, `${name}-${what}`);
        writeFileSync(path, text);
        return path;
      };
      return ['--tls-certificate', write('certificate', shown.certificate), '--tls-key', write('key', shown.key), '--tls-authority', write('authority', authority.certificate)];
    };
    const server = flags('server', identity({ name: 'server.example', by: authority, loopback: true }));
    const destination = new Command('receive', 'software:to=d', '--at', 'tcp://127.0.0.1:0', '--journal', join(folder, 'tls-to'), '--exit', ...server);
    const { listening } = await destination.says((line) => 'listening' in line);
    const source = (name: string, shown: Identity): Command =>
      new Command('migrate', 'software:vf?seed=7=d', '--to', String(listening), '--journal', join(folder, name), ...flags(name, shown));
    expect(await source('stranger', identity({ name: 'stranger' })).ended).toBe(1);
    expect(await destination.says((line) => 'refused' in line)).toMatchObject({ refused: { code: 'VFIO_E_UNTRUSTED' } });
    const client = source('client', identity({ name: 'client', by: authority }));
    expect(await Promise.all([client.ended, destination.ended])).toEqual([0, 0]);
    expect(digests(destination)).toEqual(digests(client));
  }, patienceMs);

  it('a destination that says nothing is waited for as long as the patience says', async () => {
    const silent = createServer().listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const { port } = silent.address() as AddressInfo;
    const source = new Command('migrate', 'software:vf0', '--to', `tcp://127.0.0.1:${port}`, '--journal', join(folder, 'patience'), '--patience', '300');
    expect(await source.ended).toBe(1);
    expect(source.lines.at(-1)).toMatchObject({ error: { code: 'VFIO_E_DEADLINE', message: expect.stringContaining('phase check was not over within 300 ms') as string } });
    silent.close();
  }, patienceMs);

  it('says what is wrong with its arguments', async () => {
    expect(await new Command('migrate').ended).toBe(2);
    // Before anything is opened: it says nothing else.
    const unwritten = new Command('receive', 'software:x=d', '--at', 'tcp://127.0.0.1:0', '--journal', folder);
    expect([await unwritten.ended, unwritten.lines]).toMatchObject([1, [{ error: { code: 'VFIO_E_JOURNAL', message: `${folder}: write journal: this is a folder: name a file in it (EISDIR) [VFIO_E_JOURNAL]` } }]]);
    const unmade = new Command('receive', 'software:x=d', '--at', `unix:${join(folder, 'no', 'a.sock')}`, '--journal', join(folder, 'unmade'));
    expect([await unmade.ended, unmade.lines]).toMatchObject([1, [{ error: { code: 'VFIO_E_ADDRESS', message: expect.stringContaining('listen: there is no such folder') as string } }]]);
    expect(await new Command('receive', 'software:x?bytes=-1', '--at', 'tcp://127.0.0.1:0', '--journal', 'x').ended).toBe(2);
  }, patienceMs);
});
