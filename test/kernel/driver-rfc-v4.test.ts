import { expect, it } from 'vitest';
import { areas, registerTrigger, sampleUsers, told } from '../support/sample-user.js';

/** The proposal of 2020, with the read rule: RR-50 to RR-55 of the sample driver's header, on the real kernel. */

const device = sampleUsers();
const rfc = { profile: 'rfc-v4' } as const;

it('RR-50: its signals are bits, counts add, and it declares nothing more than its type', () => {
  const { mdev, user } = device(rfc);
  expect(user.irq(5).remap).toEqual({ subtype: 'rfc-v4' });
  expect(user.irqInfoInto(5, 16)[0]).toBe(40);
  const trigger = registerTrigger(user);
  mdev.write('revoke', 1);
  mdev.write('revoke', 0);
  expect(user.read(trigger)).toBe(0b11n);
});

it('RR-51: maskable by its flags, one vector, one fd: fresh, no semaphore, gone with fd -1 or no data', () => {
  const { mdev, user } = device(rfc);
  const { flags, count, maskable } = user.irq(5);
  expect([flags, count, maskable]).toEqual([0b1_0011, 1, true]);
  const ack = user.eventfd();
  expect([user.ack(5, ack), user.trigger(5, user.eventfd({ count: 1 })), user.trigger(5, user.eventfd({ semaphore: true }))]).toEqual(['ENOTTY', 'EBUSY', 'EINVAL']);
  for (const disable of [() => user.disable(5), () => user.trigger(5, -1)]) {
    registerTrigger(user);
    expect([disable(), mdev.number('irqs')]).toEqual(['ok', 0]);
  }
});

it.each([
  [0n, undefined],
  [1n, 1n],
] as const)('RR-52: a write of %s after the read ends the wait; the user reads %s back', async (value, echo) => {
  const { mdev, user } = device(rfc);
  const trigger = registerTrigger(user);
  const written = user.setState('pre-copy');
  expect(await user.signal(trigger)).toBe(0b11n);
  user.write(trigger, value);
  expect([await written, user.read(trigger), mdev.number('acked')]).toEqual(['ok', echo, 1]);
});

it.each([0n, 1n])('RR-53: an ack by %s while the signal is unread is ignored; the one after the read counts', async (value) => {
  const { mdev, user } = device(rfc);
  const trigger = registerTrigger(user);
  mdev.write('revoke', 1);
  expect(user.read(trigger)).toBe(0b10n);
  const written = user.setState('pre-copy');
  // The wait is armed by the add itself, which comes a moment after it is counted.
  while (!user.readable(trigger)) await new Promise(setImmediate);
  // For the older signal; it comes when the newer one is out.
  user.write(trigger, value);
  expect([mdev.number('waiters'), told(mdev, 'ack', 'read')]).toEqual([1, ['read=0']]);
  expect(user.read(trigger)).toBe(0b11n + value);
  user.write(trigger, value);
  expect([await written, told(mdev, 'ack', 'read')]).toEqual(['ok', ['read=0', 'read=1']]);
});

it('RR-53: polls, reads that find nothing and the driver’s own adds are no reads', async () => {
  const { mdev, user } = device(rfc);
  const trigger = registerTrigger(user);
  expect(user.read(trigger)).toBeUndefined();
  const written = user.setState('pre-copy');
  while (!user.readable(trigger)) await new Promise(setImmediate);
  const signal = user.signal(trigger);
  mdev.write('revoke', 1);
  expect(mdev.number('waiters')).toBe(1);
  user.write(trigger, 0n);
  expect(mdev.number('waiters')).toBe(1);
  await signal;
  user.write(trigger, 0n);
  expect(await written).toBe('ok');
});

it('RR-54: entering the saving group is ENODEV without the irq', async () => {
  const { user } = device(rfc);
  expect(await user.setState('pre-copy')).toBe('ENODEV');
  registerTrigger(user);
  user.disable(5);
  expect([await user.setState('stop-copy'), user.setStateNow('stop')]).toEqual(['ENODEV', 'ok']);
});

it('RR-55: the wait comes first, nothing else is blocked, and what only adds is not waited for', async () => {
  const { mdev, user } = device(rfc);
  const trigger = registerTrigger(user);
  const mailbox = user.map(0, areas.whole);
  const written = user.setState('pre-copy');
  await user.signal(trigger);
  expect([user.setStateNow('stop'), user.getState(), user.region(0).mmappable, user.map(0, areas.whole)]).toEqual(['EBUSY', 'running', false, 'EINVAL']);
  user.touch(mailbox);
  user.unmap(mailbox);
  user.write(trigger, 0n);
  expect(await written).toBe('ok');
  expect(user.setStateNow('running')).toBe('ok');
  expect([user.read(trigger), mdev.number('waiters'), mdev.number('violations')]).toEqual([0b11n, 0, 0]);
});

it.each(['a disable', 'a hang-up', 'a reset', 'a timeout'])('RR-55: %s fails the wait, and all is as before', async (what) => {
  const { mdev, user } = device({ ...rfc, ...(what === 'a timeout' ? { ackTimeoutMs: 100 } : {}) });
  const trigger = registerTrigger(user);
  const written = user.setState('pre-copy');
  await user.signal(trigger);
  if (what === 'a disable') user.disable(5);
  if (what === 'a hang-up') user.hangUp(trigger);
  if (what === 'a reset') user.reset();
  expect(await written).toBe(what === 'a timeout' ? 'ETIMEDOUT' : 'ECANCELED');
  expect([mdev.read('state'), user.region(0).mmappable]).toEqual(['RUNNING', true]);
});
