import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { dirtyRanges } from '../../../src/devices/protocol/dirty-pages.js';
import { DmaLog } from '../../../src/devices/software/dma-log.js';

const page = 4096;
const pages = 64;
const logged = { iova: BigInt(8 * page), size: pages * page };

/** The pages that a report names. */
function reported(log: DmaLog, part = logged, pageSize = page): readonly number[] {
  const bits = log.report(part, pageSize);
  if (typeof bits === 'string') throw new Error(bits);
  return [...dirtyRanges({ ...part, pageSize, bits })].flatMap(({ iova, size }) => Array.from({ length: size / pageSize }, (_, n) => Number(iova - part.iova) / pageSize + n));
}

describe('the log of a software device', () => {
  it('says once what was written, and forgets it when it is stopped', () => {
    const log = new DmaLog(page);
    log.wrote(logged.iova, 1);
    expect(log.start([logged], page)).toBe(page);
    expect(log.start([logged], page)).toBe('EBUSY');
    log.wrote(logged.iova + 4095n, 2);
    expect(reported(log)).toEqual([0, 1]);
    expect(reported(log)).toEqual([]);
    log.wrote(logged.iova, 1);
    log.stop();
    expect(log.report(logged, page)).toBe('EINVAL');
    log.start([logged], page);
    expect(reported(log)).toEqual([]);
  });

  it('hears nothing outside its ranges, and reports nothing there', () => {
    const log = new DmaLog(page);
    log.start([logged], page);
    log.wrote(0n, 8 * page);
    log.wrote(logged.iova + BigInt(logged.size), page);
    log.wrote(logged.iova, 0);
    expect(reported(log)).toEqual([]);
    expect(log.report({ iova: logged.iova - BigInt(page), size: 2 * page }, page)).toBe('EINVAL');
  });

  it('never misses a page, whatever page it tracks and is asked in, and names no other than those around', () => {
    fc.assert(fc.property(fc.constantFrom(page, 4 * page, 16 * page), fc.constantFrom(page, 2 * page), fc.array(fc.tuple(fc.nat(logged.size - 1), fc.integer({ min: 1, max: 3 * page })), { maxLength: 8 }), (tracked, asked, writes) => {
      const log = new DmaLog(tracked);
      expect(log.start([logged], asked)).toBe(Math.max(tracked, asked));
      const must = new Set<number>();
      const may = new Set<number>();
      for (const [at, size] of writes) {
        const end = Math.min(at + size, logged.size);
        log.wrote(logged.iova + BigInt(at), end - at);
        for (let byte = at; byte < end; byte += 1) must.add(Math.floor(byte / asked));
        const around = Math.max(tracked, asked);
        for (let byte = Math.floor(at / around) * around - around; byte < end + 2 * around; byte += page) may.add(Math.floor(byte / asked));
      }
      // In two parts: a page that both have something of is lost to neither.
      const half = { iova: logged.iova, size: logged.size / 2 };
      const seen = [...reported(log, half, asked), ...reported(log, { iova: half.iova + BigInt(half.size), size: half.size }, asked).map((n) => n + half.size / asked)];
      for (const n of must) expect(seen).toContain(n);
      for (const n of seen) expect(may).toContain(n);
      expect(reported(log, logged, asked)).toEqual([]);
    }));
  });
});
