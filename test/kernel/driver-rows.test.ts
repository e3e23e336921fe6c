import { describe, expect, it } from 'vitest';
import type { SampleProfile } from '../support/mdev.js';
import { areas, patientMs, sampleUsers } from '../support/sample-user.js';

/**
 * The sample driver in every row of the protocol, judged from a user's side that has no manners of its own: what it declares,
 * what it signals, and what ends its wait. Rule numbers are those of drivers/linux/vfio_region_remap.h.
 */

const device = sampleUsers();
const { whole, first, second, onlySaving } = areas;

interface SignalledRow {
  readonly profile: SampleProfile;
  /** What a revocation of regions 0 and 1 adds. */
  readonly count: bigint;
  readonly acks: 'value' | 'bare' | 'none';
  readonly refusedAs: string;
}

const signalled: readonly SignalledRow[] = [
  { profile: 'doorbell-value', count: 1n, acks: 'value', refusedAs: 'EPERM' },
  { profile: 'doorbell-none', count: 1n, acks: 'none', refusedAs: 'EPERM' },
  { profile: 'bitmap-value', count: 3n, acks: 'value', refusedAs: 'EPERM' },
  { profile: 'bitmap-none', count: 3n, acks: 'none', refusedAs: 'EPERM' },
  { profile: 'rfc-v4', count: 3n, acks: 'bare', refusedAs: 'ENODEV' },
];

describe.each(signalled)('$profile', ({ profile, count, acks, refusedAs }) => {
  it('revokes, signals, waits, and is released by its own kind of ack; a change that only adds is not waited for', async () => {
    const { mdev, user } = device({ profile });
    expect(await user.setState('pre-copy')).toBe(refusedAs);
    const trigger = user.eventfd();
    const ack = user.eventfd();
    expect(user.trigger(5, trigger)).toBe('ok');
    expect(user.ack(5, ack)).toBe(acks === 'value' ? 'ok' : 'ENOTTY');
    const mailbox = user.map(0, whole);
    user.map(1, first);
    const sparse = user.map(1, second);

    const written = user.setState('pre-copy');
    const read = await user.signal(trigger);
    expect(read).toBe(count);
    expect(mdev.number('waiters')).toBe(1);
    expect([user.region(0).mmappable, user.region(1).areas]).toEqual([false, [first]]);
    expect(user.map(0, whole)).toBe('EINVAL');
    expect(user.getState()).toBe('running');
    user.unmap(mailbox);
    user.unmap(sparse);
    if (acks === 'value') expect(user.write(ack, read)).toBe('ok');
    if (acks === 'bare') expect(user.write(trigger, 0n)).toBe('ok');

    expect(await written).toBe('ok');
    expect([mdev.read('state'), mdev.number('violations'), mdev.number('vmas')]).toEqual(['PRE_COPY', 0, 1]);
    expect(await user.setState('running')).toBe('ok');
    expect(user.read(trigger)).toBe(count);
    expect(user.region(0).mmappable).toBe(true);
  });
});

describe('what each row declares', () => {
  const declared = { page: 0, regions: 3n, ackTimeoutMs: patientMs, maxWaits: 1 };

  it.each([
    ['doorbell-value', { subtype: 'region-remap', doorbell: true, noAck: false, ...declared }],
    ['doorbell-none', { subtype: 'region-remap', doorbell: true, noAck: true, ...declared }],
    ['bitmap-value', { subtype: 'region-remap', doorbell: false, noAck: false, ...declared }],
    ['bitmap-none', { subtype: 'region-remap', doorbell: false, noAck: true, ...declared }],
    ['rfc-v4', { subtype: 'rfc-v4' }],
  ] as const)('%s', (profile, remap) => {
    const { user } = device({ profile });
    expect([user.info().irqs, user.irq(5).remap]).toEqual([6, remap]);
  });

  it.each(['saving-layout', 'static'] as const)('%s: no remap irq', (profile) => {
    const { user } = device({ profile });
    expect(user.info().irqs).toBe(5);
    expect(() => user.irq(5)).toThrow(expect.objectContaining({ errno: 'EINVAL' }) as Error);
  });
});

describe('saving-layout', () => {
  it('RR-41, RR-42, RR-44: refuses both ways, and a reset, while a mapping conflicts with the layout of the target', async () => {
    const { mdev, user } = device({ profile: 'saving-layout' });
    const mailbox = user.map(0, whole);
    user.map(1, first);
    expect(user.map(1, onlySaving)).toBe('EINVAL');
    expect(await user.setState('stop-copy')).toBe('EBUSY');
    expect([user.getState(), user.region(0).mmappable]).toEqual(['running', true]);
    user.unmap(mailbox);
    expect(await user.setState('stop-copy')).toBe('ok');
    expect([user.map(0, whole), user.map(1, second)]).toEqual(['EINVAL', 'EINVAL']);
    const extra = user.map(1, onlySaving);
    expect(await user.setState('running')).toBe('EBUSY');
    expect(user.reset()).toBe('EBUSY');
    expect(user.getState()).toBe('stop-copy');
    user.unmap(extra);
    expect(await user.setState('running')).toBe('ok');
    expect(user.region(1).areas).toEqual([first, second]);
    expect(mdev.number('violations')).toBe(0);
  });
});

describe('static', () => {
  it('changes nothing in any state', async () => {
    const { mdev, user } = device({ profile: 'static' });
    user.map(0, whole);
    user.map(1, second);
    expect(await user.setState('pre-copy')).toBe('ok');
    expect([user.region(0).mmappable, user.region(1).areas, mdev.number('vmas')]).toEqual([true, [first, second], 2]);
    expect(await user.setState('running')).toBe('ok');
  });
});

describe('what a device is', () => {
  it('is chosen while nobody has it open', () => {
    const { mdev } = device({});
    for (const [name, value] of [['profile', 'rfc-v4'], ['face', 'non-pci'], ['pages', '2']] as const) {
      expect(() => { mdev.write(name, value); }).toThrow(/EBUSY/);
    }
    expect([mdev.read('profile'), mdev.read('face'), mdev.read('pages')]).toEqual(['doorbell-value', 'pci', '1']);
  });
});
