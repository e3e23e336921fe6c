import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { map } from 'rxjs';
import { expect, describe, it } from 'vitest';
import { warningChannel, type Warning } from '../../src/diagnostics.js';
import type { RegionBatch } from '../../src/devices/remap-batch.js';
import { decodeRegionBitmap } from '../../src/operators/decode-region-bitmap.js';
import { marbles } from '../../src/testing/index.js';
import { signalOf, testChannel } from '../support/batches.js';

const named = map(({ candidates }: RegionBatch) => [...candidates].join());

describe('decodeRegionBitmap', () => {
  it('is its diagram', () => {
    marbles((t) => {
      const declared = new Set([0, 1, 2]);
      for (const [signals, shown] of [['bitmap', { a: '0', b: '0,1' }], ['doorbell', { a: '0,1,2', b: '0,1,2' }]] as const) {
        const channel = testChannel({ declared, signals });
        const signal = t.cold('                         --1-------3---', { 1: signalOf(channel, 1n), 3: signalOf(channel, 3n, { batch: 1 }) });
        t.expect(signal.pipe(decodeRegionBitmap(), named)).toBe('--a-------b---', shown);
      }
    });
  });

  it('adds the candidates to the batch and keeps all else', () => {
    marbles((t) => {
      const channel = testChannel();
      const a = signalOf(channel, 5n, { batch: 3, doubtful: true, atNs: 7n });
      t.expect(t.cold('a', { a }).pipe(decodeRegionBitmap())).toBe('b', { b: { ...a, candidates: channel.declared } });
    });
  });

  it('names every declared region of the page where the batch is not about a count', () => {
    marbles((t) => {
      const declared = new Set([64, 70, 127]);
      const channel = testChannel({ page: 1, declared, signals: 'bitmap' });
      for (const because of ['saturated', 'registered', 'after-deadline', 'after-transition'] as const) {
        for (const count of [0n, 1n, 2n ** 64n - 1n]) {
          t.expect(t.cold('-a', { a: signalOf(channel, count, { because }) }).pipe(decodeRegionBitmap())).toBe('-b', { b: expect.objectContaining({ candidates: declared, sumRead: count, because }) });
        }
      }
    });
  });

  it('warns of what was not declared where the count proves it, and goes on', () => {
    const warnings: Warning[] = [];
    const hear = (warning: unknown): void => { warnings.push(warning as Warning); };
    subscribe(warningChannel.name, hear);
    try {
      marbles((t) => {
        const channel = testChannel({ declared: new Set([1, 2]), signals: 'bitmap' });
        const signal = t.cold('abc', { a: signalOf(channel, 6n), b: signalOf(channel, 8n), c: signalOf(channel, 5n, { atNs: 2000n }) });
        t.expect(signal.pipe(decodeRegionBitmap(), named)).toBe('aaa', { a: '1,2' });
      });
    } finally {
      unsubscribe(warningChannel.name, hear);
    }
    expect(warnings).toEqual([{ device: 'software0', atNs: 2000n, what: expect.stringContaining('a count of 5 on page 0 holds a signal for a region that was not declared') as string }]);
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
