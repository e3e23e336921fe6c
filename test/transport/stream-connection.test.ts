import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { concatMap, firstValueFrom, lastValueFrom, Subject } from 'rxjs';
import { afterAll, describe, expect, it } from 'vitest';
import { realClock } from '../../src/clock.js';
import { connectTo, listenAt } from '../../src/transport/socket-transport.js';
import { StreamConnection } from '../../src/transport/stream-connection.js';
import type { Connection } from '../../src/transport/transport.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-streams-'));
afterAll(() => rmSync(folder, { recursive: true }));

const text = (bytes: Uint8Array | undefined): string | undefined => (bytes === undefined ? undefined : Buffer.from(bytes).toString());
const turns = async (count = 20): Promise<void> => {
  for (let turn = 0; turn < count; turn += 1) await new Promise(setImmediate);
};
const openFds = (): number => readdirSync('/proc/self/fd').length;

async function connected(address: string): Promise<readonly [Connection, Connection]> {
  const where = new Subject<string>();
  const connecting = firstValueFrom(where.pipe(concatMap((found) => connectTo(found).open(realClock))));
  const listening = firstValueFrom(listenAt(address, { listening: (found) => where.next(found) }).open(realClock));
  return Promise.all([connecting, listening]);
}

describe.each(['tcp://127.0.0.1:0', 'tcp://[::1]:0', 'tcp://localhost:0', `unix:${join(folder, 'socket')}`])('a socket of its own at %s', (address) => {
  it('fills the memory of whoever reads, and answers when it is full', async () => {
    const [a, b] = await connected(address);
    expect([a, b].every((end) => end instanceof StreamConnection)).toBe(true);
    const into = new Uint8Array(6);
    const reading = firstValueFrom(b.read(into));
    let came = false;
    void reading.then(() => (came = true));
    await lastValueFrom(a.write([Buffer.from('one'), Buffer.from('')]));
    await turns();
    expect(came).toBe(false);
    await lastValueFrom(a.write([Buffer.from('two'), Buffer.from('and more')]));
    const bytes = await reading;
    expect([text(bytes), bytes?.buffer]).toEqual(['onetwo', into.buffer]);
    expect(text(await firstValueFrom(b.read()))).toBe('and more');
    a.close();
    b.close();
  });

  it('tells who reads how much has come, once each time it would wait', async () => {
    const [a, b] = await connected(address);
    const told: number[] = [];
    const reading = firstValueFrom(b.read(new Uint8Array(9), (bytes) => told.push(bytes)));
    for (const part of ['one', 'two']) {
      await lastValueFrom(a.write([Buffer.from(part)]));
      await turns();
    }
    expect(told).toEqual([3, 6]);
    await lastValueFrom(a.write([Buffer.from('end')]));
    expect([text(await reading), told]).toEqual(['onetwoend', [3, 6]]);
    a.close();
    b.close();
  });

  it('has what came for a read that was given up, and what came before the end', async () => {
    const [a, b] = await connected(address);
    const given = b.read(new Uint8Array(100)).subscribe();
    await lastValueFrom(a.write([Buffer.from('one')]));
    await turns();
    given.unsubscribe();
    await lastValueFrom(a.write([Buffer.from('two')]));
    a.close();
    expect(text(await firstValueFrom(b.read(new Uint8Array(100))))).toBe('one');
    expect(text(await firstValueFrom(b.read(new Uint8Array(100))))).toBe('two');
    expect([await firstValueFrom(b.read()), await firstValueFrom(b.read())]).toEqual([undefined, undefined]);
    b.close();
  });

  it('that is closed hears nothing more but the end', async () => {
    const [a, b] = await connected(address);
    const reading = firstValueFrom(a.read());
    a.close();
    await lastValueFrom(b.write([Buffer.from('an answer')]));
    b.close();
    expect([await reading, await firstValueFrom(a.read())]).toEqual([undefined, undefined]);
  });

  it('carries more than the kernel holds in both directions at once, and leaves no fd', async () => {
    const before = openFds();
    const [a, b] = await connected(address);
    const sent = Buffer.from(Uint8Array.from({ length: 5 << 20 }, (_, n) => n % 251));
    const exchange = async (end: Connection): Promise<void> => {
      const reading = firstValueFrom(end.read(new Uint8Array(sent.length)));
      await lastValueFrom(end.write([sent.subarray(0, 3), sent.subarray(3)]));
      expect(sent.equals((await reading) ?? new Uint8Array())).toBe(true);
    };
    await Promise.all([exchange(a), exchange(b)]);
    a.close();
    b.close();
    while (openFds() > before) await turns(1);
    await expect(firstValueFrom(a.read())).resolves.toBeUndefined();
    await expect(firstValueFrom(a.write([sent]))).rejects.toMatchObject({ code: 'VFIO_E_LINK' });
  });
});

describe('a socket of its own', () => {
  it('holds a message of state that nobody reads yet, as far as the administrator allows', async () => {
    const [a, b] = await connected(`unix:${join(folder, 'room')}`);
    const allowed = Number(readFileSync('/proc/sys/net/core/wmem_max', 'utf8'));
    let outcome: unknown = 'waits';
    a.write([new Uint8Array(Math.min(1 << 20, allowed))]).subscribe({ next: () => (outcome = 'held'), error: (error: unknown) => (outcome = error) });
    expect(outcome).toBe('held');
    a.close();
    b.close();
  });

  it('hears what the other side said before it went, and has a typed error for what is written to nobody', async () => {
    const path = join(folder, 'gone');
    const server: Server = createServer({ pauseOnConnect: true });
    const met = new Promise<Socket>((done) => server.once('connection', done));
    await new Promise<void>((done) => server.listen(path, done));
    const connection = await firstValueFrom(connectTo(`unix:${path}`).open(realClock));
    const other = await met;
    await new Promise<void>((done) => other.write('farewell', () => done()));
    other.destroy();
    server.close();
    await turns();
    await expect(firstValueFrom(connection.write([Buffer.from('x')]))).rejects.toMatchObject({ code: 'VFIO_E_LINK' });
    expect(text(await firstValueFrom(connection.read()))).toBe('farewell');
    expect(await firstValueFrom(connection.read())).toBeUndefined();
    connection.close();
  });

  it('that was given up before anybody came leaves no fd and no file', () => {
    const before = openFds();
    const listening = listenAt(`unix:${join(folder, 'nobody')}`).open(realClock).subscribe();
    expect(readdirSync(folder)).toContain('nobody');
    listening.unsubscribe();
    expect(readdirSync(folder)).not.toContain('nobody');
    expect(openFds()).toBeLessThanOrEqual(before);
  });

  it.each(['tcp://127.0.0.1:1', `unix:${join(folder, 'none')}`, `unix:/${'x'.repeat(200)}`])('finds nobody at %s', (address) => {
    return expect(firstValueFrom(connectTo(address).open(realClock))).rejects.toMatchObject({ code: 'VFIO_E_LINK' });
  });

  it('does not listen where somebody does', async () => {
    const path = `unix:${join(folder, 'twice')}`;
    const first = listenAt(path).open(realClock).subscribe();
    await expect(firstValueFrom(listenAt(path).open(realClock))).rejects.toMatchObject({ code: 'VFIO_E_LINK' });
    expect(readdirSync(folder)).toContain('twice');
    first.unsubscribe();
  });
});
