import { describe, it } from 'vitest';
import { subtractAreas } from '../../src/devices/protocol/areas.js';
import { ordinary, schedules } from './arbitraries.js';
import { Mapped, printed } from './history.js';
import { mappingMutants } from './mutants.js';
import { expectBrokenBy, expectKept, patienceMs, type Promised } from './promise.js';

/**
 * P1. When all is quiet, the user's mappings equal the layout of the state the device is in, less the areas whose mmap
 * failed and was reported.
 *
 * What is mapped is what the driver saw mapped and unmapped; the layout is the driver's own; reported is what the user
 * found in the latest batch. Quiet is when nothing is under way and the driver has back what it sent.
 */
const mappingsEqualLayout: Promised = {
  name: 'P1',
  schedules: schedules({
    menu: { ...ordinary, 'fail map': 4, 'fail query': 1, 'fail arc': 1, 'ignore acks': 1, unsubscribe: 1, subscribe: 1, reset: 1, detach: 1 },
    ending: 'subscribe again',
  }),
  judge: (history) => {
    const mapped = new Mapped();
    const complaints: string[] = [];
    let tested = 0;
    for (const entry of history) {
      mapped.follow(entry);
      if (entry.what !== 'quiet') continue;
      tested += 1;
      for (const [region, offered] of entry.layout) {
        const reported = entry.reported.filter(({ index }) => index === region).map(({ area }) => area);
        const tooMuch = subtractAreas(mapped.of(region), offered);
        const tooLittle = subtractAreas(subtractAreas(offered, reported), mapped.of(region));
        if (tooMuch.length > 0) complaints.push(`quiet at ${entry.atNs} ns, region ${region}: ${printed(tooMuch)} is mapped and not offered`);
        if (tooLittle.length > 0) complaints.push(`quiet at ${entry.atNs} ns, region ${region}: ${printed(tooLittle)} is offered, not mapped, and nobody said so`);
      }
    }
    return { complaints, tested };
  },
};

describe('P1: when all is quiet the mappings equal the layout', () => {
  it('holds under random schedules', () => { expectKept(mappingsEqualLayout); }, patienceMs);

  for (const mutant of mappingMutants) {
    it(`falls: ${mutant.what}`, () => { expectBrokenBy(mappingsEqualLayout, mutant); }, patienceMs);
  }
});
