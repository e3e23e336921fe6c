import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Credit, Window } from '../../src/wire/credit.js';

describe('credit', () => {
  it('keeps what is in flight within the window, and never starves a sender whose bytes are all consumed', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 1000 }), fc.array(fc.nat({ max: 300 }), { maxLength: 50 }), (windowBytes, wishes) => {
      const credit = new Credit(windowBytes);
      const window = new Window(windowBytes);
      for (const wish of wishes) {
        const bytes = Math.min(wish, credit.left);
        credit.take(bytes);
        window.received(bytes);
        credit.give(window.consumed(bytes));
        expect(credit.left).toBeGreaterThan(0);
        expect(credit.left).toBeLessThanOrEqual(windowBytes);
      }
    }));
  });

  it('refuses a sender that has none, and a receiver that gives what it has not got', () => {
    const window = new Window(10);
    window.received(10);
    expect(() => { window.received(1); }).toThrow('credit for 0');
    const credit = new Credit(10);
    credit.take(4);
    expect(() => { credit.give(5); }).toThrow('4 are in flight');
    expect(() => { credit.take(7); }).toThrow(RangeError);
  });
});
