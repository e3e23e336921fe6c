import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { readCapabilities } from '../../../src/devices/uapi/capabilities.js';
import { readSparseAreas } from '../../../src/devices/uapi/sparse-areas.js';
import { caught, concat } from './bytes-helpers.js';
import { chain, sparse, type AreaToWrite, type CapabilityToWrite } from './encoders.js';

const origin = { operation: 'VFIO_DEVICE_GET_REGION_INFO(0)' };
const fixedBytes = 32;

function readOne(capability: CapabilityToWrite, regionSize: number) {
  const answer = concat([new Uint8Array(fixedBytes), chain(fixedBytes, [capability])]);
  const [found] = readCapabilities(answer, { start: fixedBytes, fixedBytes }, origin);
  if (found === undefined) throw new Error('no capability');
  return readSparseAreas(found, regionSize, origin);
}
const read = (areas: readonly AreaToWrite[], regionSize = 0x4000) => readOne(sparse(areas), regionSize);
const refusal = (areas: readonly AreaToWrite[]): string => caught(() => read(areas), 'VFIO_E_PROTOCOL').message;

describe('readSparseAreas', () => {
  it('sorts', () => {
    expect(read([{ offset: 0x3000, size: 0x1000 }, { offset: 0, size: 0x1000 }])).toEqual([{ offset: 0, size: 0x1000 }, { offset: 0x3000, size: 0x1000 }]);
  });

  it('keeps areas that touch apart, as the driver named them', () => {
    expect(read([{ offset: 0, size: 0x1000 }, { offset: 0x1000, size: 0x3000 }])).toHaveLength(2);
  });

  it('takes an empty list, and leaves areas of size 0 out wherever they are', () => {
    expect(read([])).toEqual([]);
    expect(read([{ offset: 0, size: 0 }, { offset: 0x9000, size: 0 }, { offset: 0x1000, size: 0x1000 }])).toEqual([{ offset: 0x1000, size: 0x1000 }]);
  });

  it('refuses an area that leaves the region, also where the sum wraps', () => {
    expect(read([{ offset: 0x3000, size: 0x1000 }])).toHaveLength(1);
    expect(refusal([{ offset: 0x3000, size: 0x1001 }])).toContain('at byte 48 of the answer: area 0');
    expect(refusal([{ offset: 0x4001, size: 1 }])).toContain('leaves the region of 16384 bytes');
    expect(refusal([{ offset: 0, size: 1 }, { offset: 2n ** 64n - 4096n, size: 8192 }])).toContain('at byte 64 of the answer: offset of area 1');
  });

  it('refuses areas that overlap', () => {
    expect(refusal([{ offset: 0x1000, size: 0x1000 }, { offset: 0, size: 0x1001 }])).toContain('the areas at 0 and 4096 overlap');
    expect(refusal([{ offset: 0, size: 0x1000 }, { offset: 0, size: 0x1000 }])).toContain('overlap');
  });

  it.each([1, 0x1000_0000, 0xffff_ffff])('refuses nr_areas %d where there is room for none', (count) => {
    const { payload, ...rest } = sparse([]);
    new DataView(payload.buffer).setUint32(0, count, true);
    expect(caught(() => readOne({ ...rest, payload }, 0x4000), 'VFIO_E_PROTOCOL').message).toContain(`at byte 40 of the answer: nr_areas is ${count}, there is room for 0`);
  });

  it('refuses another version', () => {
    expect(caught(() => readOne(sparse([], 2), 0x4000), 'VFIO_E_PROTOCOL').message).toContain('version 2');
  });

  it('gives back every list of areas that lie apart, in order', () => {
    const gaps = fc.array(fc.record({ gap: fc.nat(3), size: fc.integer({ min: 1, max: 5 }) }), { maxLength: 20 });
    fc.assert(
      fc.property(gaps, fc.array(fc.nat(), { minLength: 20, maxLength: 20 }), (list, keys) => {
        let at = 0;
        const areas = list.map(({ gap, size }) => {
          const offset = at + gap * 4096;
          at = offset + size * 4096;
          return { offset, size: size * 4096 };
        });
        const shuffled = areas.map((area, i) => ({ area, key: keys[i] ?? 0 })).sort((a, b) => a.key - b.key).map(({ area }) => area);
        expect(read(shuffled, at)).toEqual(areas);
      }),
    );
  });
});
