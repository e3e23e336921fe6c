import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeDmaMap, encodeDmaUnmap, encodeIommuInfoQuery, readIommuInfo, readUnmapped } from '../../../src/devices/uapi/dma.js';
import { caught, fields, hex, survivesAnyBytes } from './bytes-helpers.js';
import { iommuInfo, iovaRanges } from './encoders.js';

const intel = hex(`
  68 00 00 00   # argsz 104
  03 00 00 00   # PGSIZES | CAPS
  00 10 20 40 00 00 00 00   # 4 KiB, 2 MiB, 1 GiB
  18 00 00 00   # cap_offset 24
  00 00 00 00
  01 00 01 00 48 00 00 00   # IOVA_RANGE, next 72
  02 00 00 00 00 00 00 00   # two of them
  00 00 f0 fe 00 00 00 00 ff ff ff ff 00 00 00 00
  00 00 00 00 00 00 00 00 ff ff df fe 00 00 00 00
  03 00 01 00 58 00 00 00   # DMA_AVAIL, next 88
  fe ff 00 00 00 00 00 00   # 65534
  63 00 01 00 00 00 00 00   # an id of a later kernel
  00 00 00 00 00 00 00 00`);

describe('readIommuInfo', () => {
  it('reads a chain byte by byte, and leaves alone what it does not know', () => {
    expect(readIommuInfo(intel)).toEqual({
      pageSizes: 0x4020_1000n,
      iovaRanges: [{ start: 0n, end: 0xfedf_ffffn }, { start: 0xfef0_0000n, end: 0xffff_ffffn }],
      available: 65_534,
      dirtyPages: undefined,
    });
  });

  it('reads the 16 bytes of a kernel without capabilities', () => {
    expect(readIommuInfo(hex('10 00 00 00  01 00 00 00  00 10 00 00 00 00 00 00'))).toEqual({ pageSizes: 4096n, iovaRanges: undefined, available: undefined, dirtyPages: undefined });
  });

  it('reads the migration capability, and takes another version of one for none', () => {
    const migration = { id: 2, payload: fields(['u32', 0], ['u32', 0], ['u64', 4096], ['u64', 0x1000_0000]) };
    expect(readIommuInfo(iommuInfo({ capabilities: [migration] })).dirtyPages).toEqual({ pageSizes: 4096n, maxBitmapBytes: 0x1000_0000 });
    expect(readIommuInfo(iommuInfo({ capabilities: [{ ...migration, version: 2 }] })).dirtyPages).toBeUndefined();
  });

  it.each([
    ['no page size', iommuInfo({ pageSizes: 0n }), 'has no page size'],
    ['a range that ends before it starts', iommuInfo({ capabilities: [iovaRanges([[2n, 1n]])] }), 'ends before it starts'],
    ['ranges that overlap', iommuInfo({ capabilities: [iovaRanges([[0n, 9n], [9n, 12n]])] }), 'two iova ranges overlap at 0x9'],
    ['more ranges than there is room for', iommuInfo({ capabilities: [iovaRanges([[0n, 9n]], 2)] }), 'nr_iovas is 2, there is room for 1'],
    ['an answer that is cut off', intel.subarray(0, 12), 'cut off'],
  ])('refuses %s', (_, bytes, why) => {
    expect(caught(() => readIommuInfo(bytes, 'd0'), 'VFIO_E_PROTOCOL').message).toContain(why);
  });

  it('survives any bytes', () => {
    const range = fc.tuple(fc.bigInt({ min: 0n, max: 100n }), fc.bigInt({ min: 0n, max: 100n }));
    survivesAnyBytes(readIommuInfo, fc.array(range, { maxLength: 3 }).map((ranges) => iommuInfo({ capabilities: [iovaRanges(ranges), { id: 3, payload: fields(['u32', 7]) }] })));
  });
});

it('asks byte by byte', () => {
  expect(encodeIommuInfoQuery(24).subarray(0, 8)).toEqual(hex('18 00 00 00 00 00 00 00'));
  expect(encodeDmaMap({ vaddr: 0x7f00_0000_1000n, iova: 0x10_0000n, size: 0x2000, read: true, write: false })).toEqual(hex(`
    20 00 00 00  01 00 00 00
    00 10 00 00 00 7f 00 00
    00 00 10 00 00 00 00 00
    00 20 00 00 00 00 00 00`));
  expect(encodeDmaMap({ vaddr: 0n, iova: 0n, size: 0, read: false, write: true })[4]).toBe(2);
  expect(encodeDmaUnmap({ iova: 0x10_0000n, size: 0x2000 })).toEqual(hex(`
    18 00 00 00  00 00 00 00
    00 00 10 00 00 00 00 00
    00 20 00 00 00 00 00 00`));
});

it('believes no unmap of more than was asked for', () => {
  const answer = encodeDmaUnmap({ iova: 0n, size: 0x2000 });
  expect(readUnmapped(answer, 0x2000)).toBe(0x2000);
  expect(caught(() => readUnmapped(answer, 0x1000, 'd0'), 'VFIO_E_PROTOCOL').message).toContain('8192 bytes were unmapped, 4096 were asked for');
});
