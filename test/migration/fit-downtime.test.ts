import { describe, it } from 'vitest';
import { fitDowntime, type RoundReport } from '../../src/migration/fit-downtime.js';
import { marbles } from '../../src/testing/index.js';

const report = (initialBytes: bigint, expectedDowntimeMs: number, round = 1): RoundReport => ({ round, atNs: 0n, initialBytes, dirtyBytes: 0n, sentBytes: 0n, rate: 1, expectedDowntimeMs });

describe('fitDowntime', () => {
  it('is its diagram', () => {
    marbles((t) => {
      const rounds$ = t.cold('--a-------b-------c|', { a: report(1n, 0), b: report(0n, 300), c: report(0n, 20) });
      t.expect(rounds$.pipe(fitDowntime({ downtimeLimitMs: 100 }))).toBe('--<again>-------<again>-------<switch-over>|');
    });
  });

  it('gives up after its last round', () => {
    marbles((t) => {
      const rounds$ = t.cold('ab|', { a: report(0n, 300, 1), b: report(0n, 300, 2) });
      t.expect(rounds$.pipe(fitDowntime({ downtimeLimitMs: 100, mostRounds: 2 }))).toBe('<again><give-up>|');
    });
  });
});
