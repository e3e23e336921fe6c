import { expect, describe, it } from 'vitest';
import { decodeRegionBitmap } from '../../src/operators/decode-region-bitmap.js';
import { marbles } from '../../src/testing/index.js';
import { signalOf, testChannel } from '../support/batches.js';

describe('decodeRegionBitmap', () => {
  it('is its diagram', () => {
    marbles((t) => {
      const channel = testChannel();
      const one = signalOf(channel, 1n);
      const three = signalOf(channel, 3n, { batch: 1 });
      const signal = t.cold('   --1-------3---', { 1: one, 3: three });
      t.expect(signal.pipe(decodeRegionBitmap())).toBe('--a-------b---', {
        a: { ...one, candidates: channel.declared },
        b: { ...three, candidates: channel.declared },
      });
    });
  });

  it('names every declared region of the page, whatever the count and whyever there is a batch', () => {
    marbles((t) => {
      const declared = new Set([64, 70, 127]);
      const channel = testChannel({ page: 1, declared });
      for (const because of ['signal', 'saturated', 'registered', 'after-transition'] as const) {
        for (const count of [0n, 1n, 2n, 2n ** 63n, 2n ** 64n - 1n]) {
          t.expect(t.cold('-a', { a: signalOf(channel, count, { because }) }).pipe(decodeRegionBitmap())).toBe('-b', { b: expect.objectContaining({ candidates: declared, sumRead: count, because }) });
        }
      }
    });
  });

  it('passes on the end of its source, its error, and the unsubscription', () => {
    marbles((t) => {
      const a = signalOf(testChannel());
      const b = { ...a, candidates: a.channel.declared };
      const source = t.cold('-a--a', { a });
      t.expect(t.cold('-a--|', { a }).pipe(decodeRegionBitmap())).toBe('-b--|', { b });
      t.expect(t.cold('-a--#', { a }).pipe(decodeRegionBitmap())).toBe('-b--#', { b });
      t.expect(source.pipe(decodeRegionBitmap()), '^-!').toBe('-b', { b });
      t.expectSubscriptions(source).toBe('^-!');
    });
  });
});
