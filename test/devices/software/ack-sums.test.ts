import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AckSums } from '../../../src/devices/software/ack-sums.js';

const all64 = 2n ** 64n - 1n;

describe('AckSums', () => {
  it('covers a target once all up to it has come back, whichever batch the ack is for', () => {
    const sums = new AckSums();
    sums.signal(1n);
    sums.signal(1n);
    const target = sums.target ?? 0n;
    sums.acknowledge(1n);
    expect(sums.covers(target)).toBe(false);
    sums.signal(1n);
    sums.acknowledge(1n);
    expect(sums.covers(target)).toBe(true);
    expect(sums.outstanding).toBe(1n);
  });

  it('ignores an ack for more than is outstanding', () => {
    const sums = new AckSums();
    sums.signal(1n);
    expect(sums.acknowledge(2n)).toBe(false);
    expect(sums.acked).toBe(0n);
    expect(sums.acknowledge(1n)).toBe(true);
  });

  it('holds a signal back that would fill the count, has no target meanwhile, and sends it after the ack', () => {
    const sums = new AckSums();
    expect(sums.signal(1n << 63n)).toEqual([1n << 63n]);
    expect(sums.signal(1n << 63n)).toEqual([]);
    expect(sums.target).toBeUndefined();
    sums.acknowledge(1n << 63n);
    expect(sums.flush()).toEqual([1n << 63n]);
    expect(sums.target).toBe(0n); // 2^64, wrapped
    expect(sums.covers(0n)).toBe(false);
    sums.acknowledge(1n << 63n);
    expect(sums.covers(0n)).toBe(true);
  });

  it('sends all 64 bits as two adds', () => {
    const sums = new AckSums();
    expect(sums.signal(all64)).toEqual([1n << 63n]);
    expect(sums.target).toBeUndefined();
    sums.acknowledge(1n << 63n);
    expect(sums.flush()).toEqual([(1n << 63n) - 1n]);
    expect(sums.target).toBe(all64);
  });

  it('agrees with counting the signals one by one, across the wrap and with signals held back', () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant('signal' as const), bits: fc.oneof(fc.bigInt(1n, 255n), fc.bigInt(1n, all64), fc.constant(all64)) }),
      fc.record({ kind: fc.constant('read' as const) }),
      fc.record({ kind: fc.constant('ack' as const) }),
    );
    fc.assert(fc.property(fc.bigInt(0n, all64), fc.array(step, { maxLength: 60 }), (start, steps) => {
      const sums = new AckSums(start);
      let count = 0n;
      let unacked = 0n;
      // Numbers of adds: made, read, acked. A target is covered iff as many are acked as were made when it was taken.
      let made = 0;
      let read = 0;
      let acked = 0;
      let waits: { target: bigint; after: number }[] = [];
      let unsentWait = false;
      const put = (adds: readonly bigint[]): void => {
        for (const add of adds) {
          count += add;
          made += 1;
          expect(count).toBeLessThan(all64);
        }
        if (unsentWait && sums.target !== undefined) {
          waits.push({ target: sums.target, after: made });
          unsentWait = false;
        }
      };
      const judge = (): void => {
        for (const { target, after } of waits) expect(sums.covers(target)).toBe(after <= acked);
        waits = waits.filter(({ after }) => after > acked);
      };
      for (const one of steps) {
        if (one.kind === 'signal') {
          unsentWait = true;
          put(sums.signal(one.bits));
        } else if (one.kind === 'read') {
          unacked += count;
          count = 0n;
          read = made;
        } else if (unacked > 0n) {
          expect(sums.acknowledge(unacked)).toBe(true);
          acked = read;
          unacked = 0n;
          judge();
          put(sums.flush());
        }
        judge();
      }
    }), { numRuns: 2000 });
  });
});
