import { describe, expect, it } from 'vitest';
import { areas, register, sampleUsers, told } from '../support/sample-user.js';

/** Discovery and registration, as the sample driver takes them: rules RR-1 to RR-9 of its header, on the real kernel. */

const device = sampleUsers();

describe('discovery', () => {
  it('RR-1: the irq stands behind those of PCI, or at index 1 of a face that is none, and absent indexes are EINVAL', () => {
    const pci = device();
    expect([pci.user.info().irqs, pci.user.irq(5).remap?.subtype]).toEqual([6, 'region-remap']);
    const other = device({ face: 'non-pci' });
    expect([other.user.info().irqs, other.user.irq(1).remap?.subtype, other.user.irq(0).remap]).toEqual([2, 'region-remap', undefined]);
    for (const [user, index] of [[pci.user, 2], [pci.user, 6], [other.user, 2]] as const) {
      expect(() => user.irq(index)).toThrow(expect.objectContaining({ errno: 'EINVAL' }) as Error);
    }
  });

  it('RR-2: a buffer too small for the chain is told the size, with CAPS set and cap_offset 0', () => {
    const { user } = device();
    const answer = (bytes: number): readonly number[] => [...user.irqInfoInto(5, bytes)];
    const [needed = 0] = answer(16);
    expect(needed).toBe(72);
    expect(answer(16)[1]).toBe(0b1_0001);
    expect(answer(20)).toEqual([needed, 0b1_0001, 5, 1, 0]);
    expect(answer(needed).slice(0, 5)).toEqual([needed, 0b1_0001, 5, 1, 24]);
  });

  it('RR-3: what may be signalled is declared, and nothing else ever is', () => {
    const { mdev, user } = device({ profile: 'bitmap-value' });
    expect(user.irq(5).remap).toMatchObject({ page: 0, regions: 0b11n });
    const { trigger } = register(user);
    for (const region of [0, 1]) mdev.write('revoke', region);
    expect(user.read(trigger)).toBe(0b11n);
    expect(() => { mdev.write('revoke', 2); }).toThrow(/EINVAL/);
  });
});

describe('registration', () => {
  it.each([['trigger', 'ack'], ['ack', 'trigger']] as const)('RR-5: %s first, then %s: enabled when both are there', (one, other) => {
    const { mdev, user } = device();
    const add = { trigger: () => user.trigger(5, user.eventfd()), ack: () => user.ack(5, user.eventfd()) };
    expect(add[one]()).toBe('ok');
    expect(() => { mdev.write('revoke', 0); }).toThrow(/EPERM/);
    expect(add[other]()).toBe('ok');
    mdev.write('revoke', 0);
    expect(mdev.number('sent')).toBe(1);
  });

  it('RR-5: one vector, by eventfd: anything else is refused', () => {
    const { user } = device();
    const fds = [user.eventfd(), user.eventfd()];
    expect(user.setIrqs({ index: 5, action: 'trigger', data: 'eventfd', fds })).toBe('EINVAL');
    expect(user.setIrqs({ index: 5, action: 'trigger', data: 'none', count: 1 })).toBe('ENOTTY');
    expect(user.setIrqs({ index: 5, action: 'unmask', data: 'bool', vectors: [true] })).toBe('ENOTTY');
    expect(user.setIrqs({ index: 5, action: 'mask', data: 'none', count: 1 })).toBe('ENOTTY');
  });

  it.each([['fd -1', -1], ['no data', undefined]] as const)('RR-6: %s on the trigger disables both; fd -1 on the ack fd disables that alone', (_name, fd) => {
    const { mdev, user } = device();
    register(user);
    expect(user.ack(5, -1)).toBe('ok');
    expect(mdev.number('irqs')).toBe(1);
    expect(user.ack(5, user.eventfd())).toBe('ok');
    expect(fd === undefined ? user.disable(5) : user.trigger(5, fd)).toBe('ok');
    expect(mdev.number('irqs')).toBe(0);
  });

  it('RR-6: a registration that fails has removed the one before it', () => {
    const { mdev, user } = device();
    register(user);
    expect(user.ack(5, 1_000_000)).toBe('EBADF');
    expect(mdev.number('irqs')).toBe(1);
    expect(user.trigger(5, 1_000_000)).toBe('EBADF');
    expect(mdev.number('irqs')).toBe(0);
  });

  it('RR-7: an eventfd with a count is EBUSY in either role', () => {
    const { mdev, user } = device();
    expect([user.trigger(5, user.eventfd({ count: 1 })), user.ack(5, user.eventfd({ count: 7 }))]).toEqual(['EBUSY', 'EBUSY']);
    expect(mdev.number('irqs')).toBe(0);
  });

  it('RR-7: what is left of an old registration is no fresh eventfd, and is not taken from the user', () => {
    const { mdev, user } = device();
    const { trigger } = register(user);
    mdev.write('revoke', 0);
    user.disable(5);
    expect(user.trigger(5, trigger)).toBe('EBUSY');
    expect(user.read(trigger)).toBe(1n);
    expect(user.trigger(5, trigger)).toBe('ok');
  });

  it('RR-8: a semaphore cannot carry acks, and keeps nothing of the attempt', () => {
    const { mdev, user } = device();
    const semaphore = user.eventfd({ semaphore: true });
    expect(user.ack(5, semaphore)).toBe('EINVAL');
    expect([mdev.number('irqs'), user.read(semaphore)]).toEqual([0, undefined]);
  });

  it('RR-8: no eventfd in two roles, nor on two pages; MSI vectors may share one among themselves', () => {
    const { mdev, user } = device({ pages: 2 });
    const { trigger, ack } = register(user);
    expect([user.trigger(6, trigger), user.ack(6, ack), user.trigger(1, ack), mdev.number('irqs')]).toEqual(['EINVAL', 'EINVAL', 'EINVAL', 2]);
    // This one would ack itself; it has removed the ack fd that was there (RR-6).
    expect([user.ack(5, trigger), mdev.number('irqs')]).toEqual(['EINVAL', 1]);
    const shared = user.eventfd();
    expect(user.setIrqs({ index: 1, action: 'trigger', data: 'eventfd', fds: [shared, shared] })).toBe('ok');
    expect(user.trigger(6, shared)).toBe('EINVAL');
  });

  it('RR-9: every change of registration sets the sums to 0', () => {
    const { mdev, user } = device();
    const { trigger } = register(user);
    mdev.write('revoke', 0);
    mdev.write('restore', 0);
    expect([mdev.number('sent'), user.read(trigger)]).toEqual([2, 2n]);
    const ack = user.eventfd();
    expect(user.ack(5, ack)).toBe('ok');
    expect(mdev.number('sent')).toBe(0);
    // The ack of the old registration is for nothing that this one sent.
    user.write(ack, 2n);
    expect([mdev.number('acked'), mdev.number('violations')]).toEqual([0, 1]);
  });

  it('RR-9: what was revoked and never acked is asked for again by the next signal', () => {
    const { mdev, user } = device();
    register(user);
    user.map(0, areas.whole);
    mdev.write('revoke', 0);
    user.disable(5);
    const { trigger, ack } = register(user);
    mdev.write('revoke', 1);
    user.write(ack, user.read(trigger) ?? 0n);
    // The one ack was for both: region 0 is still mapped, and that is noticed now.
    expect([mdev.number('sent'), told(mdev, 'violation', 'kind', 'region')]).toEqual([1, ['kind=acked_while_mapped region=0']]);
  });
});
