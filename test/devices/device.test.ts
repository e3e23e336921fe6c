import { concatMap, delay, EMPTY, filter, from, ignoreElements, map, of, tap } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { RemapPlan, RemapSignal } from '../../src/devices/remap-batch.js';
import { acknowledge } from '../../src/operators/acknowledge.js';
import { applyRemap } from '../../src/operators/apply-remap.js';
import { decodeRegionBitmap } from '../../src/operators/decode-region-bitmap.js';
import { diffRegions } from '../../src/operators/diff-regions.js';
import { requeryRegions } from '../../src/operators/requery-regions.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { deviceState } from '../../src/streams/device-state.js';
import { irq } from '../../src/streams/irq.js';
import { regions } from '../../src/streams/regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition } from '../../src/streams/transition.js';
import { marbles } from '../../src/testing/index.js';
import { codeOf, now, openedNow, twoRegions, whole } from '../support/devices.js';
import { virtualClock } from '../support/virtual-clock.js';

describe('VfioDevice', () => {
  it('knows its regions and irqs: indexes without one are left out', () => {
    const { device } = openedNow(virtualClock());
    expect([...device.regions.keys()]).toEqual([0, 1, 2, 7]);
    expect(now(device.irqs()).map(({ index, remap }) => [index, remap?.subtype])).toEqual([[0, undefined], [1, undefined], [5, 'region-remap']]);
    expect([...now(device.layouts).keys()]).toEqual([0, 1, 2, 7]);
  });

  it('maps one region on demand, once', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock);
      expect(now(device.mapRegion(1))).toEqual([]);
      expect(now(device.mapRegion(1))).toEqual([]);
      expect([driver.vmas, codeOf(() => now(device.mapRegion(3)))]).toEqual([2, 'VFIO_E_NO_REGION']);
      t.expectDevice(device).toShow({ map: '<1,1>' });
    });
  });

  it('an irq that fails to answer fails the scan', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      driver.faults.corrupt('irqInfo', 5, (bytes) => bytes.fill(0xff));
      t.expect(device.irqs()).toBe('#', undefined, { code: 'VFIO_E_PROTOCOL' });
    });
  });
});

describe('closing', () => {
  it('twice is fine, and everything after it is VFIO_E_CLOSED', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      const region = device.region(0);
      now(device.mapRegion(0));
      region.write32(0, 1);
      void device.close();
      void device.close();
      const closed = [
        () => region.read8(0), () => region.read16(0), () => region.read32(0), () => region.read64(0),
        () => region.write8(0, 1), () => region.write16(0, 1), () => region.write32(0, 1), () => region.write64(0, 1n),
        () => device.region(1).read32(0), () => device.region(1).read32(0x5000), () => device.checkOpen('x'), () => device.settle([]),
      ];
      expect(closed.map(codeOf)).toEqual(closed.map(() => 'VFIO_E_CLOSED'));
      const holder = { name: 'h', release: () => EMPTY, regain: () => EMPTY };
      const calls = [
        region.request({ offset: 0, readBytes: 4 }), region.hold([whole], holder), device.mapRegion(0), device.irqs(), device.writeState('stop'),
        remapIrq(device), irq(device, { index: 1 }), transition(device, 'stop'), device.port.info(), device.port.getState(),
      ];
      for (const call of calls) t.expect(from(call).pipe(ignoreElements())).toBe('#', undefined, { code: 'VFIO_E_CLOSED' });
      t.expect(regions(device).pipe(ignoreElements())).toBe('|');
      t.expect(deviceState(device).pipe(ignoreElements())).toBe('|');
      t.expectDevice(device).toBeReleased();
      t.atEnd(() => expect([driver.opens, driver.vmas, driver.irqs, driver.violations]).toEqual([0, 0, 0, 0]));
    });
  });

  for (const step of ['requery', 'holder'] as const) {
    it(`in mid-batch (${step}) ends the pipeline, and no accessor comes back to life`, () => {
      marbles((t) => {
        const { device, driver } = openedNow(t.clock, twoRegions);
        const region = device.region(0);
        if (step === 'holder') t.at('-h', { h: () => { now(region.hold([whole], { name: 'h', release: () => t.cold('----|'), regain: () => EMPTY })); } });
        const later = concatMap(<T extends { readonly because: string }>(value: T) => (step === 'requery' && value.because === 'signal' ? of(value).pipe(delay(0.004, t.clock.scheduler)) : of(value)));
        t.at('--r-c---w-w', {
          r: () => driver.revoke(0),
          c: () => void device.close(),
          w: () => expect(codeOf(() => region.write32(0, 7))).toBe('VFIO_E_CLOSED'),
        });
        t.expect(remapIrq(device).pipe(later, remapRegions(device), map(({ because }) => because))).toBe('r---#', { r: 'registered' }, { code: 'VFIO_E_CLOSED' });
        t.expectDevice(device).toBeReleased();
        t.atEnd(() => expect([driver.opens, driver.vmas, driver.irqs, driver.violations]).toEqual([0, 0, 0, 0]));
      });
    });
  }

  it('in mid-batch (apply) does not bring back the accessors of what was kept, either', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      const late = concatMap((plan: RemapPlan) => of(plan).pipe(delay(plan.because === 'signal' ? 0.004 : 0, t.clock.scheduler)));
      t.at('-r----------s-c-----w', {
        r: () => driver.revoke(0), s: () => driver.restore(0), c: () => void device.close(),
        w: () => expect(codeOf(() => device.region(1).write32(0, 7))).toBe('VFIO_E_CLOSED'),
      });
      const remap$ = remapIrq(device).pipe(decodeRegionBitmap(), requeryRegions(device), diffRegions(device), late, applyRemap(device), acknowledge(device));
      t.expect(remap$.pipe(map(({ because }) => because))).toBe('r----s--------#', { r: 'registered', s: 'signal' }, { code: 'VFIO_E_CLOSED' });
      t.expectDevice(device).toBeReleased();
      t.atEnd(() => expect(driver.violations).toBe(0));
    });
  });

  const orders = [['transition', 'pipeline', 'device'], ['transition', 'device', 'pipeline'], ['pipeline', 'transition', 'device'], ['pipeline', 'device', 'transition'], ['device', 'transition', 'pipeline'], ['device', 'pipeline', 'transition']] as const;
  for (const order of orders) {
    it(`against a blocked write in the order ${order.join(', ')}: the write returns, and nothing is left`, () => {
      marbles((t) => {
        const { device, driver } = openedNow(t.clock, twoRegions);
        const kept = filter(({ because }: RemapSignal) => because !== 'signal');
        const pipeline = remapIrq(device).pipe(kept, remapRegions(device)).subscribe({ error: () => undefined });
        const writing = transition(device, 'pre-copy').subscribe({ error: () => undefined });
        const act = { transition: () => writing.unsubscribe(), pipeline: () => pipeline.unsubscribe(), device: () => void device.close() };
        t.at('----x', {
          x: () => {
            expect(driver.waiters).toBe(1);
            for (const step of order) act[step]();
          },
        });
        t.expectDevice(device).toBeReleased();
        t.atEnd(() => {
          const { opens, vmas, irqs, waiters, violations, state, trace } = driver;
          expect({ opens, vmas, irqs, waiters, violations, state }).toEqual({ opens: 0, vmas: 0, irqs: 0, waiters: 0, violations: 0, state: 'running' });
          expect(trace.find(({ event }) => event === 'release')?.fields['ret']).toBe('-125');
        });
      });
    });
  }

  it('waits for holders before the memory goes', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      const seen: number[] = [];
      now(device.mapRegion(0));
      now(device.region(0).hold([whole], { name: 'h', release: () => t.cold('---|').pipe(tap({ complete: () => seen.push(driver.vmas) })), regain: () => EMPTY }));
      t.at('-c---z', { c: () => void device.close(), z: () => expect(driver.vmas).toBe(0) });
      t.expectDevice(device).toBeReleased();
      t.atEnd(() => expect(seen).toEqual([1]));
    });
  });

  it('as a disposal waits until nothing is held', async () => {
    const { realClock } = await import('../../src/clock.js');
    const { device, driver } = openedNow(realClock, twoRegions);
    {
      await using owned = device;
      now(owned.mapRegion(0));
      expect(driver.vmas).toBe(1);
    }
    expect([driver.opens, driver.vmas]).toEqual([0, 0]);
    await device.close();
  });
});
