import { describe, expect, it } from 'vitest';
import { areas, register, registerTrigger, sampleUsers, told } from '../support/sample-user.js';

/** How the sample driver hears acks: by value (RR-14 to RR-17, RR-24, RR-25), and by the mappings alone (RR-29 to RR-31). */

const device = sampleUsers();
const { whole, first, second } = areas;
const largestWrite = 0xffff_ffff_ffff_fffen;

describe('acks by value', () => {
  it('RR-14: each write is heard by itself, and nothing of it stays in the eventfd', () => {
    const { mdev, user } = device();
    const { trigger, ack } = register(user);
    for (const region of [0, 1]) mdev.write('revoke', region);
    expect(user.read(trigger)).toBe(2n);
    user.write(ack, 1n);
    user.write(ack, 1n);
    expect([user.read(ack), told(mdev, 'ack', 'value'), mdev.number('acked')]).toEqual([undefined, ['value=1', 'value=1'], 2]);
  });

  it('RR-15: an ack for an older signal does not end a newer wait; the sum of all does', async () => {
    const { mdev, user } = device();
    const { trigger, ack } = register(user);
    mdev.write('revoke', 1);
    expect(user.read(trigger)).toBe(1n);
    const written = user.setState('pre-copy');
    expect(await user.signal(trigger)).toBe(1n);
    user.write(ack, 1n);
    expect([mdev.number('waiters'), told(mdev, 'wait', 'target')]).toEqual([1, ['target=2']]);
    user.write(ack, 1n);
    expect(await written).toBe('ok');
  });

  it('RR-15: one ack may cover several signals, whenever they were read', async () => {
    const { mdev, user } = device();
    const { trigger, ack } = register(user);
    mdev.write('revoke', 1);
    const written = user.setState('pre-copy');
    let read = await user.signal(trigger);
    if (read < 2n) read += await user.signal(trigger);
    user.write(ack, read);
    expect([await written, mdev.number('acked')]).toEqual(['ok', 2]);
  });

  it('RR-15: a late ack of a wait that timed out does not end the next', async () => {
    const { mdev, user } = device({ ackTimeoutMs: 100 });
    const { trigger, ack } = register(user);
    expect(await user.setState('pre-copy')).toBe('ETIMEDOUT');
    expect(user.read(trigger)).toBe(2n);
    mdev.write('ack_timeout_ms', 20_000);
    const written = user.setState('pre-copy');
    expect(await user.signal(trigger)).toBe(1n);
    user.write(ack, 2n);
    expect(mdev.number('waiters')).toBe(1);
    user.write(ack, 1n);
    expect(await written).toBe('ok');
  });

  it.each([2n, largestWrite])('RR-16: an ack of %s where 1 is owed is ignored, and counted', async (value) => {
    const { mdev, user } = device();
    const { trigger, ack } = register(user);
    const written = user.setState('pre-copy');
    expect(await user.signal(trigger)).toBe(1n);
    user.write(ack, value);
    expect([mdev.number('waiters'), mdev.number('acked'), mdev.number('violations')]).toEqual([1, 0, 1]);
    user.write(ack, 1n);
    expect(await written).toBe('ok');
  });

  it('RR-17: what would pass the limit is kept, and made after the next ack; its wait takes its target then', async () => {
    const { mdev, user } = device();
    const { trigger, ack } = register(user);
    mdev.write('count_limit', 2);
    mdev.write('revoke', 1);
    const written = user.setState('pre-copy');
    while (mdev.number('waiters') === 0) await new Promise(setImmediate);
    expect([user.read(trigger), mdev.number('sent'), told(mdev, 'wait')]).toEqual([1n, 1, []]);
    user.write(ack, 1n);
    expect(await user.signal(trigger)).toBe(1n);
    expect([mdev.number('sent'), told(mdev, 'wait', 'target')]).toEqual([2, ['target=2']]);
    user.write(ack, 1n);
    expect(await written).toBe('ok');
  });

  it('RR-17: of a bitmap that does not fit the bits that fit go first, and the wait is for all of it', async () => {
    const { mdev, user } = device({ profile: 'bitmap-value' });
    const { trigger, ack } = register(user);
    mdev.write('count_limit', 3);
    const written = user.setState('pre-copy');
    expect(await user.signal(trigger)).toBe(0b01n);
    user.write(ack, 0b01n);
    expect(await user.signal(trigger)).toBe(0b10n);
    expect(mdev.number('waiters')).toBe(1);
    user.write(ack, 0b10n);
    expect([await written, mdev.number('sent'), mdev.number('violations')]).toEqual(['ok', 3, 0]);
  });
});

describe('bitmaps', () => {
  it('RR-24, RR-25: a signal is one add of its regions’ bits; counts add, and so carry', () => {
    const { mdev, user } = device({ profile: 'bitmap-value' });
    const { trigger, ack } = register(user);
    mdev.write('revoke', 1);
    expect(user.read(trigger)).toBe(0b10n);
    mdev.write('restore', 1);
    mdev.write('revoke', 0);
    mdev.write('restore', 0);
    expect(user.read(trigger)).toBe(0b100n);
    user.write(ack, 0b110n);
    expect([mdev.number('acked'), mdev.number('violations')]).toEqual([6, 0]);
  });

  it('RR-24: an add of several bits is whole for a reader, whoever reads when', async () => {
    const { mdev, user } = device({ profile: 'bitmap-none' });
    const trigger = registerTrigger(user);
    for (let nth = 0; nth < 20; nth += 1) {
      expect(await user.setState('pre-copy')).toBe('ok');
      expect(user.read(trigger)).toBe(0b11n);
      expect(user.setStateNow('running')).toBe('ok');
      expect(user.read(trigger)).toBe(0b11n);
    }
    expect(told(mdev, 'lost')).toEqual([]);
  });

  it('RR-20: a driver that adds more than 1 hears the last close all the same', async () => {
    const { mdev, user } = device({ profile: 'bitmap-value' });
    const { trigger } = register(user);
    user.map(0, whole);
    const written = user.setState('pre-copy');
    expect(await user.signal(trigger)).toBe(0b11n);
    user.hangUp(trigger);
    expect(await written).toBe('ECANCELED');
    while (mdev.number('irqs') > 0) await new Promise(setImmediate);
  });
});

describe.each(['doorbell-none', 'bitmap-none'] as const)('%s', (profile) => {
  it('RR-29: the wait ends with the last mapping of what is not offered, and not before', async () => {
    const { mdev, user } = device({ profile });
    const trigger = registerTrigger(user);
    const mappings = [user.map(0, whole), user.map(0, first), user.map(1, second)];
    user.map(1, first);
    const written = user.setState('pre-copy');
    await user.signal(trigger);
    for (const mapping of mappings) {
      expect(mdev.number('waiters')).toBe(1);
      user.unmap(mapping);
    }
    expect([await written, mdev.number('vmas'), mdev.number('violations')]).toEqual(['ok', 1, 0]);
  });

  it('RR-29: there is no ack fd, and nothing mapped is nothing to wait for', async () => {
    const { mdev, user } = device({ profile });
    expect(user.ack(5, user.eventfd())).toBe('ENOTTY');
    registerTrigger(user);
    expect(await user.setState('stop-copy')).toBe('ok');
    expect(told(mdev, 'release', 'ret')).toEqual(['ret=0']);
  });

  it('RR-30: ranges count: neither half of a mapping alone ends the wait, nor MADV_DONTNEED', async () => {
    const { mdev, user } = device({ profile });
    const trigger = registerTrigger(user);
    const mailbox = user.map(0, whole);
    user.touch(mailbox);
    const written = user.setState('pre-copy');
    await user.signal(trigger);
    // The kernel does not even do it to mappings of a device.
    expect([user.dontNeed(mailbox), mdev.number('waiters')]).toEqual(['EINVAL', 1]);
    const rest = user.unmap(mailbox, 0x8000);
    expect([mdev.number('waiters'), mdev.number('vmas')]).toEqual([1, 1]);
    user.unmap(rest);
    expect(await written).toBe('ok');
  });

  it('RR-20: a mapping that stays is a timeout, and the layout as before', async () => {
    const { user } = device({ profile, ackTimeoutMs: 100 });
    registerTrigger(user);
    user.map(0, whole);
    expect(await user.setState('pre-copy')).toBe('ETIMEDOUT');
    expect([user.getState(), user.region(0).mmappable]).toEqual(['running', true]);
  });
});

describe('mappings', () => {
  it('RR-31: shared, within one offered area, and not inherited', () => {
    const { mdev, user } = device();
    expect(user.mapPrivate(0, first)).toBe('EINVAL');
    expect(user.map(1, { offset: 0x4000, size: 0x8000 })).toBe('EINVAL');
    expect(user.map(1, { offset: 0x7000, size: 0x1000 })).not.toBe('EINVAL');
    expect(user.flagsOf(user.map(0, whole))).toEqual(expect.arrayContaining(['sh', 'dc', 'de', 'io', 'pf']));
    expect(mdev.number('vmas')).toBe(2);
  });

  it('RR-30: one that mremap moves stays counted, wherever it is, and cannot grow', async () => {
    const { mdev, user } = device({ profile: 'doorbell-none' });
    const trigger = registerTrigger(user);
    const mailbox = user.map(0, first);
    const written = user.setState('pre-copy');
    await user.signal(trigger);
    expect(user.remap(mailbox, 0x9000)).toBe('EFAULT');
    const moved = user.remap(mailbox);
    expect(moved).not.toBe(mailbox);
    expect([mdev.number('waiters'), mdev.number('vmas')]).toEqual([1, 1]);
    user.unmap(moved);
    expect(await written).toBe('ok');
  });
});
