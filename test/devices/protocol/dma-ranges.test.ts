import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { dmaMapError, IovaTable, requirePlace, requireRange, wholeRanges } from '../../../src/devices/protocol/dma-ranges.js';
import type { IovaRange } from '../../../src/devices/uapi/dma.js';
import { VfioError } from '../../../src/errors.js';
import { codeOf } from '../../support/devices.js';

const page = 4096;
const origin = { operation: 'VFIO_IOMMU_MAP_DMA', device: 'd0' };
const at = (first: number, pages = 1): IovaRange => ({ iova: BigInt(first * page), size: pages * page });
const limits = { pageSizes: 0x20_1000n, iovaRanges: [{ start: 0n, end: 0xfedf_ffffn }, { start: 0xfef0_0000n, end: 2n ** 39n - 1n }], available: 2, dirtyPages: undefined };

/** The plain way: a list, looked through from end to end. */
const overlap = (a: IovaRange, b: IovaRange): boolean => a.iova < b.iova + BigInt(b.size) && b.iova < a.iova + BigInt(a.size);

describe('IovaTable', () => {
  it('knows what overlaps, whatever came and went', () => {
    const step = fc.record({ remove: fc.boolean(), first: fc.nat(40), pages: fc.integer({ min: 1, max: 6 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const table = new IovaTable<IovaRange>();
        const plain: IovaRange[] = [];
        for (const { remove, first, pages } of steps) {
          const range = at(first, pages);
          const others = plain.filter((one) => overlap(one, range));
          expect(table.overlapping(range)).toEqual([...others].sort((a, b) => (a.iova < b.iova ? -1 : 1)));
          if (remove) {
            for (const one of others) {
              table.remove(one);
              plain.splice(plain.indexOf(one), 1);
            }
          } else if (others.length > 0) {
            expect(codeOf(() => table.add(range, origin))).toBe('VFIO_E_BUSY');
          } else {
            table.add(range, origin);
            plain.push(range);
          }
        }
        expect(table.ranges).toHaveLength(plain.length);
      }),
    );
  });

  it('names both ranges that overlap, and removes only the very one', () => {
    const table = new IovaTable<IovaRange>();
    table.add(at(2, 2), origin);
    expect(() => table.add(at(3), origin)).toThrow('d0: VFIO_IOMMU_MAP_DMA: iova 0x3000+0x1000 overlaps iova 0x2000+0x2000');
    table.remove(at(2, 2));
    expect(table.ranges).toHaveLength(1);
  });
});

describe('what is refused before the kernel is asked', () => {
  it.each([
    ['half a page', { iova: 0n, size: 2048 }],
    ['nothing', { iova: 0n, size: 0 }],
    ['an address inside a page', { iova: 1n, size: page }],
    ['an address below 0', { iova: -4096n, size: page }],
    ['the end of 64 bits', { iova: 2n ** 64n - 4096n, size: 2 * page }],
    ['no number', { iova: 0n, size: NaN }],
  ])('%s', (_, range) => {
    expect(codeOf(() => requireRange(range, page, origin))).toBe('VFIO_E_RANGE');
  });

  it('what the IOMMU does not reach, also across a hole, and what it has no entry for', () => {
    const place = (range: IovaRange, change = {}) => codeOf(() => requirePlace(range, { ...limits, ...change }, origin));
    expect(place({ iova: 2n ** 64n - 4096n, size: page }, { iovaRanges: undefined })).toBe('nothing thrown');
    expect(place({ iova: 0xfedf_f000n, size: page })).toBe('nothing thrown');
    expect(place({ iova: 0xfedf_f000n, size: 2 * page })).toBe('VFIO_E_RANGE');
    expect(place({ iova: 0xfee0_0000n, size: page })).toBe('VFIO_E_RANGE');
    expect(place({ iova: 0n, size: 2 ** 32 })).toBe('VFIO_E_RANGE');
    expect(place({ iova: 2n ** 39n, size: page })).toBe('VFIO_E_RANGE');
    expect(place(at(0), { iovaRanges: [] })).toBe('VFIO_E_RANGE');
    expect(place(at(0), { pageSizes: 0x1_0000n })).toBe('VFIO_E_RANGE');
    expect(place(at(0), { available: 0 })).toBe('VFIO_E_LIMIT');
    expect(place(at(0), { available: undefined })).toBe('nothing thrown');
  });

  it('an unmap that would cut a range, or take another device’s', () => {
    const table = new IovaTable<IovaRange>();
    const [one, two] = [at(0, 2), at(4, 2)];
    table.add(one, origin);
    table.add(two, origin);
    const whole = (range: IovaRange, mine = () => true) => wholeRanges(table, range, mine, origin);
    expect(whole(at(0, 6))).toEqual([one, two]);
    expect(whole(at(2, 2))).toEqual([]);
    expect(() => whole(at(1, 5))).toThrow('iova 0x1000+0x5000 would cut iova 0x0+0x2000');
    expect(() => whole(at(4))).toThrow('VFIO_E_RANGE');
    expect(() => whole(at(0, 6), () => false)).toThrow('was mapped by another device of this process');
  });
});

it.each([
  ['EEXIST', 'VFIO_E_BUSY', 'overlaps'],
  ['ENOSPC', 'VFIO_E_LIMIT', 'dma_entry_limit'],
  ['ENOMEM', 'VFIO_E_LIMIT', 'ulimit -l'],
  ['EINVAL', 'VFIO_E_RANGE', 'dmaLimits()'],
  ['EFAULT', 'VFIO_E_UNSUPPORTED', 'cannot reach'],
  ['EINTR', 'VFIO_E_CANCELED', 'interrupted'],
])('%s is %s, and says what a person can do', (errno, code, advice) => {
  const error = dmaMapError(errno, origin, 'cause');
  expect(VfioError.is(error) && { code: error.code, errno: error.errno, cause: error.cause }).toEqual({ code, errno, cause: 'cause' });
  expect(error.message).toContain(advice);
});
