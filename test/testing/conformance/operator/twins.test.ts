import { describe, expect, it } from 'vitest';
import { brokenOperators, checkOperator, operatorRules } from '../../../../src/testing/index.js';

/** A suite that cannot fail proves nothing: every rule has an operator that it must refuse. */
describe('the operator suite', () => {
  for (const { name, breaks, because, subject } of brokenOperators) {
    it(`refuses one that ${name} (${breaks.join(', ')}), for nothing else`, async () => {
      const failed = (await checkOperator(subject)).filter(({ outcome }) => outcome === 'failed');
      expect(new Set(failed.map(({ rule }) => rule))).toEqual(new Set(breaks));
      expect(failed.find(({ rule }) => rule === breaks[0])?.reason).toContain(because);
    });
  }

  it('has a broken operator for every rule', () => {
    const made = new Set(brokenOperators.map(({ breaks: [first] }) => first));
    expect(operatorRules.map(({ id }) => id).filter((id) => !made.has(id))).toEqual([]);
  });
});
