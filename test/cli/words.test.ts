import { EMPTY } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { headline, size } from '../../src/cli/words.js';
import { VfioError } from '../../src/errors.js';

describe('words', () => {
  it('say what goes on', () => {
    const at = { atNs: 0n, devices: [], rate: 0 };
    expect(headline({ ...at, phase: 'check' })).toBe('check');
    expect(headline({ ...at, phase: 'check', atOnce: 48 })).toBe('check: 48 devices are stopped at once, the others follow in groups');
    expect(headline({ ...at, phase: 'moved', downtimeNs: 12_345_678n })).toBe('moved: nothing ran for 12.3 ms');
    const round = { round: 2, atNs: 0n, initialBytes: 0n, dirtyBytes: 9n, sentBytes: 9n, rate: 2048, expectedDowntimeMs: 4.44 };
    expect(headline({ ...at, phase: 'pre-copy', round })).toBe('pre-copy, round 2: 2.0 KiB/s, about 4.4 ms to go when stopped');
    expect(headline({ ...at, phase: 'pre-copy', round: { ...round, rate: 0, expectedDowntimeMs: Infinity } })).toBe('pre-copy, round 2: 0 B/s, how long to go when stopped is not known yet');
    const because = new VfioError('VFIO_E_LINK', 'cut', { operation: 'commit' });
    expect(headline({ ...at, phase: 'in-doubt', decision: 'source', because, resolve: () => EMPTY })).toBe('in doubt, the source holds the decision: commit: cut [VFIO_E_LINK]');
  });

  it('say how much', () => {
    expect([0, 1, 1023, 1024, 1.5 * 2 ** 20, 2 ** 40, 2 ** 60].map(size)).toEqual(['0 B', '1 B', '1023 B', '1.0 KiB', '1.5 MiB', '1.0 TiB', '1048576.0 TiB']);
  });
});
