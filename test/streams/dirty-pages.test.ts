import { concatMap, defer, map, timer, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { DmaLogging } from '../../src/devices/port.js';
import { dirtyRanges } from '../../src/devices/protocol/dirty-pages.js';
import type { SoftwareDeviceOptions } from '../../src/devices/software/options.js';
import { VfioError } from '../../src/errors.js';
import { dirtyPages, type DirtyPages } from '../../src/streams/dirty-pages.js';
import { marbles, type MarbleTest } from '../../src/testing/index.js';
import { now, openedNow, twoRegions, type Alter, type Opened } from '../support/devices.js';

const page = 4096;
const ranges = [{ iova: 0n, size: 16 * page }, { iova: 0x10_0000n, size: 4 * page }];
const logs: SoftwareDeviceOptions = { ...twoRegions, remap: false, dmaLogging: page };
const count = map(({ pages }: DirtyPages) => `${pages}`);

/** A device that may write to all of the ranges. */
function withMemory(t: MarbleTest, options: SoftwareDeviceOptions = logs, alter: Alter = () => ({})): Opened & { readonly write: (page: number, in2nd?: boolean) => void } {
  const opened = openedNow(t.clock, options, alter);
  for (const range of ranges) {
    const source = now(opened.device.port.allocateDma(range.size));
    opened.device.port.dmaMap({ ...range, source, read: true, write: true }).subscribe({ error: (error: unknown) => { throw error; } });
  }
  return { ...opened, write: (n, in2nd = false) => expect(opened.driver.dma.write((in2nd ? 0x10_0000n : 0n) + BigInt(n * page + 8), Uint8Array.of(1, 2))).toBe(true) };
}

/** The log's calls take so many frames each, one after the other, and are told. */
function slowLog(t: MarbleTest, frames: number, told: (call: string) => void): Alter {
  return ({ dmaLogging }) => {
    let free = 0n;
    const slow = <T>(name: string, call: Observable<T>): Observable<T> => {
      const start = free > t.clock.nowNs() ? free : t.clock.nowNs();
      free = start + BigInt(frames) * 1000n;
      told(name);
      return timer(Number(free - t.clock.nowNs()) / 1e6, t.clock.scheduler).pipe(concatMap(() => call));
    };
    const log: DmaLogging = {
      start: (request) => defer(() => slow('start', dmaLogging.start(request))),
      report: (part) => defer(() => slow('report', dmaLogging.report(part))),
      stop: () => defer(() => slow('stop', dmaLogging.stop())),
    };
    return { dmaLogging: log };
  };
}

describe('dirtyPages', () => {
  it('is its diagram', () => {
    marbles((t) => {
      const { device, driver, write } = withMemory(t);
      t.at('         -w--v-----xy', { w: () => write(3), v: () => { write(0); write(0); }, x: () => write(1, true), y: () => write(15) });
      const when = t.hot('-----r-r-------r-|');
      t.expect(dirtyPages(device, { ranges, when }).pipe(count)).toBe(
        '             -----2-0-------2-|');
      t.atEnd(() => expect(driver.dma.log?.ranges).toEqual([]));
    });
  });

  it('ends by a signal, and stops the log', () => {
    marbles((t) => {
      const { device, driver } = withMemory(t);
      const controller = new AbortController();
      t.at('---x', { x: () => controller.abort('enough') });
      const when = t.hot('-r---r');
      t.expect(dirtyPages(device, { ranges, when, signal: controller.signal }).pipe(count)).toBe('-0-#', undefined, { code: 'VFIO_E_ABORTED', operation: 'dirtyPages', cause: 'enough' });
      t.atEnd(() => expect(driver.dma.log?.ranges).toEqual([]));
    });
  });

  it('says which pages, range by range', () => {
    marbles((t) => {
      const { device, write } = withMemory(t);
      t.at('-w', { w: () => { write(2); write(3); write(7); write(0, true); } });
      const named = map(({ bitmaps, atNs, device: name }: DirtyPages) => `${name} ${atNs}: ${bitmaps.flatMap((bitmap) => [...dirtyRanges(bitmap)]).map(({ iova, size }) => `${iova.toString(16)}+${size / page}`).join(' ')}`);
      t.expect(dirtyPages(device, { ranges, when: t.hot('--r|') }).pipe(named)).toBe('--r|', { r: 'software0 2000: 2000+2 7000+1 100000+1' });
    });
  });

  it('asks in the pages that it is told, and takes the device\'s word where that tracks larger ones', () => {
    marbles((t) => {
      const { device, write } = withMemory(t, { ...logs, dmaLogging: 4 * page });
      t.at('-w', { w: () => write(5) });
      t.expect(dirtyPages(device, { ranges, when: t.hot('--r|') }).pipe(count)).toBe('--4|');
      t.at('-----w', { w: () => write(5) });
      t.expect(dirtyPages(device, { ranges, when: t.hot('------r|'), pageSize: 2 * page }).pipe(count), '----^').toBe('------2|');
    });
  });

  it('starts at subscribe and stops at unsubscribe', () => {
    marbles((t) => {
      const { device, driver } = withMemory(t);
      const logged = (): number => driver.dma.log?.ranges.length ?? 0;
      const seen: number[] = [];
      t.at('lllllll', { l: () => seen.push(logged()) });
      const pages$ = dirtyPages(device, { ranges, when: t.hot('') });
      t.expect(pages$, '--^-!').toBe('');
      t.atEnd(() => expect(seen).toEqual([0, 0, 0, 2, 2, 0, 0]));
    });
  });

  it('answers all that is asked while a report is outstanding by one more', () => {
    marbles((t) => {
      const told: string[] = [];
      const { device, write } = withMemory(t, logs, slowLog(t, 2, (call) => told.push(call)));
      t.at('---w---w', { w: () => write(1) });
      // Two ranges, two frames each: a report takes four, after a start of two.
      const when = t.hot('r-rrr|');
      t.expect(dirtyPages(device, { ranges, when }).pipe(count)).toBe('------1---1-|');
      t.atEnd(() => expect(told).toEqual(['start', 'report', 'report', 'report', 'report', 'stop']));
    });
  });

  it('stops a log that comes after nobody wants it any more, and no other', () => {
    marbles((t) => {
      const told: string[] = [];
      const { device, driver } = withMemory(t, logs, slowLog(t, 5, (call) => told.push(`${call} ${t.clock.nowNs() / 1000n}`)));
      t.expect(dirtyPages(device, { ranges, when: t.hot('') }), '--^-!').toBe('');
      t.atEnd(() => expect([told, driver.dma.log?.ranges]).toEqual([['start 2', 'stop 7'], []]));
    });
  });

  it('leaves the log of somebody else alone', () => {
    marbles((t) => {
      const { device, driver } = withMemory(t);
      t.expect(dirtyPages(device, { ranges, when: t.hot('---r') }).pipe(count)).toBe('---0');
      t.expect(dirtyPages(device, { ranges, when: t.hot('') }), '-^').toBe('-#', undefined, { code: 'VFIO_E_BUSY' });
      t.at('--c', { c: () => expect(driver.dma.log?.ranges).toHaveLength(2) });
    });
  });

  it('is refused by a device that keeps none, and for what no log can be about', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, { ...twoRegions, remap: false });
      t.expect(dirtyPages(device, { ranges, when: t.hot('') })).toBe('#', undefined, { code: 'VFIO_E_UNSUPPORTED', errno: 'ENOTTY', operation: 'VFIO_DEVICE_FEATURE_DMA_LOGGING_START' });
      t.expect(dirtyPages(device, { ranges: [], when: t.hot('') })).toBe('#', undefined, { code: 'VFIO_E_RANGE' });
      t.expect(dirtyPages(device, { ranges, when: t.hot(''), pageSize: 1000 })).toBe('#', undefined, { code: 'VFIO_E_RANGE' });
      t.expect(dirtyPages(device, { ranges: [{ iova: 0n, size: 2 ** 50 }], when: t.hot('') })).toBe('#', undefined, { code: 'VFIO_E_LIMIT' });
    });
  });

  it('fails where a report fails: all must be taken for written; and stops', () => {
    marbles((t) => {
      const { device, driver } = withMemory(t);
      driver.faults.failDma('log report', 'EIO');
      t.expect(dirtyPages(device, { ranges, when: t.hot('--r-r') }).pipe(count)).toBe('--#', undefined, expect.objectContaining({
        code: 'VFIO_E_LOG_LOST', device: 'software0', cause: expect.objectContaining({ errno: 'EIO' }) as VfioError,
      }));
      t.atEnd(() => expect(driver.dma.log?.ranges).toEqual([]));
    });
  });

  it('fails where it cannot be stopped, and with the error of `when`', () => {
    marbles((t) => {
      const { device, driver } = withMemory(t);
      driver.faults.failDma('log stop', 'EIO');
      t.expect(dirtyPages(device, { ranges, when: t.hot('--|') })).toBe('--#', undefined, { errno: 'EIO' });
      t.at('---s', { s: () => { device.port.dmaLogging.stop().subscribe(); } });
      t.expect(dirtyPages(device, { ranges, when: t.hot('-----#') }), '----^').toBe('-----#');
      t.atEnd(() => expect(driver.dma.log?.ranges).toEqual([]));
    });
  });

  it('ends with its device', () => {
    marbles((t) => {
      const { device } = withMemory(t);
      t.at('--c', { c: () => void device.close() });
      t.expect(dirtyPages(device, { ranges, when: t.hot('---r') })).toBe('--#', undefined, { code: 'VFIO_E_CLOSED' });
      t.expect(dirtyPages(device, { ranges, when: t.hot('') }), '----^').toBe('----#', undefined, { code: 'VFIO_E_CLOSED' });
    });
  });
});
