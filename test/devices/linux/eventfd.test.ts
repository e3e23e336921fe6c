import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Eventfd } from '../../../src/devices/linux/eventfd.js';
import { countFds } from './process-state.js';

test('counts add, a read takes all, and nothing more is there', () => {
  const eventfd = new Eventfd();
  expect(eventfd.read()).toBeUndefined();
  expect(eventfd.write(1n)).toBe(true);
  expect(eventfd.write(1n << 40n)).toBe(true);
  expect(eventfd.read()).toBe((1n << 40n) + 1n);
  expect(eventfd.read()).toBeUndefined();
  eventfd.close();
});

test('a write of 0 adds nothing', () => {
  const eventfd = new Eventfd();
  expect(eventfd.write(0n)).toBe(true);
  expect(eventfd.read()).toBeUndefined();
  eventfd.close();
});

test('holds 2^64-2 exactly and refuses to pass it', () => {
  const eventfd = new Eventfd();
  expect(eventfd.write(2n ** 64n - 2n)).toBe(true);
  expect(eventfd.write(1n)).toBe(false);
  expect(eventfd.read()).toBe(2n ** 64n - 2n);
  for (const count of [-1n, 2n ** 64n - 1n, 2n ** 64n]) {
    expect(() => eventfd.write(count)).toThrow(expect.objectContaining({ code: 'VFIO_E_RANGE' }));
  }
  eventfd.close();
});

test('does not block and is closed on exec', () => {
  const eventfd = new Eventfd();
  const flags = Number.parseInt(/flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${String(eventfd.fd)}`, 'utf8'))?.[1] ?? '0', 8);
  expect(flags & 0o4000).not.toBe(0);
  expect(flags & 0o2000000).not.toBe(0);
  eventfd.close();
});

test('close twice is fine, use after it is an error, and the fd is gone', () => {
  const before = countFds('eventfd');
  const eventfd = new Eventfd();
  expect(countFds('eventfd')).toBe(before + 1);
  eventfd.close();
  eventfd.close();
  expect(countFds('eventfd')).toBe(before);
  const closed: unknown = expect.objectContaining({ code: 'VFIO_E_CLOSED' });
  expect(() => eventfd.read()).toThrow(closed);
  expect(() => eventfd.write(1n)).toThrow(closed);
  expect(() => eventfd.fd).toThrow(closed);
});
