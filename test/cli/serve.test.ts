import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { firstValueFrom, lastValueFrom, NEVER, Subject, timer } from 'rxjs';
import { afterAll, describe, expect, it } from 'vitest';
import { serveCommand } from '../../src/cli/serve.js';
import { openDevice, softwareDevice } from '../../src/devices/index.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-serve-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('vfio-rx serve', () => {
  it.each([
    [false, (path: string) => [`disk is served at ${path}: vfio-user:${path}`, 'a client has come', 'the client has gone', 'interrupted: disk is served no longer']],
    [true, (path: string) => [`{"device":"disk","kind":"listening","path":"${path}"}`, '{"device":"disk","kind":"connected"}', '{"device":"disk","kind":"gone"}', '{"device":"disk","kind":"interrupted"}']],
  ])('says who comes and goes, until the interrupt (as JSON: %s)', async (json, lines) => {
    const path = join(folder, `${json}.sock`);
    const written: string[] = [];
    const listening = new Subject<void>();
    const gone = new Subject<void>();
    const interrupt = new Subject<void>();
    const write = (text: string): void => {
      written.push(text.trimEnd());
      if (written.length === 1) listening.next();
      if (text.includes('gone')) gone.next();
    };
    const begun = firstValueFrom(listening);
    const code = lastValueFrom(serveCommand({ address: softwareDevice(), name: 'disk', at: `unix:${path}` }, { write, json }, interrupt));
    await begun;
    const device = await firstValueFrom(openDevice(`vfio-user:${path}`));
    const left = firstValueFrom(gone);
    await device.close();
    await left;
    interrupt.next();
    expect(await code).toBe(0);
    expect(written).toEqual(lines(path));
  });

  it('says that it was not even open where it was interrupted before', async () => {
    const written: string[] = [];
    const at = `unix:${join(folder, 'never.sock')}`;
    expect(await lastValueFrom(serveCommand({ address: { open: () => NEVER }, name: 'slow', at }, { write: (text) => written.push(text), json: false }, timer(0)))).toBe(0);
    expect(written).toEqual(['interrupted before the device was open\n']);
  });

  it('says that there is no such folder', async () => {
    const at = `unix:${join(folder, 'no', 'a.sock')}`;
    await expect(lastValueFrom(serveCommand({ address: softwareDevice(), name: 'disk', at }, { write: () => undefined, json: false }, new Subject()))).rejects.toThrow(/: bind: there is no such folder: make it, or name another one \(ENOENT\) \[VFIO_E_ADDRESS\]$/);
  });

  it('offers no device that cannot be opened', async () => {
    const address = softwareDevice();
    address.driver.remove();
    const written: string[] = [];
    await expect(lastValueFrom(serveCommand({ address, name: 'disk', at: `unix:${join(folder, 'gone.sock')}` }, { write: (text) => written.push(text), json: false }, new Subject()))).rejects.toMatchObject({ code: 'VFIO_E_NO_DEVICE' });
    expect(written).toEqual([]);
  });

  it('serves at UNIX sockets only', async () => {
    await expect(lastValueFrom(serveCommand({ address: softwareDevice(), name: 'disk', at: 'tcp://localhost:1' }, { write: () => undefined, json: false }, new Subject()))).rejects.toMatchObject({ code: 'VFIO_E_ADDRESS' });
  });
});
