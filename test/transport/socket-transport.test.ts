import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { concatMap, firstValueFrom, lastValueFrom, map, Subject, toArray } from 'rxjs';
import { afterAll, describe, expect, it } from 'vitest';
import { realClock } from '../../src/clock.js';
import { connectTo, listenAt, parseAddress } from '../../src/transport/socket-transport.js';
import type { Connection } from '../../src/transport/transport.js';
import { everything, pulled } from './pulled.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-sockets-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Both ends of one connection. */
async function connected(address: string): Promise<readonly [Connection, Connection]> {
  const where = new Subject<string>();
  const connecting = firstValueFrom(where.pipe(concatMap((found) => connectTo(found).open(realClock))));
  const listening = firstValueFrom(listenAt(address, { listening: (found) => where.next(found) }).open(realClock));
  return Promise.all([connecting, listening]);
}

describe.each(['tcp://127.0.0.1:0', `unix:${join(folder, 'socket')}`])('a connection at %s', (address) => {
  it('carries bytes until it is closed', async () => {
    const [a, b] = await connected(address);
    const all = everything(b);
    await lastValueFrom(a.write([Buffer.from('one'), Buffer.from('two')]));
    a.close();
    a.close();
    expect((await all).toString()).toBe('onetwo');
    b.close();
  });

  it('leaves nothing behind where writes follow from one another', async () => {
    const [a, b] = await connected(address);
    const warned: unknown[] = [];
    const warn = (warning: unknown): void => void warned.push(warning);
    process.on('warning', warn);
    const write = (left: number): void => {
      if (left > 0) a.write([Buffer.of(left)]).subscribe({ complete: () => write(left - 1), error: (error: unknown) => warned.push(error) });
      else a.close();
    };
    write(30);
    expect((await everything(b)).length).toBe(30);
    b.close();
    process.off('warning', warn);
    expect(warned).toEqual([]);
  });

  it('leaves what was read as it is until the next read, and what was written to the writer once it is', async () => {
    const [a, b] = await connected(address);
    const written = Buffer.from('first');
    const reading = lastValueFrom(b.read());
    await lastValueFrom(a.write([written]));
    written.fill('x');
    const first = await reading;
    await lastValueFrom(a.write([Buffer.from('second')]));
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
    expect(Buffer.from(first ?? []).toString()).toBe('first');
    expect(Buffer.from((await lastValueFrom(b.read())) ?? []).toString()).toBe('second');
    a.close();
    expect(await lastValueFrom(b.read())).toBeUndefined();
    b.close();
  });

  it('holds a writer back while nobody reads, and loses nothing by it', async () => {
    const [a, b] = await connected(address);
    const chunk = new Uint8Array(1 << 20).fill(7);
    let written = 0;
    const writing = pulled(() => a.write([chunk]).pipe(map(() => (written += 1) < 64 || undefined)));
    const done = lastValueFrom(writing.pipe(toArray()));
    for (let turn = 0; turn < 100; turn += 1) await new Promise(setImmediate);
    const all = everything(b);
    expect(written).toBeLessThan(64);
    await done;
    a.close();
    expect((await all).length).toBe(64 * chunk.length);
    b.close();
  });
});

describe('an address', () => {
  it.each([
    ['tcp://127.0.0.1:80', { host: '127.0.0.1', port: 80 }], ['tcp://[::1]:0', { host: '::1', port: 0 }], ['tcp://host.example:65535', { host: 'host.example', port: 65535 }],
    ['unix:/run/a.sock', { path: '/run/a.sock' }],
  ])('%s is one', (address, meant) => expect(parseAddress(address)).toEqual(meant));

  it.each(['', 'tcp://', 'tcp://host', 'tcp://host:65536', 'tcp://:80', 'unix:', 'http://host:80', 'host:80'])('"%s" is none', (address) => {
    expect(() => parseAddress(address)).toThrow('[VFIO_E_ADDRESS]');
  });

  it('where nobody listens, or one that is taken, is a typed error', async () => {
    await expect(firstValueFrom(connectTo(`unix:${join(folder, 'nobody')}`).open(realClock))).rejects.toMatchObject({ code: 'VFIO_E_LINK' });
    await expect(firstValueFrom(listenAt(`unix:${join(folder, 'no', 'folder')}`).open(realClock))).rejects.toMatchObject({ code: 'VFIO_E_LINK' });
    await expect(firstValueFrom(connectTo('nonsense').open(realClock))).rejects.toMatchObject({ code: 'VFIO_E_ADDRESS' });
  });
});
