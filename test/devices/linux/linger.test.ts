import { expect, test } from 'vitest';
import { Linger } from '../../../src/devices/linux/linger.js';

const us = (value: number): bigint => BigInt(value) * 1000n;
const start = us(1_000_000);

test('an isolated signal never lingers', () => {
  const linger = new Linger(30);
  linger.wake(start);
  expect(linger.timeoutNs(start)).toBe(0);
  linger.wake(start + us(100));
  expect(linger.timeoutNs(start + us(100))).toBe(0);
});

test('one that follows closely does, for the time given', () => {
  const linger = new Linger(30);
  linger.wake(start);
  linger.wake(start + us(99));
  expect(linger.timeoutNs(start + us(99))).toBe(30_000);
});

test('the loop has its turn after 250 us of dense traffic', () => {
  const linger = new Linger(30);
  linger.wake(start);
  linger.wake(start + us(10));
  linger.waited(1);
  expect(linger.timeoutNs(start + us(259))).toBe(30_000);
  expect(linger.timeoutNs(start + us(260))).toBe(0);
});

test('in vain, it doubles what it passes over, up to 1,023 wakes; a success makes it keen again', () => {
  const linger = new Linger(30);
  let now = start;
  linger.wake(now);
  const passedOver = (): number => {
    for (let wakes = 0; ; wakes++) {
      now += us(10);
      linger.wake(now);
      if (linger.timeoutNs(now) > 0) return wakes;
    }
  };
  expect(passedOver()).toBe(0);
  for (const expected of [1, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 1023]) {
    linger.waited(0);
    expect(passedOver()).toBe(expected);
  }
  linger.waited(1);
  expect(passedOver()).toBe(0);
  linger.waited(0);
  expect(passedOver()).toBe(1);
});

test('never on a kernel without epoll_pwait2, nor with 0', () => {
  const old = new Linger(30);
  old.wake(start);
  old.wake(start + us(1));
  old.waited(-38);
  expect(old.timeoutNs(start + us(1))).toBe(0);
  const off = new Linger(0);
  off.wake(start);
  off.wake(start + us(1));
  expect(off.timeoutNs(start + us(1))).toBe(0);
});
