import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { filter, ignoreElements, map, Subject, tap, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { disregard } from '../../src/devices/call.js';
import type { VfioDevice } from '../../src/devices/device.js';
import type { DmaHold } from '../../src/devices/dma-holds.js';
import type { SoftwareVendorDriver } from '../../src/devices/software/driver-face.js';
import { warningChannel } from '../../src/diagnostics.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition } from '../../src/streams/transition.js';
import { marbles, type MarbleTest } from '../../src/testing/index.js';
import { altered, firstPage, openedNow, secondPage, twoRegions, whole } from '../support/devices.js';

const dma = { iova: 0x10_0000n, read: true, write: true };

/** Region 0 keeps its first page in the saving group, and loses its second. */
const halved = { ...twoRegions, regions: [{ index: 0, size: 0x2000, areas: 'all' as const, savingAreas: [firstPage] }, { index: 1, size: 0x2000, areas: 'all' as const, savingAreas: [] }] };

/** What is in the IOMMU, in pages of the region: `0-1` both as one range, `0` the first alone. */
function shown(driver: SoftwareVendorDriver): string {
  return driver.dma.ranges.map(({ area, size }) => {
    const first = (area?.offset ?? 0) / 0x1000;
    return size === 0x1000 ? `${first}` : `${first}-${first + size / 0x1000 - 1}`;
  }).join() || 'none';
}

interface Scene {
  readonly device: VfioDevice;
  readonly driver: SoftwareVendorDriver;
  /** What the IOMMU shows after each call that changes it. */
  readonly said: Subject<string>;
  readonly dma$: (area?: typeof whole) => Observable<string>;
  readonly hold: () => DmaHold;
}

/** A device that is served, whose DMA calls are told. */
function scene(t: MarbleTest, options = twoRegions): Scene {
  const said = new Subject<string>();
  const { device, driver } = openedNow(t.clock, options, (port) => {
    const told = <T>(call: Observable<T>): Observable<T> => call.pipe(map((value) => { said.next(shown(driver)); return value; }));
    return altered(port, () => ({ dmaMap: (request) => told(port.dmaMap(request)), dmaUnmap: (range) => told(port.dmaUnmap(range)) }));
  });
  let held: DmaHold | undefined;
  return {
    device, driver, said,
    dma$: (area = whole) => device.region(0).mapDma(area, dma).pipe(map((hold) => { held = hold; return 'held'; })),
    hold: () => { if (held === undefined) throw new Error('no hold yet'); return held; },
  };
}

const served = (device: VfioDevice): Observable<never> => remapIrq(device).pipe(remapRegions(device), ignoreElements());

describe('an area that is mapped for DMA', () => {
  it('leaves the IOMMU before it is unmapped, and enters again when it has been mapped', () => {
    marbles((t) => {
      const { device, driver, said, dma$ } = scene(t);
      t.expect(served(device)).toBe('');
      t.at('        ---r----s', { r: () => driver.revoke(0), s: () => driver.restore(0) });
      t.expect(dma$(), '-^').toBe('-<h,|>', { h: 'held' });
      t.expect(said).toBe(' -i-o----i', { i: '0-1', o: 'none' });
      t.expectDevice(device).toShow({
        unmap: '             ---u',
        map: '               <m0,m1>-------<m0>',
        ack: '               ---1----1' });
      t.atEnd(() => expect(driver.violations).toBe(0));
    });
  });

  it('leaves whole where a part is revoked, and what is kept enters again before the ack', () => {
    marbles((t) => {
      const { device, driver, said, dma$, hold } = scene(t, halved);
      const ranges: unknown[] = [];
      t.expect(served(device)).toBe('');
      t.expect(transition(device, 'pre-copy').pipe(ignoreElements()), '---^').toBe('---|');
      t.expect(dma$(), '-^').toBe('-<h,|>', { h: 'held' });
      t.expect(said).toBe('-b-<n,f>', { b: '0-1', n: 'none', f: '0' });
      t.at('----x', { x: () => ranges.push(...hold().ranges) });
      t.atEnd(() => {
        expect(ranges).toEqual([{ iova: dma.iova, size: 0x1000 }]);
        expect(device.region(0).mapped.areas).toEqual([firstPage]);
        expect(driver.violations).toBe(0);
      });
    });
  });

  it('stays where only others of its region are revoked', () => {
    marbles((t) => {
      const { device, driver, said, dma$ } = scene(t, halved);
      t.expect(served(device)).toBe('');
      t.expect(transition(device, 'pre-copy').pipe(ignoreElements()), '---^').toBe('---|');
      t.expect(dma$(firstPage), '-^').toBe('-<h,|>', { h: 'held' });
      t.expect(said).toBe('-f', { f: '0' });
      t.atEnd(() => expect(driver.dma.ranges).toMatchObject([{ area: firstPage }]));
    });
  });

  it('enters when it is mapped, where it was not yet', () => {
    marbles((t) => {
      const { device, said, dma$ } = scene(t);
      t.expect(dma$()).toBe('<h,|>', { h: 'held' });
      t.expect(device.mapRegion(0).pipe(ignoreElements()), '--^').toBe('--|');
      t.expect(said).toBe('--i', { i: '0-1' });
    });
  });

  it('that does not leave is fatal: nothing is unmapped, nothing is acked', () => {
    marbles((t) => {
      const { device, driver, dma$ } = scene(t);
      t.expect(served(device)).toBe('---#', undefined, { code: 'VFIO_E_IO', operation: 'VFIO_IOMMU_UNMAP_DMA' });
      t.expect(dma$(), '-^').toBe('-<h,|>', { h: 'held' });
      t.at('---r', { r: () => { driver.faults.failDma('unmap', 'EIO'); driver.revoke(0); } });
      t.expectDevice(device).toShow({ unmap: '', ack: '' });
      t.atEnd(() => expect([shown(driver), driver.vmas, driver.irqs, driver.acked]).toEqual(['0-1', 2, 0, 0n]));
    });
  });

  it('that does not enter again is a warning, and tried again with the next batch', () => {
    marbles((t) => {
      const { device, driver, said, dma$ } = scene(t);
      const warnings: string[] = [];
      const heard = (message: unknown): void => void warnings.push((message as { readonly what: string }).what);
      subscribe(warningChannel.name, heard);
      t.expect(served(device)).toBe('');
      t.expect(dma$(), '-^').toBe('-<h,|>', { h: 'held' });
      t.at('        ---r-s---r', { r: () => driver.revoke(0), s: () => { driver.faults.failDma('map', 'ENOMEM'); driver.restore(0); } });
      t.at('        -------x', { x: () => driver.revoke(1) });
      t.expect(said).toBe(' -i-o---i-o', { i: '0-1', o: 'none' });
      t.expectDevice(device).toShow({ ack: '---1-1-1-1' });
      t.atEnd(() => { unsubscribe(warningChannel.name, heard); expect(warnings).toEqual(['an area of region 0 did not enter the IOMMU']); });
    });
  });

  it('is nothing where it cannot enter: the hold fails, and nothing of it stays', () => {
    marbles((t) => {
      const { device, driver, dma$ } = scene(t);
      t.expect(served(device)).toBe('');
      t.expect(device.region(1).mapDma(secondPage, { ...dma, iova: dma.iova + 0x1000n }).pipe(ignoreElements()), '-^').toBe('-|');
      t.expect(dma$(), '--^').toBe('--#', undefined, { code: 'VFIO_E_BUSY' });
      t.at('---r-s', { r: () => driver.revoke(0), s: () => driver.restore(0) });
      t.atEnd(() => expect(driver.dma.ranges).toMatchObject([{ region: 1 }]));
    });
  });

  it('is refused where its addresses are held already, mapped or not', () => {
    marbles((t) => {
      const { device, dma$ } = scene(t);
      t.expect(dma$(firstPage)).toBe('<h,|>', { h: 'held' });
      t.expect(device.region(0).mapDma(secondPage, dma)).toBe('#', undefined, { code: 'VFIO_E_BUSY' });
    });
  });

  it('that is not waited for is taken out again', () => {
    marbles((t) => {
      const { device, driver, dma$ } = scene(t);
      t.expect(device.mapRegion(0).pipe(ignoreElements())).toBe('|');
      t.at('-x', { x: () => dma$().subscribe().unsubscribe() });
      t.atEnd(() => expect(shown(driver)).toBe('none'));
    });
  });

  it('is revoked while it is still on its way in', () => {
    marbles((t) => {
      const { device, driver, said, dma$ } = scene(t);
      t.expect(device.mapRegion(0).pipe(ignoreElements())).toBe('|');
      t.at('-x', { x: () => { dma$().subscribe(); device.region(0).revoke([whole], 1).subscribe(); } });
      t.expect(said).toBe('-<i,o>', { i: '0-1', o: 'none' });
      t.atEnd(() => expect([driver.vmas, driver.violations]).toEqual([0, 0]));
    });
  });

  it('given back leaves, stays out, and may be given back twice, also after close', () => {
    marbles((t) => {
      const { device, driver, said, dma$, hold } = scene(t);
      t.expect(served(device)).toBe('------|');
      t.expect(dma$(), '-^').toBe('-<h,|>', { h: 'held' });
      t.at('--x---c-y', { x: () => hold().release().subscribe(), c: () => void device.close(), y: () => hold().release().subscribe() });
      t.at('---r-s', { r: () => driver.revoke(0), s: () => driver.restore(0) });
      t.expect(said).toBe('-io', { i: '0-1', o: 'none' });
      t.expectDevice(device).toBeReleased();
    });
  });

  it('given back does not enter again, though a batch attaches while it is on its way out', () => {
    marbles((t) => {
      const { device, driver, said, dma$, hold } = scene(t);
      const region = device.region(0);
      for (const page of [firstPage, secondPage]) t.expect(region.attach([page]).pipe(ignoreElements())).toBe('|');
      t.expect(dma$(), '-^').toBe('-<h,|>', { h: 'held' });
      // The first of its two ranges is out, and known to be, when the second leaves.
      disregard(said.pipe(filter((now) => now === 'none'), tap(() => disregard(region.attach([])))));
      t.at('        --x', { x: () => hold().release().subscribe() });
      t.expect(said).toBe(' -<f,b><s,n>', { f: '0', b: '0,1', s: '1', n: 'none' });
      t.atEnd(() => expect(driver.dma.ranges).toEqual([]));
    });
  });

  it('is refused unless it is whole pages of the region', () => {
    marbles((t) => {
      const { device } = scene(t);
      for (const area of [{ offset: 0, size: 100 }, { offset: 0, size: 0 }, { offset: 0x1000, size: 0x2000 }, { offset: -0x1000, size: 0x1000 }, { offset: 1, size: 0x1000 }]) {
        t.expect(device.region(0).mapDma(area, dma)).toBe('#', undefined, { code: 'VFIO_E_RANGE' });
      }
      t.expect(device.region(0).mapDma(firstPage, { ...dma, iova: 5n })).toBe('#', undefined, { code: 'VFIO_E_RANGE' });
    });
  });
});
