import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { namedRegions, undeclaredForCertain, type BatchReason, type Decoding } from '../../../src/devices/protocol/decode.js';

const most = 2n ** 64n - 1n;
const bit = (region: number, page: number): bigint => 1n << BigInt(region - 64 * page);

const page = fc.integer({ min: 0, max: 3 });
const decoding = page.chain((of) =>
  fc.uniqueArray(fc.integer({ min: 0, max: 63 }), { minLength: 1, maxLength: 8 }).map((bits): Decoding => ({ page: of, declared: new Set(bits.map((b) => 64 * of + b)), signals: 'bitmap' })));

/** Signals, each some declared regions: what was meant, and what an eventfd makes of it. */
const signalled = decoding.chain((of) =>
  fc.array(fc.subarray([...of.declared], { minLength: 1 }), { minLength: 1, maxLength: 8 }).map((signals) => {
    const added = signals.flat().reduce((sum, region) => sum + bit(region, of.page), 0n);
    return { of, meant: new Set(signals.flat()), count: added > most ? most : added };
  }));

describe('namedRegions', () => {
  it('never misses a region that was signalled, however signals add up, also with echoes among them', () => {
    fc.assert(fc.property(signalled, fc.bigInt(0n, 2n), ({ of, meant, count }, echoes) => {
      const named = namedRegions(of, 'signal', count + echoes);
      expect([...meant].filter((region) => !named.has(region))).toEqual([]);
      expect([...named].filter((region) => !of.declared.has(region))).toEqual([]);
    }), { numRuns: 500 });
  });

  it('RR-25: names what fits into the count, and nothing else', () => {
    fc.assert(fc.property(decoding, fc.bigInt(0n, most), (of, count) => {
      const named = namedRegions(of, 'signal', count);
      for (const region of of.declared) expect(named.has(region)).toBe(bit(region, of.page) <= count);
    }));
    const of: Decoding = { page: 1, declared: new Set([64, 65, 66, 127]), signals: 'bitmap' };
    expect([...namedRegions(of, 'signal', 3n)]).toEqual([64, 65]);
    expect([...namedRegions(of, 'signal', 2n ** 63n)]).toEqual([64, 65, 66, 127]);
  });

  it('RR-11, RR-26: names every declared region for a doorbell, and whenever a batch is not about a count', () => {
    const declared = new Set([64, 100]);
    for (const count of [0n, 1n, most]) {
      expect(namedRegions({ page: 1, declared, signals: 'doorbell' }, 'signal', count)).toEqual(declared);
      for (const because of ['saturated', 'registered', 'after-deadline', 'after-transition'] satisfies BatchReason[]) {
        expect(namedRegions({ page: 1, declared, signals: 'bitmap' }, because, count)).toEqual(declared);
      }
    }
  });
});

describe('undeclaredForCertain', () => {
  it('accuses nobody who signalled declared regions only', () => {
    fc.assert(fc.property(signalled, ({ of, count }) => {
      if (count < most) expect(undeclaredForCertain(of, 'signal', count)).toBe(false);
    }), { numRuns: 500 });
  });

  it('sees what no sum of declared bits can be', () => {
    const of: Decoding = { page: 0, declared: new Set([2, 5]), signals: 'bitmap' };
    expect([1n, 2n, 3n, 4n, 5n, 8n, 36n, 37n].map((count) => undeclaredForCertain(of, 'signal', count))).toEqual([true, true, true, false, true, false, false, true]);
    expect(undeclaredForCertain({ ...of, signals: 'doorbell' }, 'signal', 1n)).toBe(false);
    expect(undeclaredForCertain(of, 'saturated', most)).toBe(false);
    expect(undeclaredForCertain({ ...of, declared: new Set() }, 'signal', 1n)).toBe(true);
  });
});
