import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { arcsOf } from './arcs.js';
import { played } from './play.js';
import { kinds, rare, scenario } from './scenario.js';

/** For all of them on a busy machine: only against one that does not end, ms. */
const patienceMs = 300_000;

describe('a migration with whatever goes wrong', () => {
  it.each(rare)('can end so: %s', (outcome, one) => {
    expect(played(one)).toContain(outcome);
  });

  it('keeps its promises, and each arc, fault and outcome has come up', () => {
    const counts = new Map<string, number>();
    const count = (what: string): void => void counts.set(what, (counts.get(what) ?? 0) + 1);
    fc.assert(
      fc.property(scenario, (one) => {
        count(`version ${one.version}`);
        count(`${one.count} devices`);
        for (const { kind } of one.happenings) count(kind);
        for (const word of played(one)) count(word);
      }),
      { numRuns: Number(process.env.VFIO_RX_MIGRATIONS ?? 240), seed: Number(process.env.VFIO_RX_SEED ?? 4), examples: rare.map(([, one]) => [one]) },
    );
    console.log(`migrations: ${[...counts].sort().map(([what, often]) => `${what} ${often}`).join('; ')}`);
    const expected = [
      'version 1', 'version 2', ...Array.from({ length: 8 }, (_, n) => `${n + 1} devices`), ...kinds,
      ...arcsOf({ version: 1, flags: 5 }), ...arcsOf({ version: 2, flags: 7 }),
      'walked', 'refused VFIO_E_ARC', 'refused VFIO_E_BUSY', 'other request at the source', 'reset at the source', 'reset at the destination', 'second migration refused', 'a bit flipped', 'source disk failed', 'destination disk failed',
      'loaded while another waited', 'moved', 'rolled back', 'taken back', 'in doubt', 'died', 'resolved: moved', 'resolved: not-moved', 'a device was reset', 'a device did not come back', 'moved the second time', 'given back to the kernel', 'an error at the source', 'an error at the destination',
    ];
    expect(expected.filter((what) => (counts.get(what) ?? 0) === 0), 'never came up').toEqual([]);
  }, patienceMs);
});
