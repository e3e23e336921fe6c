import { concatMap, EMPTY, expand, filter, firstValueFrom, from, lastValueFrom, map, of, reduce, ReplaySubject, Subject, take, toArray, type Observable } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VfioError } from '../../src/errors.js';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice } from '../../src/devices/open.js';
import type { DataChannel } from '../../src/devices/port.js';
import type { RemapSignal } from '../../src/devices/remap-batch.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition, type Arc } from '../../src/streams/transition.js';
import { nothingHeld, SampleMdev, type TraceLine } from '../support/mdev.js';

/** One body for both generations of device_state: what a caller writes does not say which the driver speaks. */

/** An emulated processor may take seconds to start a thread: the driver's clock decides only where a test wants it to. */
const patientMs = 20_000;

const registers = { region: 2, offset: 0x100 };

async function failure(work: Promise<unknown>): Promise<VfioError> {
  try {
    await work;
  } catch (error) {
    if (VfioError.is(error)) return error;
    throw error;
  }
  throw new Error('expected an error');
}

function dataOf({ data }: Arc): DataChannel {
  if (data === undefined) throw new Error('no session began');
  return data;
}

/** Everything that the session has to give in this state. */
function readAll(data: DataChannel): Promise<readonly Uint8Array[]> {
  const next = data.read(1024 * 1024);
  return lastValueFrom(
    next.pipe(
      expand((chunk) => (chunk.kind === 'bytes' ? next : EMPTY)),
      filter((chunk) => chunk.kind === 'bytes'),
      map(({ bytes }) => bytes),
      toArray(),
    ),
  );
}

const go = (device: VfioDevice, to: Parameters<typeof transition>[1]): Promise<Arc> => lastValueFrom(transition(device, to));

describe.each([1, 2] as const)('device_state of version %i on the real kernel', (migration) => {
  let mdevs: SampleMdev[];
  let devices: VfioDevice[];

  const open = async (ackTimeoutMs = patientMs): Promise<{ readonly mdev: SampleMdev; readonly device: VfioDevice }> => {
    const mdev = new SampleMdev({ ackTimeoutMs, migration });
    mdevs.push(mdev);
    const device = await firstValueFrom(openDevice(mdev.uuid));
    devices.push(device);
    return { mdev, device };
  };

  /** The pipeline, and its first batch behind us. `before` may keep a signal. */
  const serve = async (device: VfioDevice, before: (signal: RemapSignal) => Observable<RemapSignal> = (signal) => of(signal)): Promise<void> => {
    const ready = new Subject<void>();
    const first = firstValueFrom(ready);
    remapIrq(device).pipe(concatMap(before), remapRegions(device)).subscribe({ next: () => ready.next(), error: () => undefined });
    await first;
  };

  beforeEach(() => {
    mdevs = [];
    devices = [];
  });

  afterEach(async () => {
    for (const device of devices) await device.close();
    for (const mdev of mdevs) {
      expect(mdev.held()).toEqual(nothingHeld);
      mdev[Symbol.dispose]();
    }
  });

  it('is found, with its states', async () => {
    const { device } = await open();
    expect(device.migration).toEqual({ version: migration, flags: migration === 1 ? 5 : 7 });
    expect(device.regions.has(9)).toBe(migration === 1);
    expect(device.currentState.state).toBe('running');
  });

  it('carries what one device holds to another, byte for byte', async () => {
    const source = await open();
    const target = await open();
    await serve(source.device);
    await serve(target.device);
    const written = Uint8Array.from({ length: 2048 }, (_, n) => (n * 7) & 0xff);
    await lastValueFrom(source.device.port.access({ ...registers, write: written }));
    await lastValueFrom(source.device.port.access({ region: 1, offset: 0x1_0000, write: written }));

    const save = dataOf(await go(source.device, 'pre-copy'));
    const early = await readAll(save);
    expect(await lastValueFrom(save.read(1))).toEqual({ kind: 'quiet' });
    await go(source.device, 'stop-copy');
    const late = await readAll(save);
    expect(await lastValueFrom(save.read(1))).toEqual({ kind: 'end' });

    const resume = dataOf(await go(target.device, 'resuming'));
    await lastValueFrom(from([...early, ...late]).pipe(concatMap((bytes) => resume.write(bytes)), reduce((done) => done, undefined)));
    await go(target.device, 'running');
    for (const region of [1, 2]) {
      const size = target.device.region(region).size;
      const [ours, theirs] = await Promise.all([source, target].map(({ device }) => lastValueFrom(device.port.access({ region, offset: 0, readBytes: size }))));
      expect(Buffer.from(theirs ?? []).equals(Buffer.from(ours ?? []))).toBe(true);
    }
    expect(Buffer.from(await lastValueFrom(target.device.port.access({ ...registers, readBytes: written.length })))).toEqual(Buffer.from(written));
    await go(source.device, 'stop');
    expect((await failure(lastValueFrom(save.read(1)))).code).toBe('VFIO_E_NO_DEVICE');
    expect([source.mdev.read('state'), target.mdev.read('state')]).toEqual(['STOP', 'RUNNING']);
  });

  it('is written while a remap is demanded and served: the driver saw signal, wait, unmap, ack, and only then the state', async () => {
    const { mdev, device } = await open();
    const letGo = new Subject<void>();
    const arrived = new Subject<void>();
    await serve(device, (signal) => {
      if (signal.because !== 'signal') return of(signal);
      queueMicrotask(() => arrived.next());
      return letGo.pipe(take(1), map(() => signal));
    });
    mdev.write('trace', 0);
    const signalled = firstValueFrom(arrived);
    const writing = go(device, 'stop-copy');
    await signalled;
    // The write is blocked in the kernel: the state is the old one, and trapped access and queries go on beside it.
    expect([mdev.number('waiters'), mdev.read('state')]).toEqual([1, 'RUNNING']);
    expect(await lastValueFrom(device.port.access({ ...registers, readBytes: 4 }))).toHaveLength(4);
    letGo.next();
    const arc = await writing;
    expect(arc).toMatchObject({ from: 'running', to: 'stop-copy' });
    expect([mdev.read('state'), mdev.number('violations')]).toEqual(['STOP_COPY', 0]);
    const seen = mdev.trace();
    const first = (match: (line: TraceLine) => boolean): number => seen.findIndex(match);
    const order = [
      first(({ event }) => event === 'signal'),
      first(({ event, fields }) => event === 'munmap' && fields['region'] === '0'),
      first(({ event }) => event === 'ack'),
      first(({ event, fields }) => event === 'release' && fields['ret'] === '0'),
      first(({ event, fields }) => event === 'state' && fields['to'] === 'STOP_COPY' && fields['ret'] === '0'),
    ];
    expect(order.every((at) => at >= 0)).toBe(true);
    expect([...order].sort((a, b) => a - b)).toEqual(order);
    expect(first(({ event }) => event === 'wait')).toBeLessThan(order[1] ?? 0);
    await lastValueFrom(dataOf(arc).close());
  });

  it('is refused before the remap irq is registered, and the state stays', async () => {
    const { mdev, device } = await open();
    expect((await failure(go(device, 'pre-copy'))).code).toBe('VFIO_E_REFUSED');
    expect([mdev.read('state'), device.currentState.state]).toEqual(['RUNNING', 'running']);
  });

  it('fails where the driver gets no ack, with the state and the layout as before', async () => {
    const { mdev, device } = await open(500);
    await serve(device);
    mdev.write('ignore_acks', 1);
    expect((await failure(go(device, 'stop-copy'))).code).toBe('VFIO_E_ACK_TIMEOUT');
    expect([mdev.read('state'), device.currentState.state]).toEqual(['RUNNING', 'running']);
    mdev.write('ignore_acks', 0);
    expect((await go(device, 'stop-copy')).to).toBe('stop-copy');
  });

  it('that is stuck stays outstanding after the deadline, refuses a second, and close frees it', async () => {
    const { mdev, device } = await open();
    await serve(device);
    mdev.write('ignore_acks', 1);
    const error = await failure(lastValueFrom(transition(device, 'stop-copy', { deadlineMs: 300 })));
    expect(error.code).toBe('VFIO_E_DEADLINE');
    expect(device.currentState).toMatchObject({ state: 'running', going: 'stop-copy' });
    expect((await failure(go(device, 'stop'))).code).toBe('VFIO_E_BUSY');
    expect(mdev.number('waiters')).toBe(1);
    await device.close();
    expect(mdev.held()).toEqual(nothingHeld);
    expect(mdev.trace().some(({ event, fields }) => event === 'release' && fields['ret'] === '-125')).toBe(true);
  });

  it('begins anew after a reset: RUNNING, and the session is over', async () => {
    const { mdev, device } = await open();
    await serve(device);
    const save = dataOf(await go(device, 'pre-copy'));
    await lastValueFrom(device.port.reset());
    expect(mdev.read('state')).toBe('RUNNING');
    expect((await failure(lastValueFrom(save.read(64)))).code).toBe('VFIO_E_NO_DEVICE');
  });

  it('takes wrong data for what it is when RESUMING is left', async () => {
    const { mdev, device } = await open();
    await serve(device);
    const resume = dataOf(await go(device, 'resuming'));
    await lastValueFrom(resume.write(new Uint8Array(40_000).fill(7)));
    expect((await failure(go(device, 'running'))).errno).toBe('EINVAL');
    expect([mdev.read('state'), device.currentState.state]).toEqual(['RESUMING', 'resuming']);
  });
});

describe('device_state of version 1, in each row of the protocol on the real kernel', () => {
  const rows = ['rfc-v4', 'doorbell-value', 'doorbell-none', 'bitmap-value', 'bitmap-none', 'saving-layout', 'static'] as const;

  it.each(rows)('%s: mappings follow the layout of each state, and the driver sees nothing wrong', async (profile) => {
    using mdev = new SampleMdev({ ackTimeoutMs: patientMs, migration: 1, profile });
    await using device = await firstValueFrom(openDevice(mdev.uuid));
    const errors: unknown[] = [];
    const mapped = (): readonly string[] => [0, 1].map((index) => device.region(index).mapped.areas.map(({ offset, size }) => `0x${offset.toString(16)}+0x${size.toString(16)}`).join(','));
    const offered = (): readonly string[] => [0, 1].map((index) => new RegExp(`^region=${index} areas=(.*)$`, 'm').exec(mdev.read('layout'))?.[1] ?? '');
    const ready = new ReplaySubject<void>(1);
    remapIrq(device).pipe(remapRegions(device)).subscribe({ next: () => ready.next(), error: (error: unknown) => errors.push(error) });
    await firstValueFrom(ready);
    const whole = mapped();
    expect(whole).toEqual(offered());
    for (const to of ['pre-copy', 'stop-copy', 'stop', 'running', 'resuming'] as const) {
      await go(device, to);
      expect(mdev.read('state'), to).toBe(to.toUpperCase().replace('-', '_'));
      expect(mapped(), to).toEqual(offered());
      const saves = to === 'pre-copy' || to === 'stop-copy';
      expect(mapped()[0], to).toBe(saves && profile !== 'static' ? '' : whole[0]);
    }
    // Nothing was written, so that only a reset leads out of RESUMING.
    await firstValueFrom(device.reset());
    expect([mdev.read('state'), mapped()]).toEqual(['RUNNING', whole]);
    expect([errors, mdev.number('violations')]).toEqual([[], 0]);
    await device.close();
    expect(mdev.held()).toEqual(nothingHeld);
  });
});

describe('the migration region of the sample driver', () => {
  it('is chosen while nobody has the device open, and gives way to the second generation', async () => {
    using mdev = new SampleMdev({ migration: 1 });
    await using device = await firstValueFrom(openDevice(mdev.uuid));
    expect(() => mdev.write('migration', 2)).toThrow('EBUSY');
    await device.close();
    mdev.write('migration', 2);
    expect(() => mdev.write('migration', 3)).toThrow('EINVAL');
    const again = await firstValueFrom(openDevice(mdev.uuid));
    expect(again.migration).toEqual({ version: 2, flags: 7 });
    await again.close();
  });

  it('answers fields whole or not at all, and takes no state that is none', async () => {
    using mdev = new SampleMdev({ migration: 1 });
    await using device = await firstValueFrom(openDevice(mdev.uuid));
    const read = (offset: number, readBytes: number) => device.port.accessNow({ region: 9, offset, readBytes });
    expect([read(0, 4), read(4, 4), read(8, 8), read(24, 8)]).toEqual([Uint8Array.of(1, 0, 0, 0), new Uint8Array(4), new Uint8Array(8), new Uint8Array(8)]);
    for (const [offset, bytes] of [[0, 8], [0, 2], [8, 4], [16, 4], [32, 8]] as const) expect(() => read(offset, bytes), `${bytes} bytes at ${offset}`).toThrow('EINVAL');
    // device_state is written on the state lane, and nowhere else.
    expect(() => device.port.accessNow({ region: 9, offset: 0, write: Uint8Array.of(2, 0, 0, 0) })).toThrow('transition()');
    expect(() => device.port.accessNow({ region: 9, offset: 24, write: new Uint8Array(8) })).toThrow('EINVAL');
    await device.close();
  });
});
