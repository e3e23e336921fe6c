import { concatMap, delay, filter, firstValueFrom, lastValueFrom, of, Subject, tap, type MonoTypeOperatorFunction } from 'rxjs';
import { afterEach, describe, expect, it } from 'vitest';
import { VfioError } from '../../src/errors.js';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice } from '../../src/devices/open.js';
import type { RemapWishes } from '../../src/devices/protocol/negotiation.js';
import type { Remap, RemapSignal } from '../../src/devices/remap-batch.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition } from '../../src/streams/transition.js';
import { nothingHeld, SampleMdev, type SampleOptions, type SampleProfile, type TraceLine } from '../support/mdev.js';

/** The user in every row of the protocol, on the real kernel. The driver's sysfs and trace are the witness. */

const patientMs = 20_000;
/** A bound that a test waits for. */
const briefMs = 400;

let open: { readonly mdev: SampleMdev; readonly device: VfioDevice } | undefined;

async function opened(options: SampleOptions): Promise<{ readonly mdev: SampleMdev; readonly device: VfioDevice }> {
  const mdev = new SampleMdev({ ackTimeoutMs: patientMs, ...options });
  open = { mdev, device: await firstValueFrom(openDevice(mdev.uuid)) };
  return open;
}

afterEach(async () => {
  if (open === undefined) return;
  const { mdev, device } = open;
  open = undefined;
  await device.close();
  expect(mdev.held()).toEqual(nothingHeld);
  mdev[Symbol.dispose]();
});

interface Served {
  readonly remaps: readonly Remap[];
  readonly errors: readonly unknown[];
}

/** The pipeline, with its first batches behind us: one for each page, or the only one. */
async function serve(device: VfioDevice, pages = 1, wishes: RemapWishes = {}, before: MonoTypeOperatorFunction<RemapSignal> = (source) => source): Promise<Served> {
  const remaps: Remap[] = [];
  const errors: unknown[] = [];
  const ready = new Subject<void>();
  const first = firstValueFrom(ready);
  remapIrq(device, wishes).pipe(before, remapRegions(device)).subscribe({
    next: (remap) => {
      remaps.push(remap);
      if (remaps.length === pages) ready.next();
    },
    error: (error: unknown) => errors.push(error),
  });
  await first;
  return { remaps, errors };
}

async function failure(work: Promise<unknown>): Promise<VfioError> {
  try {
    await work;
  } catch (error) {
    if (VfioError.is(error)) return error;
    throw error;
  }
  throw new Error('expected an error');
}

async function move(device: VfioDevice, to: 'pre-copy' | 'running', deadlineMs?: number): Promise<void> {
  const { data } = await lastValueFrom(transition(device, to, deadlineMs === undefined ? {} : { deadlineMs }));
  if (data !== undefined) await firstValueFrom(data.close());
}

const at = (trace: readonly TraceLine[], from: number, event: string, fields: Readonly<Record<string, string>> = {}): number =>
  trace.findIndex((line, index) => index > from && line.event === event && Object.entries(fields).every(([key, value]) => line.fields[key] === value));

interface Row {
  readonly name: string;
  readonly profile: SampleProfile;
  readonly wishes?: RemapWishes;
  /** What a revocation and the restoration of regions 0 and 1 add. */
  readonly count: bigint;
  readonly acks: boolean;
}

const rows: readonly Row[] = [
  { name: 'rfc-v4, write-zero', profile: 'rfc-v4', count: 3n, acks: true },
  { name: 'rfc-v4, write-one', profile: 'rfc-v4', wishes: { rfcAck: 'write-one' }, count: 3n, acks: true },
  { name: 'region-remap, doorbell, value', profile: 'doorbell-value', count: 1n, acks: true },
  { name: 'region-remap, doorbell, none', profile: 'doorbell-none', count: 1n, acks: false },
  { name: 'region-remap, bitmap, value', profile: 'bitmap-value', count: 3n, acks: true },
  { name: 'region-remap, bitmap, none', profile: 'bitmap-none', count: 3n, acks: false },
];

describe.each(rows)('$name', ({ profile, wishes, count, acks }) => {
  it('serves the demand while the write is blocked: signal, query, munmap, ack, release, in that order', async () => {
    const { mdev, device } = await opened({ profile });
    const { remaps, errors } = await serve(device, 1, wishes);
    expect([mdev.number('vmas'), mdev.number('irqs')]).toEqual([3, profile.endsWith('-value') ? 2 : 1]);
    mdev.write('trace', 0);

    await move(device, 'pre-copy');

    expect([mdev.read('state'), mdev.number('vmas'), mdev.number('waiters'), mdev.number('violations')]).toEqual(['PRE_COPY', 1, 0, 0]);
    const served = remaps.find(({ because }) => because === 'signal');
    expect([served?.sumRead, served?.acked]).toEqual([count, acks]);
    const trace = mdev.trace();
    const signal = at(trace, -1, 'signal', { page: '0' });
    const query = at(trace, signal, 'query', { region: '0', mmap: '0' });
    const gone = at(trace, query, 'munmap', { region: '0' });
    const answered = acks ? at(trace, gone, 'ack') : gone;
    const released = at(trace, answered, 'release', { ret: '0' });
    const done = at(trace, released, 'state', { to: 'PRE_COPY', ret: '0' });
    expect([signal, query, gone, answered, released, done].every((index) => index >= 0), trace.map(({ event, fields }) => `${event} ${JSON.stringify(fields)}`).join('\n')).toBe(true);

    await move(device, 'running');
    // The signal that only adds is not waited for: its batch may still come.
    expect([mdev.read('state'), mdev.number('vmas'), mdev.number('violations')]).toEqual(['RUNNING', 3, 0]);
    expect(errors).toEqual([]);
  });

  it('moves to and fro many times: no wait ends otherwise than acked, and nothing is left over', async () => {
    const { mdev, device } = await opened({ profile });
    const { remaps, errors } = await serve(device, 1, wishes);
    const rounds = 8;
    for (let round = 0; round < rounds; round += 1) {
      await move(device, 'pre-copy');
      expect(mdev.number('vmas')).toBe(1);
      await move(device, 'running');
      expect(mdev.number('vmas')).toBe(3);
    }
    const released = mdev.trace().filter(({ event }) => event === 'release').map(({ fields }) => fields['ret']);
    expect(released.every((ret) => ret === '0')).toBe(true);
    expect([mdev.number('violations'), errors]).toEqual([0, []]);
    if (acks) expect(remaps.filter(({ acked }) => acked).length).toBeLessThanOrEqual(remaps.filter(({ sumRead, doubtful }) => sumRead > 0n && !doubtful).length);
  });

  it('is freed at once when its pipeline ends in mid-wait', async () => {
    const { mdev, device } = await opened({ profile });
    const swallowed = new Subject<void>();
    const arrived = firstValueFrom(swallowed);
    const running = remapIrq(device, wishes)
      .pipe(filter(({ because }) => { if (because === 'signal') queueMicrotask(() => swallowed.next()); return because !== 'signal'; }), remapRegions(device))
      .subscribe({ error: (error: unknown) => { throw error; } });
    const writing = failure(move(device, 'pre-copy'));
    await arrived;
    expect(mdev.number('waiters')).toBe(1);
    running.unsubscribe();
    expect(await writing).toMatchObject({ code: 'VFIO_E_CANCELED', errno: 'ECANCELED' });
    expect([mdev.read('state'), mdev.number('irqs')]).toEqual(['RUNNING', 0]);
  });

  it('is refused with the cause named where the irq was never enabled', async () => {
    const { device } = await opened({ profile });
    expect(await failure(move(device, 'pre-copy'))).toMatchObject({ code: 'VFIO_E_REFUSED', errno: profile === 'rfc-v4' ? 'ENODEV' : 'EPERM' });
  });

  it('is served on a device that is no PCI function, its irq at index 1', async () => {
    const { mdev, device } = await opened({ profile, face: 'non-pci' });
    await serve(device, 1, wishes);
    await move(device, 'pre-copy');
    expect([mdev.number('vmas'), mdev.number('violations')]).toEqual([1, 0]);
  });
});

describe.each(rows.filter(({ profile }) => profile !== 'rfc-v4'))('$name, two pages', ({ profile, acks }) => {
  it('serves each page by its own irq, and one write waits for both', async () => {
    const { mdev, device } = await opened({ profile, pages: 2 });
    const { remaps } = await serve(device, 2);
    // Regions 0, 1 (two areas), 64 and 65.
    expect(mdev.number('vmas')).toBe(5);
    mdev.write('trace', 0);
    await move(device, 'pre-copy');
    expect([mdev.number('vmas'), mdev.number('waiters'), mdev.number('violations')]).toEqual([2, 0, 0]);
    const signals = mdev.trace().filter(({ event }) => event === 'signal').map(({ fields }) => fields['page']);
    expect([...new Set(signals)].sort()).toEqual(['0', '1']);
    const served = remaps.filter(({ because }) => because === 'signal');
    expect([...new Set(served.map(({ channel }) => channel.page))].sort()).toEqual([0, 1]);
    expect(served.every(({ acked }) => acked === acks)).toBe(true);
    await move(device, 'running');
    expect([mdev.number('vmas'), mdev.number('violations')]).toEqual([5, 0]);
  });
});

describe('saving-layout', () => {
  it('has the mappings moved around the write, both ways, without any irq', async () => {
    const { mdev, device } = await opened({ profile: 'saving-layout' });
    const { remaps } = await serve(device);
    expect(remaps.map(({ channel }) => channel.profile)).toEqual(['saving-layout']);
    expect([mdev.number('vmas'), mdev.number('irqs')]).toEqual([3, 0]);
    for (let round = 0; round < 10; round += 1) {
      await move(device, 'pre-copy');
      expect(device.region(0).mapped.areas).toEqual([]);
      expect(device.region(1).mapped.areas).toEqual([{ offset: 0, size: 0x8000 }, { offset: 0x1_8000, size: 0x8000 }]);
      await move(device, 'running');
      expect(device.region(1).mapped.areas).toEqual([{ offset: 0, size: 0x8000 }, { offset: 0x1_0000, size: 0x8000 }]);
    }
    await move(device, 'pre-copy');
    await firstValueFrom(device.reset());
    expect([mdev.read('state'), mdev.number('vmas'), mdev.number('violations')]).toEqual(['RUNNING', 3, 0]);
    expect(mdev.trace().some(({ event }) => event === 'refuse')).toBe(false);
  });

  it('says what is in the way where somebody else maps it, and goes on when that has gone', async () => {
    const { mdev, device } = await opened({ profile: 'saving-layout' });
    await serve(device);
    const other = await firstValueFrom(device.port.map(0, { offset: 0x2000, size: 0x1000 }));
    const error = await failure(move(device, 'pre-copy'));
    expect(error).toMatchObject({ code: 'VFIO_E_MAPPED', errno: 'EBUSY' });
    expect(error.message).toContain('0x0+0x10000 of region 0');
    // The others are mapped again.
    expect([mdev.read('state'), mdev.number('vmas')]).toEqual(['RUNNING', 4]);
    await firstValueFrom(device.port.unmap(other));
    await move(device, 'pre-copy');
    expect(mdev.read('state')).toBe('PRE_COPY');
  });
});

describe('static', () => {
  it('maps everything once, and has nothing to do with device_state', async () => {
    const { mdev, device } = await opened({ profile: 'static' });
    const { remaps } = await serve(device);
    expect(remaps.map(({ channel }) => channel.profile)).toEqual(['static']);
    await move(device, 'pre-copy');
    await move(device, 'running');
    expect([mdev.number('vmas'), mdev.number('irqs'), mdev.number('violations')]).toEqual([3, 0, 0]);
  });
});

describe('the idle rule of rfc-v4', () => {
  /** A signal of the driver's own, whose ack comes late. */
  const slow = concatMap((signal: RemapSignal) => (signal.because === 'signal' ? of(signal).pipe(delay(briefMs)) : of(signal)));

  it('keeps a write back while a batch is in flight, so that its ack releases nothing else, with a driver as posted too', async () => {
    const { mdev, device } = await opened({ profile: 'rfc-v4' });
    mdev.write('take_any_ack', 1);
    const begun = new Subject<void>();
    const arrived = firstValueFrom(begun);
    const told = tap(({ because }: RemapSignal) => { if (because === 'signal') queueMicrotask(() => begun.next()); });
    await serve(device, 1, {}, (source) => source.pipe(told, slow));
    mdev.write('trace', 0);
    mdev.write('revoke', 1);
    await arrived;
    await move(device, 'pre-copy');
    const trace = mdev.trace();
    const ack = at(trace, -1, 'ack');
    const wait = at(trace, -1, 'wait');
    expect(ack).toBeGreaterThan(0);
    expect(wait).toBeGreaterThan(ack);
    expect([mdev.number('vmas'), mdev.number('violations')]).toEqual([0, 0]);
  });

  it('at the deadline disables the irq, which frees a driver that hears no ack', async () => {
    const { mdev, device } = await opened({ profile: 'rfc-v4' });
    mdev.write('ignore_acks', 1);
    const { errors } = await serve(device);
    expect(await failure(move(device, 'pre-copy', 2 * briefMs))).toMatchObject({ code: 'VFIO_E_DEADLINE', operation: 'device_state pre-copy' });
    expect(errors).toEqual([expect.objectContaining({ code: 'VFIO_E_DEADLINE', operation: 'remapIrq' })]);
    await firstValueFrom(device.state.pipe(filter(({ going }) => going === undefined)));
    expect([mdev.number('waiters'), mdev.number('irqs'), mdev.read('state')]).toEqual([0, 0, 'RUNNING']);
    mdev.write('ignore_acks', 0);
  });
});

describe('a driver that drains its own signals', () => {
  it('costs a deadline, and no revoked area stays mapped beyond that', async () => {
    const { mdev, device } = await opened({ profile: 'doorbell-value', ackTimeoutMs: 4 * briefMs });
    mdev.write('drain', 'always');
    const { remaps, errors } = await serve(device);
    expect(await failure(move(device, 'pre-copy', briefMs))).toMatchObject({ code: 'VFIO_E_DEADLINE' });
    expect(mdev.number('vmas')).toBe(1);
    await firstValueFrom(device.state.pipe(filter(({ going }) => going === undefined)));
    expect(remaps.map(({ because }) => because)).toContain('after-deadline');
    expect([mdev.read('state'), mdev.number('violations'), errors]).toEqual(['RUNNING', 0, []]);
  });
});

describe('a bitmap with a bit that nobody declared', () => {
  it('is served all the same', async () => {
    const { mdev, device } = await opened({ profile: 'bitmap-value' });
    mdev.write('signal_undeclared', 1);
    const { remaps } = await serve(device);
    await move(device, 'pre-copy');
    expect(remaps.find(({ because }) => because === 'signal')?.sumRead).toBe(3n + (1n << 2n));
    expect([mdev.number('vmas'), mdev.number('violations')]).toEqual([1, 0]);
  });
});
