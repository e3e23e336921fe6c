import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeDestroy, encodeIoasAlloc, encodeIoasMap, encodeIoasUnmap, encodeIovaRanges, readIoasId, readIoasUnmapped, readIovaRanges } from '../../../src/devices/uapi/iommufd.js';
import { caught, fields, hex, survivesAnyBytes } from './bytes-helpers.js';

const answer = (count: number, alignment: bigint | number) => fields(['u32', 32], ['u32', 1], ['u32', count], ['u32', 0], ['u64', 0], ['u64', alignment]);
const memory = fields(['u64', 0], ['u64', 0xfedf_ffffn], ['u64', 0xfef0_0000n], ['u64', 2n ** 48n - 1n]);

it('asks byte by byte', () => {
  expect(encodeIoasAlloc()).toEqual(hex('0c 00 00 00  00 00 00 00  00 00 00 00'));
  expect(encodeDestroy(9)).toEqual(hex('08 00 00 00  09 00 00 00'));
  expect(encodeIovaRanges(2, 256, 0x7f00_0000_1000n)).toEqual(hex(`
    20 00 00 00  02 00 00 00  00 01 00 00  00 00 00 00
    00 10 00 00 00 7f 00 00  00 00 00 00 00 00 00 00`));
  expect(encodeIoasMap(2, { vaddr: 0x7f00_0000_1000n, iova: 0x10_0000n, size: 0x2000, read: true, write: false })).toEqual(hex(`
    28 00 00 00  05 00 00 00  02 00 00 00  00 00 00 00
    00 10 00 00 00 7f 00 00  00 20 00 00 00 00 00 00  00 00 10 00 00 00 00 00`));
  expect(encodeIoasMap(2, { vaddr: 0n, iova: 0n, size: 0, read: false, write: true })[4]).toBe(3);
  expect(encodeIoasUnmap(2, { iova: 0x10_0000n, size: 0x2000 })).toEqual(hex(`
    18 00 00 00  02 00 00 00  00 00 10 00 00 00 00 00  00 20 00 00 00 00 00 00`));
});

it('reads the id of an IOAS, and how much was unmapped', () => {
  expect(readIoasId(hex('0c 00 00 00  00 00 00 00  02 00 00 00'))).toBe(2);
  const unmapped = encodeIoasUnmap(2, { iova: 0n, size: 0x2000 });
  expect(readIoasUnmapped(unmapped, 0x2000)).toBe(0x2000);
  expect(caught(() => readIoasUnmapped(unmapped, 0x1000, 'd0'), 'VFIO_E_PROTOCOL').message).toContain('8192 bytes were unmapped, 4096 were asked for');
  caught(() => readIoasUnmapped(unmapped.subarray(0, 20), 0x2000), 'VFIO_E_PROTOCOL');
});

describe('readIovaRanges', () => {
  it('reads what the IOMMUs of an IOAS take; the kernel counts no ranges', () => {
    expect(readIovaRanges(answer(2, 4096), memory)).toEqual({
      pageSizes: 4096n,
      iovaRanges: [{ start: 0n, end: 0xfedf_ffffn }, { start: 0xfef0_0000n, end: 2n ** 48n - 1n }],
      available: undefined,
      dirtyPages: undefined,
    });
    expect(readIovaRanges(answer(0, 1), memory).iovaRanges).toEqual([]);
  });

  it.each([
    ['more ranges than there is room for', answer(3, 4096), memory, 'num_iovas is 3, there is room for 2'],
    ['no alignment', answer(0, 0), memory, 'an alignment of 0'],
    ['an alignment that is none', answer(0, 4097), memory, 'an alignment of 4097'],
    ['ranges out of order', answer(2, 4096), fields(['u64', 9], ['u64', 10], ['u64', 10], ['u64', 12]), 'iova range 1 is not in order'],
    ['a range that ends before it starts', answer(1, 4096), fields(['u64', 9], ['u64', 8]), 'iova range 0 is not in order'],
    ['an answer that is cut off', answer(0, 4096).subarray(0, 31), memory, 'cut off'],
  ])('refuses %s', (_, bytes, ranges, why) => {
    expect(caught(() => readIovaRanges(bytes, ranges, 'd0'), 'VFIO_E_PROTOCOL').message).toContain(why);
  });

  it('survives any bytes', () => {
    survivesAnyBytes((bytes) => readIovaRanges(bytes, memory), fc.constant(answer(2, 4096)));
    survivesAnyBytes((bytes) => readIovaRanges(answer(2, 4096), bytes), fc.constant(memory));
  });
});
