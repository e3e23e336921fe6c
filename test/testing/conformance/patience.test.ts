import { EMPTY, NEVER, of, throwError } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { VfioError } from '../../../src/errors.js';
import { codeOf, Patience, settled, success } from '../../../src/testing/conformance/patience.js';
import { virtualRun } from '../../../src/testing/index.js';

const busy = throwError(() => new VfioError('VFIO_E_BUSY', 'not now', { operation: 'x' }));
const within = <T>(work: (patience: Patience) => Promise<T>) => virtualRun((clock) => work(new Patience({ patienceMs: 100, clock })));

describe('Patience', () => {
  it('has the one value of a call, and not one too few, too many or too late', async () => {
    expect(await within((patience) => patience.value(of(7), 'a call'))).toBe(7);
    await expect(within((patience) => patience.value(EMPTY, 'a call'))).rejects.toThrow('a call completed without a value');
    await expect(within((patience) => patience.value(of(1, 2), 'a call'))).rejects.toThrow('a call came twice');
    await expect(within((patience) => patience.value(NEVER, 'a call'))).rejects.toThrow('a call did not come within 100 ms');
  });

  it('has the code of a failure, and nothing else that is thrown', async () => {
    await within((patience) => patience.fails('VFIO_E_BUSY', busy, 'a call'));
    await expect(within((patience) => patience.fails('VFIO_E_RANGE', busy, 'a call'))).rejects.toThrow('a call should have failed with VFIO_E_RANGE');
    await expect(within((patience) => patience.fails('VFIO_E_BUSY', of(1), 'a call'))).rejects.toThrow('a call should have failed, it brought number');
    await expect(within((patience) => patience.failure(throwError(() => new TypeError('odd')), 'a call'))).rejects.toThrow(TypeError);
  });

  it('settles what nobody awaits yet', async () => {
    const [good, bad] = [await settled(Promise.resolve(1)), await settled(Promise.reject(new Error('no')))];
    expect([success(good, 'it'), codeOf(good), codeOf(bad)]).toEqual([1, 'success', 'Error: no']);
    expect(() => success(bad, 'it')).toThrow('it: Error: no');
  });
});
