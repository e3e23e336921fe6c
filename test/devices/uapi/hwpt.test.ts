import fc from 'fast-check';
import { expect, it } from 'vitest';
import { encodeDirtyBitmapQuery, encodeDirtyTracking, encodeHwInfoQuery, encodeTrackingHwpt, readHwptId, readTracksWrites } from '../../../src/devices/uapi/hwpt.js';
import { hex, survivesAnyBytes } from './bytes-helpers.js';

it('asks byte by byte', () => {
  expect(encodeHwInfoQuery(5)).toEqual(hex(`
    28 00 00 00  00 00 00 00  05 00 00 00  00 00 00 00
    00 00 00 00 00 00 00 00  00 00 00 00  00 00 00 00  00 00 00 00 00 00 00 00`));
  expect(encodeTrackingHwpt(5, 2)).toEqual(hex(`
    28 00 00 00  02 00 00 00  05 00 00 00  02 00 00 00  00 00 00 00  00 00 00 00
    00 00 00 00  00 00 00 00  00 00 00 00 00 00 00 00`));
  expect(encodeDirtyTracking(9, true)).toEqual(hex('10 00 00 00  01 00 00 00  09 00 00 00  00 00 00 00'));
  expect(encodeDirtyTracking(9, false)).toEqual(hex('10 00 00 00  00 00 00 00  09 00 00 00  00 00 00 00'));
  expect(encodeDirtyBitmapQuery(9, { iova: 0x10_0000n, size: 0x2000 }, 4096, 0x7f00_0000_1000n)).toEqual(hex(`
    30 00 00 00  09 00 00 00  00 00 00 00  00 00 00 00
    00 00 10 00 00 00 00 00  00 20 00 00 00 00 00 00  00 10 00 00 00 00 00 00  00 10 00 00 00 7f 00 00`));
});

it('reads the id of a page table, and whether an IOMMU tracks', () => {
  const table = encodeTrackingHwpt(5, 2);
  table[16] = 9;
  expect(readHwptId(table)).toBe(9);
  const info = encodeHwInfoQuery(5);
  expect(readTracksWrites(info)).toBe(false);
  info[32] = 3;
  expect(readTracksWrites(info)).toBe(true);
  survivesAnyBytes(readHwptId, fc.constant(table));
  survivesAnyBytes(readTracksWrites, fc.constant(info));
});
