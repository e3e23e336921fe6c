import { concatMap, filter, firstValueFrom, lastValueFrom, of, Subject, type Observable } from 'rxjs';
import { afterEach, expect } from 'vitest';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice } from '../../src/devices/open.js';
import type { Remap, RemapSignal } from '../../src/devices/remap-batch.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { nothingHeld, SampleMdev, vfioFds } from './mdev.js';

/** An emulated processor may take seconds to start a thread: the driver's clock decides nothing here. */
const patientMs = 60_000;

/** Regions of the sample driver whose memory is migrated, and always open to trapped access. */
export const regionOf = { bytes: 1, registers: 2 } as const;

/** A device of the sample driver, open, with its pipeline. */
export interface Served {
  readonly mdev: SampleMdev;
  readonly device: VfioDevice;
  /** The next batch that a signal brings. */
  readonly next: () => Promise<Remap>;
}

/**
 * Devices for the tests of one file, closed after each; then their drivers hold nothing, and no rule was broken.
 *
 * @returns makes one of a generation of device_state; `before` may keep a batch
 */
export function servedSamples(): (migration: 1 | 2, before?: (signal: RemapSignal) => Observable<RemapSignal>) => Promise<Served> {
  const all: Served[] = [];
  afterEach(async () => {
    for (const { device, mdev } of all.splice(0)) {
      await device.close();
      expect([mdev.held(), mdev.number('violations')]).toEqual([nothingHeld, 0]);
      mdev[Symbol.dispose]();
    }
    expect(vfioFds()).toEqual([]);
  });
  return async (migration, before = (signal) => of(signal)) => {
    const mdev = new SampleMdev({ ackTimeoutMs: patientMs, migration });
    const device = await firstValueFrom(openDevice(mdev.uuid));
    const told = new Subject<Remap>();
    const first = firstValueFrom(told);
    remapIrq(device).pipe(concatMap(before), remapRegions(device)).subscribe({ next: (remap) => told.next(remap), error: () => undefined });
    const served = { mdev, device, next: () => firstValueFrom(told.pipe(filter(({ because }) => because === 'signal'))) };
    all.push(served);
    await first;
    mdev.write('trace', 0);
    return served;
  };
}

/** Bytes that no fresh device has, nor one with another seed. */
export async function fill(device: VfioDevice, seed = 0): Promise<void> {
  const written = Uint8Array.from({ length: 2048 }, (_, n) => (n * 7 + seed) & 0xff);
  await lastValueFrom(device.port.access({ region: regionOf.registers, offset: 0x100, write: written }));
  await lastValueFrom(device.port.access({ region: regionOf.bytes, offset: 0x1_0000, write: written }));
}

/** All that a device holds in these regions. */
export async function contents(device: VfioDevice): Promise<string> {
  const parts = [regionOf.bytes, regionOf.registers].map((region) => lastValueFrom(device.port.access({ region, offset: 0, readBytes: device.region(region).size })));
  return Buffer.concat(await Promise.all(parts)).toString('base64');
}
