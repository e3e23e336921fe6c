import { defer, map } from 'rxjs';
import { describe, it } from 'vitest';
import { VfioError, type VfioErrorCode } from '../../src/errors.js';
import { retryWithBackoff } from '../../src/operators/retry-with-backoff.js';
import { transition } from '../../src/streams/transition.js';
import { marbles } from '../../src/testing/index.js';
import { openedNow, twoRegions } from '../support/devices.js';

const error = (code: VfioErrorCode): VfioError => new VfioError(code, 'x', { operation: 'x' });

describe('retryWithBackoff', () => {
  it('is its diagram', () => {
    marbles((t) => {
      const source = t.cold('                                                                -#', undefined, error('VFIO_E_BUSY'));
      t.expect(source.pipe(retryWithBackoff(t.clock, { count: 2, firstMs: 0.002 }))).toBe('- --  -  ----  -#', undefined, { code: 'VFIO_E_BUSY' });
      t.expectSubscriptions(source).toBe(['^!', '---^!', '--------^!']);
    });
  });

  it('waits no longer than the most, begins anew after a value, and is left in the pause', () => {
    marbles((t) => {
      const source = t.cold('#', undefined, error('VFIO_E_BUSY'));
      t.expect(source.pipe(retryWithBackoff(t.clock, { count: 4, firstMs: 0.001, factor: 3, mostMs: 0.004 }))).toBe('- --- ---- ----#', undefined, { code: 'VFIO_E_BUSY' });
      let tries = 0;
      const better = defer(() => t.cold(tries++ % 2 === 0 ? '#' : 'a#', undefined, error('VFIO_E_BUSY')));
      t.expect(better.pipe(retryWithBackoff(t.clock, { count: 2, firstMs: 0.003 })), '^ ------------ !').toBe('---a---');
      t.expect(source.pipe(retryWithBackoff(t.clock, { firstMs: 0.003 })), '-^-!').toBe('');
    });
  });

  it('tries nothing again that will not pass', () => {
    marbles((t) => {
      for (const code of ['VFIO_E_ARC', 'VFIO_E_NO_DEVICE', 'VFIO_E_PROTOCOL', 'VFIO_E_CLOSED'] as const) {
        t.expect(t.cold('-#', undefined, error(code)).pipe(retryWithBackoff(t.clock))).toBe('-#', undefined, { code });
      }
      const own = new Error('of the source');
      t.expect(t.cold('-#', undefined, own).pipe(retryWithBackoff(t.clock))).toBe('-#', undefined, own);
      t.expect(t.cold('-#', undefined, own).pipe(retryWithBackoff(t.clock, { again: () => true, count: 1, firstMs: 0.001 }))).toBe('---#', undefined, own);
    });
  });

  it('gets a device into a state whose driver needed time', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...twoRegions, remap: false });
      driver.faults.failArc('pre-copy', 'EBUSY', 2);
      t.expect(transition(device, 'pre-copy').pipe(retryWithBackoff(device.clock, { firstMs: 0.002 }), map(({ to }) => to))).toBe('------<pre-copy,|>');
    });
  });
});
