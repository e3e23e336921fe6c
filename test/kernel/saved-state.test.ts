import { concatMap, filter, firstValueFrom, from, lastValueFrom, of, reduce, Subject, toArray } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice } from '../../src/devices/open.js';
import type { Remap } from '../../src/devices/remap-batch.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { dirtyPages } from '../../src/streams/dirty-pages.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { resumeState } from '../../src/streams/resume-state.js';
import { savedState, type SavedState } from '../../src/streams/saved-state.js';
import { transition } from '../../src/streams/transition.js';
import { nothingHeld, SampleMdev } from '../support/mdev.js';
import { drained } from '../support/saved.js';

/** An emulated processor may take seconds to start a thread: the driver's clock decides nothing here. */
const patientMs = 20_000;
const regionOf = { bytes: 1, registers: 2 } as const;

interface Served {
  readonly mdev: SampleMdev;
  readonly device: VfioDevice;
  readonly remaps: readonly Remap[];
  /** The next batch that a signal brings. */
  readonly next: () => Promise<Remap>;
}

async function round(saved: SavedState): Promise<{ readonly bytes: Buffer; readonly ends: string }> {
  const chunks = await lastValueFrom(drained(saved).pipe(toArray()));
  return { bytes: Buffer.concat(chunks.flatMap((chunk) => (chunk.kind === 'bytes' ? [chunk.bytes] : []))), ends: chunks.at(-1)?.kind ?? '' };
}

describe.each([1, 2] as const)('the state of the sample driver, version %i, on the real kernel', (migration) => {
  let all: Served[];

  const serve = async (): Promise<Served> => {
    const mdev = new SampleMdev({ ackTimeoutMs: patientMs, migration });
    const device = await firstValueFrom(openDevice(mdev.uuid));
    const remaps: Remap[] = [];
    const told = new Subject<Remap>();
    const first = firstValueFrom(told);
    remapIrq(device).pipe(remapRegions(device)).subscribe({
      next: (remap) => {
        remaps.push(remap);
        told.next(remap);
      },
      error: () => undefined,
    });
    await first;
    const served = { mdev, device, remaps, next: () => firstValueFrom(told.pipe(filter(({ because }) => because === 'signal'))) };
    all.push(served);
    return served;
  };
  const mapped = (device: VfioDevice, region: number) => device.region(region).mapped.areas.length;

  beforeEach(() => {
    all = [];
  });

  afterEach(async () => {
    for (const { device, mdev } of all) {
      await device.close();
      expect([mdev.held(), mdev.number('violations')]).toEqual([nothingHeld, 0]);
      mdev[Symbol.dispose]();
    }
  });

  it('is saved in rounds and resumed on another, byte for byte, while remaps are demanded and served', async () => {
    const source = await serve();
    const target = await serve();
    const written = Uint8Array.from({ length: 2048 }, (_, n) => (n * 7) & 0xff);
    await lastValueFrom(source.device.port.access({ region: regionOf.registers, offset: 0x100, write: written }));
    await lastValueFrom(source.device.port.access({ region: regionOf.bytes, offset: 0x1_0000, write: written }));

    const saved = await lastValueFrom(savedState(source.device));
    // Entering the saving group is a demand by itself: what is not offered there is gone.
    expect([mapped(source.device, 0), source.mdev.read('state')]).toEqual([0, 'PRE_COPY']);
    const estimates: bigint[] = [];
    saved.rounds.subscribe({ next: ({ initialBytes, dirtyBytes }) => estimates.push(initialBytes + dirtyBytes), error: () => undefined });
    const first = await round(saved);
    expect([first.ends, first.bytes.length > 0]).toEqual(['quiet', true]);
    expect(estimates.at(-1)).toBe(0n);

    // Between rounds the driver takes an area away, and gives it back.
    for (const act of ['revoke', 'restore'] as const) {
      const next = source.next();
      source.mdev.write(act, regionOf.bytes);
      await next;
      expect(mapped(source.device, regionOf.bytes) > 0, act).toBe(act === 'restore');
      expect((await round(saved)).ends).toBe('quiet');
    }
    expect(source.remaps.some(({ because, acked }) => because === 'signal' && acked)).toBe(true);

    await lastValueFrom(transition(source.device, 'stop-copy'));
    const last = await round(saved);
    expect(last.ends).toBe('end');

    const into = await lastValueFrom(resumeState(target.device));
    await lastValueFrom(from([first.bytes, last.bytes]).pipe(concatMap((bytes) => into.write(bytes)), reduce((done) => done, undefined)));
    expect((await lastValueFrom(into.end())).to).toBe('stop');
    expect(target.mdev.read('state')).toBe('STOP');
    await lastValueFrom(transition(target.device, 'running'));
    for (const region of [regionOf.bytes, regionOf.registers]) {
      const { size } = target.device.region(region);
      const [ours, theirs] = await Promise.all([source, target].map(({ device }) => lastValueFrom(device.port.access({ region, offset: 0, readBytes: size }))));
      expect(Buffer.from(theirs ?? []).equals(Buffer.from(ours ?? [])), `region ${region}`).toBe(true);
    }
    await lastValueFrom(saved.close());
  });

  it('keeps no log of written pages, and says so', async () => {
    const { device } = await serve();
    await expect(lastValueFrom(dirtyPages(device, { ranges: [{ iova: 0n, size: 4096 }], when: of(1) }))).rejects.toMatchObject({ code: 'VFIO_E_UNSUPPORTED', errno: 'ENOTTY' });
  });
});
