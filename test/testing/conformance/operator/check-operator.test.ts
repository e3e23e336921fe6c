import { concatMap, filter, map, scan, tap, type OperatorFunction } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { checkOperator, operatorRules, type OperatorSubject, type RuleResult } from '../../../../src/testing/index.js';

const subject = <Out extends { readonly n: number }>(operator: () => OperatorFunction<{ readonly n: number }, Out>): OperatorSubject<{ readonly n: number }, Out> =>
  ({ make: operator, input: (n) => ({ n }), answers: ({ n }) => n });

const failed = (results: readonly RuleResult[]): readonly string[] => results.filter(({ outcome }) => outcome === 'failed').map(({ rule }) => rule);

describe('checkOperator', () => {
  it('ends by a signal', async () => {
    await expect(checkOperator(subject(() => map(({ n }) => ({ n, sum: n }))), { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'VFIO_E_ABORTED', operation: 'check' });
  });

  it('gives one result for each rule, in their order, and says why one is skipped', async () => {
    const results = await checkOperator(subject(() => scan((sum, { n }) => ({ n, sum: sum.sum + n }), { n: 0, sum: 0 })));
    expect(results.map(({ rule }) => rule)).toEqual(operatorRules.map(({ id }) => id));
    expect(results.filter(({ outcome }) => outcome === 'skipped').map(({ rule, reason }) => `${rule}: ${reason}`)).toEqual([
      'OPERATOR-10: the subject says no way to make it fail',
      'OPERATOR-12: the subject does not say what must be given back',
    ]);
    expect(failed(results)).toEqual([]);
  });

  it('lets an operator drop values that says so, and gives them back', async () => {
    const given = new WeakSet();
    const even = filter(({ n }: { readonly n: number }) => n % 2 === 0);
    const sound: OperatorSubject<{ readonly n: number }, { readonly n: number }> = { ...subject(() => (source) => source.pipe(tap((value) => { given.add(value); }), even)), drops: true, released: (value) => given.has(value) };
    const results = await checkOperator(sound);
    expect(failed(results)).toEqual([]);
    expect(results.find(({ rule }) => rule === 'OPERATOR-3')).toMatchObject({ outcome: 'skipped', reason: 'it may drop values' });
  });

  it('finds a Promise', async () => {
    expect(failed(await checkOperator(subject(() => concatMap((value) => Promise.resolve(value)))))).toEqual(expect.arrayContaining(['OPERATOR-3', 'OPERATOR-6']));
  });

  it('finds an operator that answers with one value too many', async () => {
    expect(failed(await checkOperator(subject(() => (source) => source.pipe(concatMap(({ n }) => [{ n }, { n }]), map((value) => value)))))).toContain('OPERATOR-3');
  });
});
