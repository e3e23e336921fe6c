import { describe, expect, it } from 'vitest';
import { Impatience } from '../../../src/devices/linux/impatience.js';

/** How often it asks before it lets itself be put to sleep. */
function asks(impatience: Impatience): number {
  let asked = 0;
  while (impatience.asksAgain()) asked += 1;
  return asked;
}

describe('Impatience', () => {
  it('asks again at once, for a while', () => {
    expect(asks(new Impatience())).toBe(200);
  });

  it('begins anew with each piece that comes', () => {
    const impatience = new Impatience();
    for (let piece = 0; piece < 10; piece += 1) {
      for (let n = 0; n < 150; n += 1) expect(impatience.asksAgain()).toBe(true);
      impatience.came();
    }
  });

  it('leaves off where it is in vain again and again, and tries more and more seldom', () => {
    const impatience = new Impatience();
    const asked = Array.from({ length: 20 }, () => {
      const some = asks(impatience);
      // Woken by the kernel: the question after that is answered.
      impatience.came();
      return some;
    });
    expect(asked.map((some) => Number(some > 0)).join('')).toBe('11110100100001000000');
  });

  it('has not tried in vain where one try in between was good', () => {
    const impatience = new Impatience();
    for (let round = 0; round < 10; round += 1) {
      for (let n = 0; n < 3; n += 1) expect(asks(impatience)).toBe(200);
      expect(impatience.asksAgain()).toBe(true);
      impatience.came();
    }
  });

  it('tries at least once in about a thousand', () => {
    const impatience = new Impatience();
    const asked = Array.from({ length: 5000 }, () => asks(impatience) > 0);
    const last = asked.lastIndexOf(true);
    expect(last - asked.lastIndexOf(true, last - 1)).toBe(1024);
  });
});
