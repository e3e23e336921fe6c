import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { State } from '../../../src/devices/port.js';
import { coversAreas, intersectAreas, normalizeAreas, subtractAreas } from '../../../src/devices/protocol/areas.js';
import { isSaving } from '../../../src/devices/protocol/migration-states.js';
import { areasIn, conflictingAreas, layoutIn, learnLayouts } from '../../../src/devices/protocol/saving-layout.js';
import type { RegionInfo } from '../../../src/devices/uapi/region-info.js';

const page = 0x1000;
const areas = fc.array(fc.record({ offset: fc.integer({ min: 0, max: 7 }).map((n) => n * page), size: fc.integer({ min: 1, max: 3 }).map((n) => n * page) }), { maxLength: 3 }).map(normalizeAreas);
const state = fc.constantFrom<State>('stop', 'running', 'stop-copy', 'resuming', 'running-p2p', 'pre-copy', 'pre-copy-p2p');
const info = fc.record({ areas, savingAreas: areas }).map((some): RegionInfo => ({ index: 3, flags: 7, readable: true, writable: true, mmappable: some.areas.length > 0, size: 16 * page, fileOffset: 0, msixMappable: false, ...some }));

/** A driver may show the layout of the state, or always that outside the saving group. */
const shown = (region: RegionInfo, at: State, follows: boolean): RegionInfo => (follows ? layoutIn(region, at) : region);

describe('the two layouts', () => {
  it('are known from any answers, once there was one outside the saving group', () => {
    fc.assert(fc.property(info, fc.boolean(), fc.array(state, { minLength: 1, maxLength: 5 }), (region, follows, states) => {
      const known = states.reduce((before: ReturnType<typeof learnLayouts>, at) => learnLayouts(shown(region, at, follows), at, before), undefined);
      const outside = states.some((at) => !isSaving(at)) ? region.areas : undefined;
      expect(known).toEqual({ saving: region.savingAreas, outside });
    }));
  });

  it('give what counts in a state, whichever the driver shows', () => {
    fc.assert(fc.property(info, fc.boolean(), state, (region, follows, at) => {
      const expected = isSaving(at) ? region.savingAreas : region.areas;
      const counted = layoutIn(shown(region, at, follows), at);
      expect([counted.areas, counted.mmappable]).toEqual([expected, (expected ?? []).length > 0]);
    }));
  });

  it('leave nothing in the way when what the target lacks has gone, and take no more than that', () => {
    fc.assert(fc.property(info, state, state, (region, from, to) => {
      const known = learnLayouts(region, 'running');
      if (known === undefined) throw new Error('a region with a saving layout');
      const mapped = areasIn(known, from);
      const left = intersectAreas(mapped, areasIn(known, to));
      expect(intersectAreas(left, conflictingAreas(known, to))).toEqual([]);
      expect(coversAreas(conflictingAreas(known, to), subtractAreas(mapped, left))).toBe(true);
      expect(coversAreas(areasIn(known, to), left)).toBe(true);
    }));
  });

  it('say nothing of a region whose layout does not follow the state', () => {
    const plain: RegionInfo = { index: 0, flags: 7, readable: true, writable: true, mmappable: true, size: page, fileOffset: 0, areas: [{ offset: 0, size: page }], msixMappable: false };
    expect(learnLayouts(plain, 'running')).toBeUndefined();
    expect(layoutIn(plain, 'pre-copy')).toBe(plain);
  });

  it('take the one outside for empty while it is not known', () => {
    const known = { saving: [{ offset: 0, size: page }], outside: undefined };
    expect([areasIn(known, 'pre-copy'), areasIn(known, 'running')]).toEqual([known.saving, []]);
    expect(conflictingAreas(known, 'running')).toEqual(known.saving);
  });
});
