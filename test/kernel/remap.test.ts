import { readdirSync } from 'node:fs';
import { concatMap, filter, firstValueFrom, lastValueFrom, map, of, Subject, take, tap, type MonoTypeOperatorFunction } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VfioError } from '../../src/errors.js';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice } from '../../src/devices/open.js';
import type { Remap, RemapSignal, RequeriedBatch } from '../../src/devices/remap-batch.js';
import { acknowledge } from '../../src/operators/acknowledge.js';
import { applyRemap } from '../../src/operators/apply-remap.js';
import { decodeRegionBitmap } from '../../src/operators/decode-region-bitmap.js';
import { diffRegions } from '../../src/operators/diff-regions.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { requeryRegions } from '../../src/operators/requery-regions.js';
import { irq } from '../../src/streams/irq.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition } from '../../src/streams/transition.js';
import { nothingHeld, SampleMdev } from '../support/mdev.js';

/** The error that a promise is rejected with. */
async function failure(work: Promise<unknown>): Promise<VfioError> {
  try {
    await work;
  } catch (error) {
    if (VfioError.is(error)) return error;
    throw error;
  }
  throw new Error('expected an error');
}

/** A user's operator that keeps the batches of signals until it is told to let them go. */
function held(arrived: Subject<void>, letGo: Subject<void>): MonoTypeOperatorFunction<RequeriedBatch> {
  return concatMap((batch) => {
    if (batch.because !== 'signal') return of(batch);
    queueMicrotask(() => arrived.next());
    return letGo.pipe(take(1), map(() => batch));
  });
}

/** An emulated processor may take seconds to start a thread: the driver's clock decides only where a test wants it to. */
const patientMs = 20_000;

describe('a remap on the real kernel', () => {
  let mdev: SampleMdev;
  let device: VfioDevice;

  const open = async (): Promise<VfioDevice> => firstValueFrom(openDevice(mdev.uuid));

  /** The pipeline, and its first batch behind us. */
  const serve = async (): Promise<{ readonly remaps: Remap[]; readonly errors: unknown[]; readonly stop: () => void }> => {
    const remaps: Remap[] = [];
    const errors: unknown[] = [];
    const ready = new Subject<void>();
    const first = firstValueFrom(ready);
    const running = remapIrq(device).pipe(remapRegions(device)).subscribe({
      next: (remap) => {
        remaps.push(remap);
        ready.next();
      },
      error: (error: unknown) => errors.push(error),
    });
    await first;
    return { remaps, errors, stop: () => running.unsubscribe() };
  };

  const heldPipeline = (arrived: Subject<void>, letGo: Subject<void>) =>
    remapIrq(device).pipe(decodeRegionBitmap(), requeryRegions(device), held(arrived, letGo), diffRegions(device), applyRemap(device), acknowledge(device));

  beforeEach(async () => {
    mdev = new SampleMdev({ ackTimeoutMs: patientMs });
    device = await open();
  });

  afterEach(async () => {
    await device.close();
    expect(mdev.held()).toEqual(nothingHeld);
    mdev[Symbol.dispose]();
  });

  it('acks one demand while device_state is being written', async () => {
    const { remaps, stop } = await serve();
    expect(mdev.number('irqs')).toBe(2);
    expect(mdev.number('vmas')).toBe(3);

    const arc = await lastValueFrom(transition(device, 'pre-copy'));

    expect(arc).toMatchObject({ from: 'running', to: 'pre-copy' });
    expect(mdev.read('state')).toBe('PRE_COPY');
    expect({ sent: mdev.number('sent'), acked: mdev.number('acked'), violations: mdev.number('violations') }).toEqual({ sent: 1, acked: 1, violations: 0 });
    // Region 0 has gone, and so has the second area of region 1.
    expect(mdev.number('vmas')).toBe(1);
    const served = remaps.find((remap) => remap.acked);
    expect(served?.headroomNs).toBeGreaterThan(0n);
    await firstValueFrom(arc.data?.close() ?? of(undefined));
    await lastValueFrom(transition(device, 'running'));
    expect(mdev.number('vmas')).toBe(3);
    stop();
  });

  it('RR-13: blocks the write while the pipeline is held, and the driver sees irq, query, unmap, ack in that order', async () => {
    const arrived = new Subject<void>();
    const letGo = new Subject<void>();
    const running = heldPipeline(arrived, letGo).subscribe();
    mdev.write('trace', 0);

    const signalled = firstValueFrom(arrived);
    let returned = false;
    const writing = lastValueFrom(transition(device, 'pre-copy').pipe(tap(() => (returned = true))));
    await signalled;
    expect(mdev.number('waiters')).toBe(1);
    expect(returned).toBe(false);
    // The loop is free, and so is the device, while the write is blocked.
    const id = await firstValueFrom(device.region(7).request({ offset: 0, readBytes: 2 }));
    expect(new DataView(id.buffer, id.byteOffset).getUint16(0, true)).toBe(0xfeed);
    expect(() => device.region(7).read16(0)).toThrow(expect.objectContaining({ code: 'VFIO_E_WOULD_BLOCK' }) as Error);

    letGo.next();
    await writing;
    expect(mdev.number('waiters')).toBe(0);

    const trace = mdev.trace();
    const position = (event: string, fields: Record<string, string> = {}, from = 0): number =>
      trace.findIndex((line, index) => index >= from && line.event === event && Object.entries(fields).every(([key, value]) => line.fields[key] === value));
    const signal = position('signal');
    const query = position('query', { region: '0', mmap: '0' }, signal);
    const unmapped = position('munmap', { region: '0' }, query);
    const acked = position('ack', { value: '1' }, unmapped);
    const released = position('release', { ret: '0' }, acked);
    const done = position('state', { to: 'PRE_COPY', ret: '0' }, released);
    expect([signal, query, unmapped, acked, released, done].every((index) => index >= 0), JSON.stringify(trace.map((line) => line.event))).toBe(true);
    running.unsubscribe();
  });

  it('serves a demand in one turn of the loop, from the read of the eventfd to the ack', async () => {
    const order: string[] = [];
    const queued = tap<RemapSignal>(({ because }) => {
      if (because === 'signal') setImmediate(() => order.push('next turn'));
    });
    const noted = tap(({ acked }: Remap) => {
      if (acked) order.push('acked');
    });
    const errors: unknown[] = [];
    const running = remapIrq(device).pipe(queued, remapRegions(device), noted).subscribe({ error: (error: unknown) => errors.push(error) });
    await lastValueFrom(transition(device, 'pre-copy'));
    running.unsubscribe();
    expect({ order, errors }).toEqual({ order: ['acked', 'next turn'], errors: [] });
  });

  it('ends in a typed timeout when nobody serves the demand', async () => {
    mdev.write('ack_timeout_ms', 300);
    const swallowing = failure(lastValueFrom(remapIrq(device).pipe(filter((signal) => signal.because !== 'signal'), remapRegions(device))));
    const error = await failure(lastValueFrom(transition(device, 'pre-copy')));
    expect(error).toMatchObject({ code: 'VFIO_E_ACK_TIMEOUT', errno: 'ETIMEDOUT', device: mdev.uuid });
    expect(device.currentState.state).toBe('running');
    expect(mdev.read('state')).toBe('RUNNING');
    expect(await swallowing).toMatchObject({ code: 'VFIO_E_BATCH_DEADLINE' });
  });

  it('is refused with the reason where the remap irq is not enabled', async () => {
    expect(await failure(lastValueFrom(transition(device, 'pre-copy')))).toMatchObject({ code: 'VFIO_E_REFUSED', errno: 'EPERM' });
  });

  it('names the stall and its length when user code blocks the loop past the timeout', async () => {
    mdev.write('ack_timeout_ms', 300);
    // A user's operator that takes its time, on the loop.
    const stall = tap<RemapSignal>(({ because }) => {
      const until = process.hrtime.bigint() + (because === 'signal' ? 900_000_000n : 0n);
      while (process.hrtime.bigint() < until);
    });
    const running = remapIrq(device).pipe(stall, remapRegions(device)).subscribe();
    const writing = failure(lastValueFrom(transition(device, 'pre-copy')));
    const error = await writing;
    expect(error.code).toBe('VFIO_E_ACK_TIMEOUT');
    const blockedMs = Number(/blocked the event loop for (\d+) ms/.exec(error.message)?.[1]);
    expect(blockedMs).toBeGreaterThan(600);
    running.unsubscribe();
  });

  it('fails typed when a region does not answer in mid-remap, and frees the driver', async () => {
    const { errors } = await serve();
    mdev.write('fail_region_info', 5);
    expect(await failure(lastValueFrom(transition(device, 'pre-copy')))).toMatchObject({ code: 'VFIO_E_CANCELED' });
    mdev.write('fail_region_info', 0);
    expect(errors).toEqual([expect.objectContaining({ code: 'VFIO_E_IO', errno: 'EIO', operation: 'VFIO_DEVICE_GET_REGION_INFO(0)' })]);
    expect(mdev.number('irqs')).toBe(0);
  });

  it('serves the demand when the query answers at the second try', async () => {
    const { errors, stop } = await serve();
    mdev.write('fail_query_count', 1);
    mdev.write('fail_region_info', 5);
    await lastValueFrom(transition(device, 'pre-copy'));
    expect(errors).toEqual([]);
    stop();
  });

  it('closes against a blocked write', async () => {
    const arrived = new Subject<void>();
    const errors: unknown[] = [];
    heldPipeline(arrived, new Subject()).subscribe({ error: (error: unknown) => errors.push(error) });
    const signalled = firstValueFrom(arrived);
    const error = failure(lastValueFrom(transition(device, 'pre-copy')));
    await signalled;
    await device.close();
    expect((await error).code).toBe('VFIO_E_CANCELED');
    expect(errors).toEqual([expect.objectContaining({ code: 'VFIO_E_CLOSED' })]);
    expect(mdev.held()).toEqual(nothingHeld);
  });

  it('serves a change that the driver makes by itself', async () => {
    const { remaps, stop } = await serve();
    const layouts = firstValueFrom(device.layouts.pipe(filter((all) => all.get(0)?.mmappable === false)));
    mdev.write('revoke', 0);
    await layouts;
    expect(remaps.at(-1)?.diffs.find((diff) => diff.index === 0)?.revoked).toEqual([{ offset: 0, size: 65536 }]);
    const back = firstValueFrom(device.layouts.pipe(filter((all) => all.get(0)?.mmappable === true)));
    mdev.write('restore', 0);
    await back;
    expect(mdev.number('sent')).toBe(2);
    stop();
  });

  it('lets accessors survive: by map, by trap, and back, and no number is lost', async () => {
    const { stop } = await serve();
    const mailbox = device.region(0);
    mailbox.write64(0, 1n);
    const { data } = await lastValueFrom(transition(device, 'pre-copy'));
    mailbox.write64(8, 2n);
    await firstValueFrom(data?.close() ?? of(undefined));
    await lastValueFrom(transition(device, 'running'));
    mailbox.write64(16, 3n);
    expect(mdev.mailbox(0)).toMatchObject({ received: 3, duplicates: 0, highest: 3, by_map: 2, by_trap: 1 });
    stop();
  });

  it('delivers an ordinary irq', async () => {
    const raised = firstValueFrom(irq(device, { index: 1 }));
    mdev.write('raise_msi', 1);
    expect(await raised).toMatchObject({ line: { index: 1 }, count: 1n });
    expect(mdev.number('irqs')).toBe(0);
  });

  it('reads the saved state through the data channel to its end', async () => {
    const { stop } = await serve();
    const { data } = await lastValueFrom(transition(device, 'stop-copy'));
    let bytes = 0;
    for (;;) {
      const chunk = await firstValueFrom(data?.read(64 * 1024) ?? of({ kind: 'end' as const }));
      if (chunk.kind !== 'bytes') {
        expect(chunk.kind).toBe('end');
        break;
      }
      bytes += chunk.bytes.length;
    }
    expect(bytes).toBeGreaterThan(64 * 1024 + 128 * 1024);
    await firstValueFrom(data?.close() ?? of(undefined));
    await lastValueFrom(transition(device, 'running'));
    stop();
  });

  it('leaks nothing when it is opened and closed again and again', async () => {
    await device.close();
    const before = readdirSync('/proc/self/fd').length;
    for (let round = 0; round < 20; round++) {
      device = await open();
      const { stop } = await serve();
      if (round % 2 === 0) stop();
      await device.close();
      expect(mdev.held()).toEqual(nothingHeld);
    }
    // Fewer is no leak: a thread that was idle may have ended meanwhile.
    expect(readdirSync('/proc/self/fd').length).toBeLessThanOrEqual(before);
  });
});
