import { concatMap, from, map } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { marbles } from '../../src/testing/index.js';
import { noticingPromises } from '../../src/testing/promise-guard.js';

const failure = (body: Parameters<typeof marbles>[0]): Error => {
  try {
    marbles(body);
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error('the test should have failed');
};

const words = 'somebody waits for a Promise in virtual time, where none ever goes on: use an Observable, with t.clock.scheduler for time';

describe('a Promise in a marble test', () => {
  it('fails it with a message that says so, and not with what it kept from coming', () => {
    const error = failure((t) => t.expect(t.cold('-a|').pipe(concatMap((value) => Promise.resolve(value)))).toBe('-a|'));
    expect(error.message).toBe(words);
    expect(error.cause).toMatchObject({ message: expect.stringContaining('the observable differs') as unknown });
  });

  it('fails it too where nothing else would', () => {
    expect(failure((t) => {
      t.cold('-a').pipe(concatMap(async (value) => { await Promise.resolve(); return value; })).subscribe();
      t.expect(t.cold('-a')).toBe('-a');
    }).message).toBe(words);
  });

  it('is named by the line that waits for it', () => {
    const error = failure((t) => {
      t.at('-x', { x: () => void Promise.resolve(1).then(() => undefined) });
      t.expect(t.cold('-a')).toBe('-a');
    });
    expect(error.stack?.split('\n').find((line) => line.includes(' at '))).toMatch(/promise-guard\.test\.ts:\d+:\d+/);
  });

  it('is no matter of a test that only makes one, as by closing a device', () => {
    marbles((t) => {
      const device = t.device();
      t.at('-c', { c: () => void device.close() });
      t.expectDevice(device).toBeReleased();
    });
  });

  it('is waited for as ever when the test has ended', async () => {
    failure((t) => t.expect(from(Promise.resolve(1)).pipe(map((n) => n))).toBe('|'));
    await expect(Promise.resolve(1).then((n) => n + 1)).resolves.toBe(2);
  });
});

describe('noticingPromises', () => {
  it('puts back what it took, whatever happens', () => {
    const before = Object.getOwnPropertyDescriptor(Promise.prototype, 'then');
    expect(() => noticingPromises(() => { throw new Error('no'); }, () => undefined)).toThrow('no');
    expect(Object.getOwnPropertyDescriptor(Promise.prototype, 'then')).toEqual(before);
  });
});
