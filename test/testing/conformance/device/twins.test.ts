import { describe, expect, it } from 'vitest';
import { brokenDevices, checkDevice, deviceRules, softwareMigrationHarness, virtualRun, type BrokenDevice, type RuleResult } from '../../../../src/testing/index.js';

function resultsOf({ device, spoil, driver }: Pick<BrokenDevice, 'device' | 'spoil' | 'driver'> = {}): Promise<readonly RuleResult[]> {
  return virtualRun((clock) => checkDevice(softwareMigrationHarness({
    clock,
    ...(device === undefined ? {} : { device }),
    ...(spoil === undefined ? {} : { around: spoil }),
    ...(driver === undefined ? {} : { driver }),
  })));
}

/** A suite that cannot fail proves nothing: every rule has a device that it must refuse. */
describe('the suite of a device', () => {
  for (const { name, breaks, because, ...spoiled } of brokenDevices) {
    it(`refuses one that ${name} (${breaks.join(', ')}), for nothing else`, async () => {
      const failed = (await resultsOf(spoiled)).filter(({ outcome }) => outcome === 'failed');
      expect(failed.map(({ rule, reason }) => [rule, reason]).filter(([rule]) => !breaks.includes(rule ?? ''))).toEqual([]);
      expect(new Set(failed.map(({ rule }) => rule))).toEqual(new Set(breaks));
      expect(failed.find(({ rule }) => rule === breaks[0])?.reason).toContain(because);
    });
  }

  it('has a broken device for every rule', () => {
    const made = new Set(brokenDevices.map(({ breaks: [first] }) => first));
    expect(deviceRules.map(({ id }) => id).filter((id) => !made.has(id))).toEqual([]);
  });
});
