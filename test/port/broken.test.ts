import { describe, expect, it } from 'vitest';
import { brokenPorts, checkPort, portRules, softwarePortHarness, virtualRun, type BrokenPort, type RuleResult } from '../../src/testing/index.js';

function resultsOf(spoil?: BrokenPort['spoil']): Promise<readonly RuleResult[]> {
  return virtualRun((clock) => checkPort(softwarePortHarness({ clock, ...(spoil === undefined ? {} : { around: spoil }) })));
}

/** A suite that cannot fail proves nothing: every rule has a port that it must refuse. */
describe('the port suite', () => {
  it('passes a sound port, in virtual time too', async () => {
    expect((await resultsOf()).filter(({ outcome }) => outcome !== 'passed')).toEqual([]);
  });

  for (const { name, breaks, because, spoil } of brokenPorts) {
    it(`refuses a port that ${name} (${breaks.join(', ')}), for nothing else`, async () => {
      const failed = (await resultsOf(spoil)).filter(({ outcome }) => outcome === 'failed');
      expect(new Set(failed.map(({ rule }) => rule))).toEqual(new Set(breaks));
      expect(failed.find(({ rule }) => rule === breaks[0])?.reason).toContain(because);
    });
  }

  it('has a broken port for every rule', () => {
    const made = new Set(brokenPorts.map(({ breaks: [first] }) => first));
    expect(portRules.map(({ id }) => id).filter((id) => !made.has(id))).toEqual([]);
  });
});
