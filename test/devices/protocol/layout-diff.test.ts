import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { intersectAreas, normalizeAreas } from '../../../src/devices/protocol/areas.js';
import { changesNothing, diffLayout, sameLayout, type MappedLayout } from '../../../src/devices/protocol/layout-diff.js';
import type { RegionInfo } from '../../../src/devices/uapi/region-info.js';

const page = 0x1000;
const areas = fc.array(fc.record({ offset: fc.integer({ min: 0, max: 12 }).map((n) => n * page), size: fc.integer({ min: 0, max: 4 }).map((n) => n * page) }), { maxLength: 4 });
const mapped = fc.record({ areas: areas.map(normalizeAreas), readable: fc.boolean(), writable: fc.boolean(), size: fc.constant(16 * page) });
const layout = fc.record({ areas, readable: fc.boolean(), writable: fc.boolean(), mmappable: fc.boolean(), size: fc.constantFrom(16 * page, 8 * page) })
  .map((some): RegionInfo => ({ index: 3, flags: 0, fileOffset: 0, msixMappable: false, ...some }));

const offeredBy = (info: RegionInfo) => (info.mmappable ? normalizeAreas(info.areas) : []);

describe('diffLayout', () => {
  it('splits both sides: kept and revoked are what is mapped, kept and added are what is offered', () => {
    fc.assert(fc.property(mapped, layout, (before, info) => {
      const { kept, revoked, added } = diffLayout(before, info);
      expect(normalizeAreas([...kept, ...revoked])).toEqual(before.areas);
      expect(normalizeAreas([...kept, ...added])).toEqual(offeredBy(info));
      expect(intersectAreas(kept, revoked)).toEqual([]);
      expect(intersectAreas(kept, added)).toEqual([]);
    }));
  });

  it('keeps all that it can, but nothing where the protection is stale', () => {
    fc.assert(fc.property(mapped, layout, (before, info) => {
      const { kept, lost, gained } = diffLayout(before, info);
      const same = before.readable === info.readable && before.writable === info.writable;
      expect(kept).toEqual(same ? intersectAreas(before.areas, offeredBy(info)) : []);
      expect([lost.read, gained.read]).toEqual([before.readable && !info.readable, !before.readable && info.readable]);
      expect([lost.write, gained.write]).toEqual([before.writable && !info.writable, !before.writable && info.writable]);
    }));
  });

  it('finds nothing to do once it has been applied', () => {
    fc.assert(fc.property(mapped, layout, (before, info) => {
      const { kept, added } = diffLayout(before, info);
      const after: MappedLayout = { areas: normalizeAreas([...kept, ...added]), readable: info.readable, writable: info.writable, size: before.size };
      expect(changesNothing(diffLayout(after, info))).toBe(true);
    }));
  });

  it('is a change where rights differ, also of a region of which nothing is mapped', () => {
    const before: MappedLayout = { areas: [], readable: true, writable: true, size: 16 * page };
    const info: RegionInfo = { index: 3, flags: 3, readable: true, writable: true, mmappable: false, size: 16 * page, fileOffset: 0, areas: [], msixMappable: false };
    expect([{}, { readable: false }, { writable: false }].map((change) => changesNothing(diffLayout(before, { ...info, ...change })))).toEqual([true, false, false]);
    expect(changesNothing(diffLayout({ ...before, writable: false }, info))).toBe(false);
  });

  it('names a changed size, and only that', () => {
    fc.assert(fc.property(mapped, layout, (before, info) => {
      expect(diffLayout(before, info).sizeChange).toEqual(info.size === before.size ? undefined : { from: before.size, to: info.size });
    }));
  });
});

describe('sameLayout', () => {
  it('compares flags, size and areas', () => {
    const info: RegionInfo = { index: 0, flags: 7, readable: true, writable: true, mmappable: true, size: 2 * page, fileOffset: 0, areas: [{ offset: 0, size: page }], msixMappable: false };
    expect(sameLayout(info, { ...info, areas: [{ offset: 0, size: page }] })).toBe(true);
    for (const other of [{ flags: 3 }, { size: page }, { areas: [] }, { areas: [{ offset: page, size: page }] }, { areas: [{ offset: 0, size: 2 * page }] }]) {
      expect(sameLayout(info, { ...info, ...other })).toBe(false);
    }
    expect(sameLayout(undefined, info)).toBe(false);
  });
});
