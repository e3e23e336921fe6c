import { describe, it } from 'vitest';
import type { Area } from '../../src/devices/port.js';
import { intersectAreas } from '../../src/devices/protocol/areas.js';
import { ordinary, schedules } from './arbitraries.js';
import { field, isTrace, Mapped, printed, type AreasOf } from './history.js';
import { revocationMutants } from './mutants.js';
import { expectBrokenBy, expectKept, patienceMs, type Promised } from './promise.js';

/**
 * P5. When device_state returns 0 after a revocation, no revoked area is mapped; none is mapped or touched until a newer
 * layout offers it.
 *
 * Revoked is what the driver offered as the write reached it and the target state lacks. A touch is a store through a
 * mapping that is gone: the driver finds it in its own memory. Guests store into all that they have been handed, at every
 * act, until they let go.
 */
const revokedIsGone: Promised = {
  name: 'P5',
  schedules: schedules({
    menu: { ...ordinary, touch: 4, hold: 5, detach: 1, 'fail query': 1, 'fail map': 1, 'fail arc': 1, 'ignore acks': 1, unsubscribe: 1, subscribe: 2, close: 0.5 },
  }),
  judge: (history) => {
    const complaints: string[] = [];
    let tested = 0;
    const mapped = new Mapped();
    let revoking: AreasOf = new Map();
    /** Gone, and not offered again so far. */
    const gone = new Map<number, readonly Area[]>();
    for (const entry of history) {
      mapped.follow(entry);
      if (entry.what === 'write begins') {
        revoking = entry.revokes;
      } else if (isTrace(entry, 'layout')) {
        gone.delete(field(entry, 'region'));
      } else if (isTrace(entry, 'state') && field(entry, 'ret') === 0) {
        for (const [region, areas] of revoking) {
          if (areas.length === 0) continue;
          tested += 1;
          gone.set(region, areas);
          const left = intersectAreas(mapped.of(region), areas);
          if (left.length > 0) complaints.push(`device_state returned 0 at ${entry.atNs} ns, and ${printed(left)} of region ${region} is still mapped`);
        }
      } else if (isTrace(entry, 'mmap')) {
        const region = field(entry, 'region');
        const back = intersectAreas([{ offset: field(entry, 'offset'), size: field(entry, 'size') }], gone.get(region) ?? []);
        if (back.length > 0) complaints.push(`${printed(back)} of region ${region} was mapped at ${entry.atNs} ns, and no layout offers it`);
      } else if (entry.what === 'at rest') {
        complaints.push(...entry.violations.filter(({ kind }) => kind !== 'ack-not-sent').map(({ kind, region, atNs }) => `the driver saw: ${kind}, region ${region ?? '?'}, at ${atNs} ns`));
      }
    }
    return { complaints, tested };
  },
};

describe('P5: what was revoked is neither mapped nor touched', () => {
  it('holds under random schedules', () => { expectKept(revokedIsGone); }, patienceMs);

  for (const mutant of revocationMutants) {
    it(`falls: ${mutant.what}`, () => { expectBrokenBy(revokedIsGone, mutant); }, patienceMs);
  }
});
