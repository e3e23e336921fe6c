import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { firstValueFrom, lastValueFrom } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice } from '../../src/devices/open.js';
import { Command } from '../support/command.js';
import { nothingHeld, SampleMdev } from '../support/mdev.js';
import { arcsIn, remapsIn, sections } from '../support/trace-sections.js';

/** An emulated processor may take seconds to start a thread: the driver's clock decides nothing here. */
const patientMs = 60_000;
const patience = ['--patience', String(patientMs)];
const regionOf = { bytes: 1, registers: 2 } as const;
const written = Uint8Array.from({ length: 2048 }, (_, n) => (n * 7) & 0xff);

/** How long the destination sits on each of its writes of device_state where a test wants to catch it at one, ms. */
const stallMs = 3000;

/** Opens the device for a moment: the memory of the sample driver outlives its user. */
async function withOpen<T>({ uuid }: SampleMdev, body: (device: VfioDevice) => Promise<T>): Promise<T> {
  const device = await firstValueFrom(openDevice(uuid));
  try {
    return await body(device);
  } finally {
    await device.close();
  }
}

function contents(mdev: SampleMdev): Promise<string> {
  return withOpen(mdev, async (device) => {
    const parts = [regionOf.bytes, regionOf.registers].map((region) => lastValueFrom(device.port.access({ region, offset: 0, readBytes: device.region(region).size })));
    return Buffer.concat(await Promise.all(parts)).toString('base64');
  });
}

/** The command in two processes over TCP, with devices of the sample driver. */
describe('vfio-rx migrate and vfio-rx receive on the real kernel', { timeout: 240_000 }, () => {
  let from: SampleMdev;
  let to: SampleMdev;
  let folder: string;

  const make = async (migration: 1 | 2): Promise<void> => {
    [from, to] = [new SampleMdev({ ackTimeoutMs: patientMs, migration }), new SampleMdev({ ackTimeoutMs: patientMs, migration })];
    await withOpen(from, async (device) => {
      await lastValueFrom(device.port.access({ region: regionOf.registers, offset: 0x100, write: written }));
      await lastValueFrom(device.port.access({ region: regionOf.bytes, offset: 0x1_0000, write: written }));
    });
  };
  const both = async (): Promise<{ readonly source: Command; readonly destination: Command }> => {
    for (const mdev of [from, to]) mdev.write('trace', 0);
    const destination = new Command('receive', `${to.uuid}=vf0`, '--at', 'tcp://127.0.0.1:0', '--journal', join(folder, 'to.journal'), '--exit', ...patience);
    const { listening } = await destination.says((line) => 'listening' in line);
    const source = new Command('migrate', `${from.uuid}=vf0`, '--to', String(listening), '--journal', join(folder, 'from.journal'), ...patience);
    return { source, destination };
  };

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'vfio-rx-'));
  });

  afterEach(() => {
    for (const mdev of [from, to]) {
      expect([mdev.held(), mdev.number('violations')]).toEqual([nothingHeld, 0]);
      mdev[Symbol.dispose]();
    }
    rmSync(folder, { recursive: true });
  });

  it.each([1, 2] as const)('move a device of version %i whole, and serve what its driver demands on the way', async (migration) => {
    await make(migration);
    const before = await contents(from);
    const { source, destination } = await both();
    expect(await Promise.all([source.ended, destination.ended])).toEqual([0, 0]);
    expect([source.lines.at(-1), destination.lines.at(-1)]).toMatchObject([{ phase: 'moved' }, { phase: 'moved' }]);
    expect(arcsIn(from.trace())).toEqual(['RUNNING>PRE_COPY', 'PRE_COPY>STOP_COPY', 'STOP_COPY>STOP']);
    expect(arcsIn(to.trace())).toEqual(['RUNNING>RESUMING', 'RESUMING>STOP', 'STOP>RUNNING']);
    // What the saving group does not offer went before the write of device_state returned.
    expect(remapsIn(sections(from.trace())['RUNNING'], 0)).toEqual(expect.arrayContaining(['signal', 'munmap 0', 'ack']));
    expect(await contents(to)).toBe(before);
  });

  it('the destination is killed while it loads: the source runs again', async () => {
    await make(2);
    const before = await contents(from);
    to.write('stall_ms', stallMs);
    const { source, destination } = await both();
    await destination.says(({ phase }) => phase === 'prepare');
    destination.kill('SIGKILL');
    expect(await source.ended).toBe(1);
    expect(source.lines.at(-2)).toMatchObject({ phase: 'roll-back', devices: [{ state: 'running' }] });
    expect(source.lines.at(-1)).toMatchObject({ error: { code: 'VFIO_E_LINK' } });
    expect(arcsIn(from.trace()).at(-1)).toBe('STOP_COPY>RUNNING');
    await destination.ended;
    expect([to.held(), to.read('state')]).toEqual([nothingHeld, 'RUNNING']);
    expect(await contents(from)).toBe(before);
  });

  it('Ctrl-C at the source while the destination loads: the source runs again, the destination gives up in order', async () => {
    await make(2);
    to.write('stall_ms', stallMs);
    const { source, destination } = await both();
    await destination.says(({ phase }) => phase === 'prepare');
    source.kill('SIGINT');
    expect(await Promise.all([source.ended, destination.ended])).toEqual([1, 1]);
    expect(source.lines.at(-1)).toMatchObject({ error: { code: 'VFIO_E_ABORTED' } });
    expect(destination.lines.at(-1)).toMatchObject({ error: { code: 'VFIO_E_PEER' } });
    expect(arcsIn(from.trace()).at(-1)).toBe('STOP_COPY>RUNNING');
    // It never ran: what it had loaded it gave up.
    expect(arcsIn(to.trace())).toEqual(['RUNNING>RESUMING', 'RESUMING>STOP']);
  });
});
