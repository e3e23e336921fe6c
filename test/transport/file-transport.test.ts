import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { firstValueFrom, lastValueFrom } from 'rxjs';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { realClock } from '../../src/clock.js';
import { fileTransport, type FileTransportOptions } from '../../src/transport/file-transport.js';
import type { Connection } from '../../src/transport/transport.js';
import { virtualClock } from '../support/virtual-clock.js';
import { everything } from './pulled.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-files-'));
const mounted: string[] = [];
afterAll(() => {
  for (const at of mounted) execFileSync('umount', [at]);
  rmSync(folder, { recursive: true });
});

const fresh = (): string => mkdtempSync(join(folder, 'folder-'));

async function connected(at: string, options: FileTransportOptions = {}): Promise<readonly [Connection, Connection]> {
  const { connecting, listening } = fileTransport(at, options);
  return Promise.all([firstValueFrom(connecting.open(realClock)), firstValueFrom(listening.open(realClock))]);
}

const say = (connection: Connection, ...parts: readonly string[]): Promise<void> => lastValueFrom(connection.write(parts.map((one) => Buffer.from(one))), { defaultValue: undefined });
const isEmpty = (at: string) => vi.waitFor(() => { expect(readdirSync(at)).toEqual([]); }, { timeout: 30_000 });

describe('a connection through files', () => {
  it('carries bytes both ways until it is closed, and leaves no file', async () => {
    const at = fresh();
    const [a, b] = await connected(at);
    const atA = everything(a);
    const atB = expect(everything(b)).rejects.toMatchObject({ code: 'VFIO_E_LINK' });
    await say(a, 'one', 'two');
    await say(b, 'back');
    b.close();
    expect((await atA).toString()).toBe('back');
    await say(a, 'three');
    a.close();
    a.close();
    await atB;
    await isEmpty(at);
  });

  it('goes on from file to file, and removes those that were read', async () => {
    const at = fresh();
    const [a, b] = await connected(at, { segmentBytes: 100 });
    const all = everything(b);
    const said = Array.from({ length: 50 }, (_, n) => `${n} `.repeat(n + 1));
    for (const one of said) await say(a, one);
    a.close();
    expect((await all).toString()).toBe(said.join(''));
    expect(readdirSync(at).filter((name) => /-0\.\d+$/.test(name)).length).toBeLessThan(2);
    b.close();
    await isEmpty(at);
  });

  it('is one of several in the same folder, each with an end of its own', async () => {
    const at = fresh();
    const pairs = await Promise.all([connected(at), connected(at), connected(at)]);
    const [ones, others] = [pairs.map(([a]) => a), pairs.map(([, b]) => b)];
    await Promise.all(ones.map((a, n) => say(a, `${n}`)));
    for (const a of ones) a.close();
    expect((await Promise.all(others.map(everything))).map(String).sort()).toEqual(['0', '1', '2']);
    for (const b of others) b.close();
    await isEmpty(at);
  });

  it('takes nothing away with a read that is left', async () => {
    const at = fresh();
    const [a, b] = await connected(at);
    for (let n = 0; n < 20; n += 1) {
      const left = b.read().subscribe({ error: () => undefined });
      if (n === 10) await say(a, 'kept');
      left.unsubscribe();
    }
    expect(String(await firstValueFrom(b.read()))).toBe('kept');
    a.close();
    b.close();
    await isEmpty(at);
  });

  it('that was given up before it came is seen by the other end to be over', async () => {
    const at = fresh();
    const { connecting, listening } = fileTransport(at);
    const left = connecting.open(realClock).subscribe({ error: () => undefined });
    await vi.waitFor(() => { expect(readdirSync(at)).toHaveLength(1); }, { timeout: 30_000 });
    left.unsubscribe();
    listening.open(realClock).subscribe({ error: () => undefined }).unsubscribe();
    const b = await firstValueFrom(listening.open(realClock));
    expect(await firstValueFrom(b.read())).toBeUndefined();
    b.close();
    await isEmpty(at);
  });

  it.each(['connecting', 'listening'] as const)('cannot be had where there is no folder (%s), nor in virtual time', async (end) => {
    const missing = fileTransport(join(folder, 'none'))[end];
    await expect(firstValueFrom(missing.open(realClock))).rejects.toMatchObject({ code: 'VFIO_E_LINK', message: expect.stringContaining('ENOENT') as string });
    await expect(firstValueFrom(fileTransport(fresh())[end].open(virtualClock()))).rejects.toMatchObject({ code: 'VFIO_E_CLOCK' });
  });

  it('fails at a disk that is full, and the other end hears that it is over', async (ctx) => {
    if (process.getuid?.() !== 0) ctx.skip('only root may mount a file system that is full');
    const at = fresh();
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', at]);
    mounted.push(at);
    const [a, b] = await connected(at);
    const all = everything(b);
    await expect(say(a, 'x'.repeat(1 << 20))).rejects.toMatchObject({ code: 'VFIO_E_LINK', message: expect.stringContaining('ENOSPC') as string });
    a.close();
    expect((await all).length).toBeLessThanOrEqual(1 << 16);
    b.close();
    await isEmpty(at);
  });
});
