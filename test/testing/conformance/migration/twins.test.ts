import { describe, expect, it } from 'vitest';
import { brokenMigrations, checkMigration, migrationRules, softwareMigrationHarness, virtualRun, type BrokenMigration, type RuleResult } from '../../../../src/testing/index.js';

function resultsOf({ spoil, driver }: Pick<BrokenMigration, 'spoil' | 'driver'> = {}): Promise<readonly RuleResult[]> {
  return virtualRun((clock) => checkMigration(softwareMigrationHarness({ clock, ...(spoil === undefined ? {} : { around: spoil }), ...(driver === undefined ? {} : { driver }) })));
}

/** A suite that cannot fail proves nothing: every rule has a device that it must refuse. */
describe('the suite of devices that migrate', () => {
  it('passes a sound device, in virtual time too', async () => {
    expect((await resultsOf()).filter(({ outcome }) => outcome !== 'passed')).toEqual([]);
  });

  for (const { name, breaks, because, ...spoiled } of brokenMigrations) {
    it(`refuses a device that ${name} (${breaks.join(', ')}), for nothing else`, async () => {
      const failed = (await resultsOf(spoiled)).filter(({ outcome }) => outcome === 'failed');
      expect(new Set(failed.map(({ rule }) => rule))).toEqual(new Set(breaks));
      expect(failed.find(({ rule }) => rule === breaks[0])?.reason).toContain(because);
    });
  }

  it('has a broken device for every rule', () => {
    const made = new Set(brokenMigrations.map(({ breaks: [first] }) => first));
    expect(migrationRules.map(({ id }) => id).filter((id) => !made.has(id))).toEqual([]);
  });
});
