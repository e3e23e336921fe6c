import { describe, expect, it } from 'vitest';
import { mostOutstanding, Outstanding } from '../../../src/devices/vfio-user/outstanding.js';

function added<T>(calls: Outstanding<T>, call: T): number {
  const id = calls.nextId();
  calls.add(id, call);
  return id;
}

describe('Outstanding', () => {
  it('gives ids that follow one another, and passes over those that wait', () => {
    const calls = new Outstanding<string>();
    expect([added(calls, 'a'), added(calls, 'b')]).toEqual([0, 1]);
    calls.delete(0);
    const seen = new Set<number>();
    for (let n = 0; n < 70_000; n += 1) {
      const id = added(calls, 'c');
      seen.add(id);
      calls.delete(id);
    }
    expect(seen.has(1)).toBe(false);
    expect(seen.size).toBeGreaterThan(65_000);
    expect([calls.get(1), calls.size]).toEqual(['b', 1]);
  });

  it('takes an id that stands for nothing, or for a call that has its reply, for nothing', () => {
    const calls = new Outstanding<string>();
    const id = added(calls, 'a');
    expect([calls.get(id + 512), calls.get(77)]).toEqual([undefined, undefined]);
    calls.delete(id);
    expect(calls.get(id)).toBeUndefined();
  });

  it('hands out all that wait, the oldest first, also where the ids began anew', () => {
    const calls = new Outstanding<number>();
    for (let n = 0; n < 65_500; n += 1) calls.delete(added(calls, n));
    const order = Array.from({ length: mostOutstanding }, (_, n) => n);
    for (const n of order) added(calls, n);
    expect([calls.size, calls.drain(), calls.size, calls.drain()]).toEqual([mostOutstanding, order, 0, []]);
  });
});
