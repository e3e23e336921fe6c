import { interval, of, timer } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { checkStream, streamRules } from '../../../../src/testing/index.js';
import { regions } from '../../../../src/streams/index.js';

describe('checkStream', () => {
  it('ends by a signal', async () => {
    await expect(checkStream({ make: regions }, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'VFIO_E_ABORTED', operation: 'check' });
  });

  it('gives one result for each rule, in their order, and says why one is skipped', async () => {
    const results = await checkStream({ make: regions });
    expect(results.map(({ rule }) => rule)).toEqual(streamRules.map(({ id }) => id));
    expect(results.filter(({ outcome }) => outcome === 'skipped').map(({ rule, reason }) => `${rule}: ${reason}`)).toEqual([
      'STREAM-7: the subject says no way to make it fail',
      'STREAM-11: it has no current value',
    ]);
    expect(results.filter(({ outcome }) => outcome === 'failed')).toEqual([]);
  });

  it('checks what goes on for ever, on the clock of the device or on none', async () => {
    const ticks = await checkStream({ make: (device) => interval(1, device.clock.scheduler) });
    expect(ticks.filter(({ outcome }) => outcome === 'failed').map(({ rule }) => rule)).toEqual(['STREAM-8', 'STREAM-9']);
    expect((await checkStream({ make: () => timer(1) })).find(({ rule }) => rule === 'STREAM-2')?.outcome).toBe('passed');
  });

  it('fails, and goes on, where the subject itself cannot be made', async () => {
    const results = await checkStream({ make: () => { throw new Error('no such stream'); } });
    expect(results.every(({ outcome, reason }) => outcome === 'skipped' || reason === 'no such stream')).toBe(true);
  });

  it('passes a stream of one value that completes', async () => {
    const results = await checkStream({ make: () => of(1), completes: true });
    expect(results.filter(({ outcome }) => outcome === 'failed')).toEqual([]);
  });
});
