import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { coversAreas, intersectAreas, normalizeAreas, subtractAreas } from '../../../src/devices/protocol/areas.js';
import type { Area } from '../../../src/devices/uapi/region-info.js';

/** Areas over few bytes, in any order, overlapping, touching, empty. */
const areas = fc.array(fc.record({ offset: fc.integer({ min: 0, max: 24 }), size: fc.integer({ min: 0, max: 8 }) }), { maxLength: 6 });

/** The bytes that lie in some of them: what a list of areas means. */
function bytes(list: readonly Area[]): ReadonlySet<number> {
  return new Set(list.flatMap(({ offset, size }) => Array.from({ length: size }, (_, n) => offset + n)));
}

/** Sorted, apart from one another, none empty. */
function isNormal(list: readonly Area[]): boolean {
  return list.every(({ offset, size }, n) => size > 0 && (n === 0 || offset > (list[n - 1]?.offset ?? 0) + (list[n - 1]?.size ?? 0)));
}

describe('areas are sets of bytes', () => {
  it('normalize: the same bytes, sorted and apart', () => {
    fc.assert(fc.property(areas, (a) => {
      const normal = normalizeAreas(a);
      expect(bytes(normal)).toEqual(new Set([...bytes(a)]));
      expect(isNormal(normal)).toBe(true);
      expect(normalizeAreas(normal)).toEqual(normal);
    }));
  });

  it('intersect and subtract: byte by byte', () => {
    fc.assert(fc.property(areas, areas, (a, b) => {
      const inA = bytes(a);
      const inB = bytes(b);
      const both = intersectAreas(a, b);
      const rest = subtractAreas(a, b);
      expect(bytes(both)).toEqual(new Set([...inA].filter((byte) => inB.has(byte))));
      expect(bytes(rest)).toEqual(new Set([...inA].filter((byte) => !inB.has(byte))));
      expect(isNormal(both) && isNormal(rest)).toBe(true);
      expect(normalizeAreas([...both, ...rest])).toEqual(normalizeAreas(a));
      expect(coversAreas(b, a)).toBe([...inA].every((byte) => inB.has(byte)));
    }));
  });

  it('leaves its arguments as they were', () => {
    const a = Object.freeze([{ offset: 8, size: 4 }, { offset: 0, size: 9 }]);
    normalizeAreas(a);
    intersectAreas(a, a);
    subtractAreas(a, a);
    expect(a).toEqual([{ offset: 8, size: 4 }, { offset: 0, size: 9 }]);
  });

  it('is exact beyond 2^32', () => {
    const far = 2 ** 40;
    expect(subtractAreas([{ offset: far, size: 3 * far }], [{ offset: 2 * far, size: far }])).toEqual([{ offset: far, size: far }, { offset: 3 * far, size: far }]);
  });
});
