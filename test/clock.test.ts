import { describe, expect, it } from 'vitest';
import { realClock, timerMs } from '../src/clock.js';

describe('timerMs', () => {
  it('bounds what a device asks for: beyond 2^31 - 1 ms Node would fire after 1 ms', () => {
    expect([0, 500, 2 ** 31 - 1, 2 ** 31, 3_600_000 * 1000].map(timerMs)).toEqual([0, 500, 2 ** 31 - 1, 2 ** 31 - 1, 2 ** 31 - 1]);
  });
});

describe('the real clock', () => {
  it('counts a stall that is still going on: the turn that asks may be the one that ends it', () => {
    const watch = realClock.watchStalls();
    const until = realClock.nowNs() + 30_000_000n;
    while (realClock.nowNs() < until);
    const longest = watch.longestNs();
    watch.stop();
    expect(longest).toBeGreaterThanOrEqual(20_000_000n);
  });

  it('has one watch for all: each counts from where it began, and goes on when another ends', () => {
    const block = (ms: number): void => {
      const until = realClock.nowNs() + BigInt(ms) * 1_000_000n;
      while (realClock.nowNs() < until);
    };
    const first = realClock.watchStalls();
    block(30);
    const sinceNs = realClock.nowNs();
    const second = realClock.watchStalls();
    // A busy machine may stall it by itself: no more than since it began.
    expect(second.longestNs()).toBeLessThanOrEqual(realClock.nowNs() - sinceNs);
    second.stop();
    block(30);
    // One gap: no tick of the loop was in between, whoever came and went.
    expect(first.longestNs()).toBeGreaterThanOrEqual(50_000_000n);
    first.stop();
  });
});
