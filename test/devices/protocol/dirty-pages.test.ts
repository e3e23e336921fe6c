import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bitmapBytes, countDirty, dirtyRanges, maxBitmapBytes, reportParts, requireLog, requireReport } from '../../../src/devices/protocol/dirty-pages.js';
import { codeOf } from '../../support/devices.js';

const origin = { operation: 'log', device: 'd0' };
const page = 4096;

describe('a bitmap of written pages', () => {
  it('is read as ranges, neighbours joined', () => {
    const bitmap = { iova: 0x10_0000n, size: 20 * page, pageSize: page, bits: Uint8Array.of(0b1100_0001, 0b0000_0001, 0b1111_1000, 0, 0, 0, 0, 0) };
    // Bits 20 to 23 are beyond the range.
    expect([...dirtyRanges(bitmap)]).toEqual([{ iova: 0x10_0000n, size: page }, { iova: 0x10_6000n, size: 3 * page }, { iova: 0x11_3000n, size: page }]);
    expect(countDirty(bitmap)).toBe(5);
  });

  it('says of each page what its bit says, whatever stands in it', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), fc.integer({ min: 1, max: 500 }), fc.constantFrom(12, 16, 21), (bits, pages, shift) => {
      const pageSize = 2 ** shift;
      const bitmap = { iova: 1n << 40n, size: pages * pageSize, pageSize, bits };
      const expected = Array.from({ length: pages }, (_, n) => ((bits[n >> 3] ?? 0) & (1 << n % 8)) !== 0);
      const seen = new Array<boolean>(pages).fill(false);
      const ranges = [...dirtyRanges(bitmap)];
      for (const { iova, size } of ranges) seen.fill(true, Number(iova - bitmap.iova) / pageSize, Number(iova - bitmap.iova + BigInt(size)) / pageSize);
      expect(seen).toEqual(expected);
      expect(ranges.every(({ iova, size }, n) => n === 0 || iova > (ranges[n - 1]?.iova ?? 0n) + BigInt(ranges[n - 1]?.size ?? 0) && size > 0)).toBe(true);
      expect(countDirty(bitmap)).toBe(expected.filter(Boolean).length);
    }));
  });

  it('takes whole u64s', () => {
    expect([1, 63, 64, 65].map((pages) => bitmapBytes(pages * page, page))).toEqual([8, 8, 8, 16]);
  });
});

describe('a log', () => {
  it('is about 1 to 256 ranges of whole pages, apart from one another', () => {
    const many = (count: number) => Array.from({ length: count }, (_, n) => ({ iova: BigInt(n * page), size: page }));
    expect(codeOf(() => requireLog(many(256), page, origin))).toBe('nothing thrown');
    for (const ranges of [[], many(257), [{ iova: 1n, size: page }], [{ iova: 0n, size: 100 }], [{ iova: 0n, size: 0 }], [{ iova: -4096n, size: page }], [{ iova: 2n ** 64n - 4096n, size: 2 * page }], [...many(3), { iova: 4096n, size: page }], [{ iova: 0n, size: 2 * page }, { iova: 4096n, size: page }]]) {
      expect(codeOf(() => requireLog(ranges, page, origin)), ranges.map(({ iova }) => iova).join()).toBe('VFIO_E_RANGE');
    }
    for (const pageSize of [0, -4096, 2048, 5000, 2 ** 60, NaN]) expect(codeOf(() => requireLog([{ iova: 0n, size: 2 ** 40 }], pageSize, origin)), `${pageSize}`).toBe('VFIO_E_RANGE');
  });

  it('is reported in parts that its bitmap has room for', () => {
    const most = maxBitmapBytes * 8 * page;
    expect(reportParts({ iova: 0n, size: most }, page)).toHaveLength(1);
    const parts = reportParts({ iova: 4096n, size: 2 * most + page }, page);
    expect(parts).toEqual([{ iova: 4096n, size: most }, { iova: 4096n + BigInt(most), size: most }, { iova: 4096n + BigInt(2 * most), size: page }]);
    for (const part of parts) expect(codeOf(() => requireReport(part, page, origin))).toBe('nothing thrown');
    expect(reportParts({ iova: 0n, size: 200 * page }, page, 17)).toEqual([{ iova: 0n, size: 128 * page }, { iova: 128n * 4096n, size: 72 * page }]);
    expect(reportParts({ iova: 0n, size: 65 * page }, page, 1)).toHaveLength(2);
    expect(codeOf(() => requireReport({ iova: 0n, size: most + page }, page, origin))).toBe('VFIO_E_RANGE');
    expect(codeOf(() => requireReport({ iova: 0n, size: page }, 1024, origin))).toBe('VFIO_E_RANGE');
  });
});
