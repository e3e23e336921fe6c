import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lastValueFrom, NEVER } from 'rxjs';
import { afterAll, expect, it } from 'vitest';
import { exitCodes, migrateCommand, receiveCommand } from '../../src/cli/commands.js';
import { requireAddress, transportAt, transportTo } from '../../src/cli/transports.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-transports-'));
afterAll(() => rmSync(folder, { recursive: true }));

it('migrate and receive meet in a folder', async () => {
  const address = `file:${mkdtempSync(join(folder, 'both-'))}`;
  const said: string[] = [];
  const screen = { write: (line: string) => void said.push(line.trimEnd()), json: true };
  const received = lastValueFrom(receiveCommand({ devices: ['software:to?bytes=4096=d'], address, journal: join(folder, 'to'), exit: true }, screen, NEVER));
  const sent = lastValueFrom(migrateCommand({ devices: ['software:vf?bytes=4096&seed=3=d'], address, journal: join(folder, 'from') }, { write: () => undefined, json: true }, NEVER));
  expect(await Promise.all([sent, received])).toEqual([exitCodes.moved, exitCodes.moved]);
  expect(said[0]).toBe(JSON.stringify({ listening: address }));
});

it('an address is known by its form, and nothing is written into files that was to be encrypted', () => {
  for (const address of ['tcp://127.0.0.1:1', 'unix:/a', 'file:/a']) expect(() => { requireAddress(address); }).not.toThrow();
  for (const address of ['file:', 'http://a', 'a']) expect(() => { requireAddress(address); }).toThrow('[VFIO_E_ADDRESS]');
  const tls = { certificate: '', key: '', authorities: '' };
  for (const way of [transportTo, transportAt]) expect(() => way('file:/a', { tls })).toThrow(/there is no TLS through files.*\[VFIO_E_ADDRESS\]$/);
});
