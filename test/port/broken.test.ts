import { describe, expect, it } from 'vitest';
import { brokenPorts } from './broken-ports.js';
import { softwareHarness } from './software-harness.js';
import { portChecks } from './suite.js';

/** A suite that cannot fail proves nothing: every check has a port that it must refuse. */
describe('the port suite refuses a port that', () => {
  for (const { name, rule, noticedBy, because, spoil } of brokenPorts) {
    it(`${name} (${rule})`, async () => {
      const found = portChecks.find((candidate) => candidate.rule === rule && candidate.name === noticedBy);
      if (found === undefined) throw new Error(`there is no check of ${rule}: ${noticedBy}`);
      const harness = softwareHarness({ patienceMs: 250, change: spoil });
      try {
        await expect(found.check(harness)).rejects.toThrow(because);
      } finally {
        await harness.dispose();
      }
    });
  }

  it('breaks any rule at all: no check is without its broken port', () => {
    const noticed = new Set(brokenPorts.map(({ rule, noticedBy }) => `${rule} ${noticedBy}`));
    expect(portChecks.map(({ rule, name }) => `${rule} ${name}`).filter((check) => !noticed.has(check))).toEqual([]);
    const rules = new Set(portChecks.map(({ rule }) => rule));
    expect(rules).toEqual(new Set(Array.from({ length: rules.size }, (_, n) => `PORT-${n + 1}`)));
  });
});
