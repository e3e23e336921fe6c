import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ackWrites, isSaturated } from '../../../src/devices/protocol/ack-value.js';
import { SoftEventfd } from '../../../src/devices/software/eventfd.js';

const most = 2n ** 64n - 1n;
const sums = fc.oneof(fc.bigInt(0n, most), fc.bigInt(most - 4n, most), fc.bigInt(0n, 4n));

describe('ackWrites', () => {
  it('brings the whole sum, each write one that an eventfd takes', () => {
    fc.assert(fc.property(sums, (sum) => {
      const writes = ackWrites(sum);
      expect(writes.reduce((total, write) => total + write, 0n)).toBe(sum);
      expect(writes.every((write) => write >= 1n && write < most)).toBe(true);
      // The driver empties its eventfd as each write arrives.
      const eventfd = new SoftEventfd();
      for (const write of writes) {
        expect(eventfd.write(write)).toBeUndefined();
        expect(eventfd.read()).toBe(write);
      }
    }), { examples: [[0n], [1n], [most - 1n], [most]] });
  });

  it('writes nothing for nothing, once for all but the largest sum', () => {
    expect(ackWrites(0n)).toEqual([]);
    expect(ackWrites(most - 1n)).toEqual([most - 1n]);
    expect(ackWrites(most)).toEqual([most - 1n, 1n]);
  });
});

describe('isSaturated', () => {
  it('is true where adds may have been lost', () => {
    expect([0n, 1n, most - 2n, most - 1n, most].map(isSaturated)).toEqual([false, false, false, true, true]);
  });
});
