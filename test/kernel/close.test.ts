import { concatMap, firstValueFrom, lastValueFrom, NEVER, of, Subject, tap, type MonoTypeOperatorFunction } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice } from '../../src/devices/open.js';
import type { RemapSignal } from '../../src/devices/remap-batch.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition } from '../../src/streams/transition.js';
import { nothingHeld, SampleMdev, vfioFds, type SampleProfile } from '../support/mdev.js';

/** The driver would wait this long for the ack: whatever ends sooner has ended for another reason. */
const ackTimeoutMs = 60_000;

const steps = ['transition', 'pipeline', 'device'] as const;
type Step = (typeof steps)[number];

function permutations<T>(items: readonly T[]): readonly (readonly T[])[] {
  if (items.length === 0) return [[]];
  return items.flatMap((item, n) => permutations([...items.slice(0, n), ...items.slice(n + 1)]).map((rest) => [item, ...rest]));
}

/** Keeps the batch of the first demand, for ever. */
function keeping(arrived: Subject<void>): MonoTypeOperatorFunction<RemapSignal> {
  return concatMap((batch) => {
    if (batch.because !== 'signal') return of(batch);
    arrived.next();
    return NEVER;
  });
}

describe.each<SampleProfile>(['rfc-v4', 'doorbell-value', 'doorbell-none', 'bitmap-value', 'bitmap-none'])('closing against a blocked write of device_state, %s', (profile) => {
  let mdev: SampleMdev;
  let device: VfioDevice;

  beforeEach(async () => {
    mdev = new SampleMdev({ ackTimeoutMs, profile });
    device = await firstValueFrom(openDevice(mdev.uuid));
  });

  afterEach(async () => {
    await device.close();
    mdev[Symbol.dispose]();
  });

  it.each(permutations(steps).map((order) => [order.join(', '), order] as const))('in the order %s: the write returns, and nothing is left', async (_, order) => {
    const arrived = new Subject<void>();
    const blocked = firstValueFrom(arrived);
    const first = new Subject<void>();
    const registered = firstValueFrom(first);
    const pipeline = remapIrq(device).pipe(keeping(arrived), remapRegions(device), tap(() => first.next())).subscribe({ error: () => undefined });
    await registered;
    const writing = transition(device, 'pre-copy').subscribe({ error: () => undefined });
    await blocked;
    expect(mdev.number('waiters')).toBe(1);

    const act: Readonly<Record<Step, () => void>> = {
      transition: () => writing.unsubscribe(),
      pipeline: () => pipeline.unsubscribe(),
      device: () => void device.close(),
    };
    const beganMs = performance.now();
    for (const step of order) act[step]();
    await device.close();
    expect(performance.now() - beganMs).toBeLessThan(ackTimeoutMs / 2);
    expect(mdev.held()).toEqual(nothingHeld);
    expect(vfioFds()).toEqual([]);
    const released = mdev.trace().find(({ event }) => event === 'release');
    expect(released?.fields['ret']).toBe('-125');
    expect(mdev.read('state')).toBe('RUNNING');
    expect(await lastValueFrom(device.state)).toMatchObject({ state: 'running' });
  });
});
