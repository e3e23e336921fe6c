import fc from 'fast-check';
import { EMPTY, noop } from 'rxjs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { disregard, nowCall } from '../../src/devices/call.js';
import type { VfioDevice } from '../../src/devices/device.js';
import { DmaHolds, type DmaHold } from '../../src/devices/dma-holds.js';
import type { Area, Mapping } from '../../src/devices/port.js';
import { intersectAreas, normalizeAreas, subtractAreas } from '../../src/devices/protocol/areas.js';
import { isSaving } from '../../src/devices/protocol/migration-states.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition } from '../../src/streams/transition.js';
import { altered, openedNow } from '../support/devices.js';
import { virtualClock } from '../support/virtual-clock.js';

/** P1, P5 and P6 of what is mapped for DMA, under random schedules of revocations, holds, transitions and faults. */

const page = 0x1000;
const pages = 4;
const options = {
  regions: [0, 1].map((index) => ({ index, size: pages * page, areas: 'all' as const, savingAreas: [{ offset: index * page, size: 2 * page }] })),
  mailbox: false as const,
};

type Act =
  | { readonly do: 'revoke' | 'restore' | 'release'; readonly region: number }
  | { readonly do: 'hold'; readonly region: number; readonly first: number; readonly count: number }
  | { readonly do: 'over' | 'fail map' | 'fail unmap' };

const region = fc.nat(1);
const act: fc.Arbitrary<Act> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('revoke' as const, 'restore' as const, 'release' as const), region }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('hold' as const), region, first: fc.nat(pages - 1), count: fc.integer({ min: 1, max: pages }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('over' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('fail map' as const, 'fail unmap' as const) }) },
);
/** How many turns pass before the next act: 0 is the same turn. */
const schedules = fc.array(fc.record({ act, turns: fc.nat(3) }), { minLength: 1, maxLength: 25, size: 'max' });

interface Held {
  readonly index: number;
  readonly area: Area;
  readonly hold: DmaHold;
}

/** Plays one schedule; returns what it found wrong, and how many revocations met a range. */
function play(schedule: readonly { readonly act: Act; readonly turns: number }[], unmapsAnything = false): { readonly wrong: readonly string[]; readonly met: number } {
  const clock = virtualClock();
  const wrong: string[] = [];
  let met = 0;
  let pipeline: 'serves' | 'failed' = 'serves';
  const { device, driver } = openedNow(clock, options, (port) => altered(port, () => (unmapsAnything ? { unmap: (mapping, area) => nowCall(() => { below.munmap(mapping, area ?? mapping.area); }) } : {})));
  const below = driver as unknown as { munmap: (mapping: Mapping, area: Area) => void };
  remapIrq(device).pipe(remapRegions(device)).subscribe({ error: () => { pipeline = 'failed'; } });
  const held: Held[] = [];

  const look = (): void => {
    for (const { iova, region: index = 0, area = { offset: 0, size: 0 } } of driver.dma.ranges) {
      if (subtractAreas([area], device.region(index).mapped.areas).length > 0) wrong.push(`region ${index} at ${area.offset} is in the IOMMU and not mapped`);
      driver.dma.write(iova, Uint8Array.of(1));
    }
  };

  const perform = (one: Act): void => {
    switch (one.do) {
      case 'revoke':
        met += driver.dma.ranges.filter((range) => range.region === one.region).length > 0 ? 1 : 0;
        driver.revoke(one.region);
        break;
      case 'restore': driver.restore(one.region); break;
      case 'over': transition(device, isSaving(device.currentState.state) ? 'running' : 'pre-copy').subscribe({ error: noop }); break;
      case 'release': {
        const index = held.findIndex((candidate) => candidate.index === one.region);
        if (index >= 0) disregard(held.splice(index, 1)[0]?.hold.release());
        break;
      }
      case 'hold': {
        const area = { offset: one.first * page, size: Math.min(one.count, pages - one.first) * page };
        // Each region has addresses of its own; holds of one region may overlap, and then the later one is refused.
        const iova = BigInt(0x10_0000 * (one.region + 1) + area.offset);
        device.region(one.region).mapDma(area, { iova, read: true, write: true }).subscribe({ next: (hold) => held.push({ index: one.region, area, hold }), error: noop });
        break;
      }
      case 'fail map': driver.faults.failDma('map', 'ENOMEM'); break;
      case 'fail unmap': driver.faults.failDma('unmap', 'EIO'); break;
    }
  };

  for (const { act: one, turns } of schedule) {
    perform(one);
    for (let turn = 0; turn < turns; turn += 1) {
      clock.advanceMs(0.001);
      look();
    }
  }
  clock.advanceMs(60_000);
  look();
  if (!schedule.some(({ act: one }) => one.do === 'fail map' || one.do === 'fail unmap')) {
    if ((pipeline as string) === 'failed') wrong.push('the pipeline failed');
    else wrong.push(...incomplete(device, held));
  }
  driver.faults.failDma('unmap', 'EIO', 0);
  void device.close();
  clock.advanceMs(60_000);
  wrong.push(...driver.violationList.map(({ kind }) => kind));
  if (driver.dma.ranges.length > 0) wrong.push('a range is left after close');
  if (driver.opens + driver.vmas + driver.irqs > 0) wrong.push(`opens ${driver.opens}, vmas ${driver.vmas}, irqs ${driver.irqs} after close`);
  return { wrong, met };
}

/** What of a hold is mapped and not in the IOMMU, when all is quiet. */
function incomplete(device: VfioDevice, held: readonly Held[]): readonly string[] {
  return held.flatMap(({ index, area, hold }) => {
    const inside = normalizeAreas(hold.ranges.map(({ iova, size }) => ({ offset: Number(iova) - 0x10_0000 * (index + 1), size })));
    const missing = subtractAreas(intersectAreas(device.region(index).mapped.areas, [area]), inside);
    return missing.map(({ offset }) => `region ${index} at ${offset} is mapped and not in the IOMMU`);
  });
}

const seed = Number(process.env['VFIO_RX_SEED'] ?? Date.now() % 1_000_000);
const numRuns = Number(process.env['VFIO_RX_RUNS'] ?? 300);

afterEach(() => {
  vi.restoreAllMocks();
});

describe('areas that are mapped for DMA', () => {
  it('are in the IOMMU exactly while they are mapped and wanted, whatever happens in whichever order', () => {
    let met = 0;
    const details = fc.check(fc.property(schedules, (schedule) => {
      const run = play(schedule);
      met += run.met;
      if (run.wrong.length > 0) throw new Error(run.wrong.slice(0, 3).join('\n'));
    }), { seed, numRuns });
    console.log(`DMA: ${details.numRuns} schedules, ${met} revocations met a range, seed ${seed}`);
    expect({ seed, failure: details.errorInstance, counterexample: JSON.stringify(details.counterexample) }).toEqual({ seed, failure: null, counterexample: 'null' });
    expect(met).toBeGreaterThan(numRuns / 10);
  }, 120_000);

  it.each<readonly [what: string, spoil: () => boolean, complaint: RegExp]>([
    ['does not leave, and is not unmapped then', () => { vi.spyOn(DmaHolds.prototype, 'leave').mockReturnValue(EMPTY); return false; }, /the pipeline failed/],
    ['does not leave, and is unmapped all the same', () => { vi.spyOn(DmaHolds.prototype, 'leave').mockReturnValue(EMPTY); return true; }, /in the IOMMU and not mapped|unmapped-in-iommu|stale-write/],
    ['does not enter again', () => { vi.spyOn(DmaHolds.prototype, 'enter').mockReturnValue(EMPTY); return false; }, /mapped and not in the IOMMU/],
  ])('one that %s is seen', (_, spoil, complaint) => {
    const unmapsAnything = spoil();
    const details = fc.check(fc.property(schedules, (schedule) => {
      if (complaint.test(play(schedule, unmapsAnything).wrong.join('\n'))) throw new Error('seen');
    }), { seed, numRuns, endOnFailure: true });
    expect({ seed, failed: details.failed, why: details.errorInstance }).toMatchObject({ failed: true, why: { message: 'seen' } });
  }, 120_000);
});
