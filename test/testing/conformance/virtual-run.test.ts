import { firstValueFrom, timer } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { virtualRun } from '../../../src/testing/index.js';

describe('virtualRun', () => {
  it('lets time pass only when nothing but time can bring the work on', async () => {
    const seen: string[] = [];
    const nowMs = await virtualRun(async (clock) => {
      clock.scheduler.schedule(() => seen.push('3 ms'), 3);
      for (let n = 0; n < 100; n += 1) await Promise.resolve();
      seen.push('promises');
      await firstValueFrom(timer(3_600_000, clock.scheduler));
      return clock.nowNs() / 1_000_000n;
    });
    expect(seen).toEqual(['promises', '3 ms']);
    expect(nowMs).toBe(3_600_000n);
  });

  it('rejects as the work does', async () => {
    await expect(virtualRun(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
  });

  it('says that the work waits for what does not come', async () => {
    await expect(virtualRun(() => new Promise(() => undefined))).rejects.toThrow('the work waits for something that virtual time does not bring');
  });
});
