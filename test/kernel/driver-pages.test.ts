import { describe, expect, it } from 'vitest';
import { areas, patientMs, register, registerTrigger, sampleUsers, told } from '../support/sample-user.js';

/** More than 64 regions, and the face that is not PCI's: rules RR-27 and RR-28 of the sample driver's header. */

const device = sampleUsers();

it('RR-27: a device with 66 regions has an irq for each page, and regions 64 and 65', () => {
  const { user } = device({ pages: 2 });
  expect([user.info().regions, user.info().irqs]).toEqual([66, 7]);
  const common = { subtype: 'region-remap', doorbell: true, noAck: false, regions: 0b11n, ackTimeoutMs: patientMs, maxWaits: 1 };
  expect([user.irq(5).remap, user.irq(6).remap]).toEqual([{ ...common, page: 0 }, { ...common, page: 1 }]);
  expect([user.region(64).areas, user.region(65).areas, user.region(63).size]).toEqual([[areas.far], [areas.farther], 0]);
  user.touch(user.map(64, areas.far));
  expect(user.pread(64, 0, 8)).toEqual(Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
});

it.each(['doorbell-value', 'bitmap-value'] as const)('RR-28: %s: sums and signals are each page’s own', (profile) => {
  const { mdev, user } = device({ profile, pages: 2 });
  const near = register(user);
  const far = register(user, 6);
  mdev.write('revoke', 65);
  const add = profile === 'doorbell-value' ? 1n : 0b10n;
  expect([user.read(near.trigger), user.read(far.trigger), mdev.read('sent')]).toEqual([undefined, add, `0\n${String(add)}`]);
  // An ack on the other page acknowledges what that one never sent.
  user.write(near.ack, add);
  expect([mdev.number('violations'), mdev.read('acked')]).toEqual([1, '0\n0']);
  user.write(far.ack, add);
  expect(mdev.read('acked')).toBe(`0\n${String(add)}`);
});

it.each([5, 6])('RR-28: a wait is for both pages, and irq %i alone does not end it', async (index) => {
  const { mdev, user } = device({ pages: 2 });
  const pages = new Map([[5, register(user)], [6, register(user, 6)]]);
  const written = user.setState('pre-copy');
  for (const { trigger } of pages.values()) expect(await user.signal(trigger)).toBe(1n);
  expect([user.region(0).mmappable, user.region(64).mmappable, user.region(65).mmappable]).toEqual([false, false, true]);
  user.write(pages.get(index)?.ack ?? -1, 1n);
  expect(mdev.number('waiters')).toBe(1);
  user.write(pages.get(11 - index)?.ack ?? -1, 1n);
  expect([await written, told(mdev, 'wait', 'target', 'page')]).toEqual(['ok', ['target=1 page=0', 'target=1 page=1']]);
});

it.each([5, 6])('RR-18: the irq of every page is to be enabled; disabling irq %i ends a wait for both', async (index) => {
  const { user } = device({ pages: 2 });
  const { trigger } = register(user);
  expect(await user.setState('pre-copy')).toBe('EPERM');
  register(user, 6);
  const written = user.setState('pre-copy');
  expect(await user.signal(trigger)).toBe(1n);
  user.disable(index);
  expect(await written).toBe('ECANCELED');
  expect([user.region(0).mmappable, user.region(64).mmappable]).toEqual([true, true]);
});

it('RR-28: where mappings ack, those of both pages count', async () => {
  const { mdev, user } = device({ profile: 'bitmap-none', pages: 2 });
  const near = registerTrigger(user);
  const far = registerTrigger(user, 6);
  const mapping = user.map(64, areas.far);
  user.map(65, areas.farther);
  const written = user.setState('pre-copy');
  expect([await user.signal(near), await user.signal(far)]).toEqual([0b11n, 0b01n]);
  expect(mdev.number('waiters')).toBe(1);
  user.unmap(mapping);
  expect(await written).toBe('ok');
});

it('RR-40: a saving-layout device says for regions of both pages what they have while it saves', () => {
  const { user } = device({ profile: 'saving-layout', pages: 2 });
  expect([0, 1, 2, 64, 65].map((index) => user.region(index).savingAreas)).toEqual([[], [areas.first, areas.onlySaving], undefined, [], undefined]);
});

describe('the face that is not PCI’s', () => {
  it('RR-1: says so, has no config region, one plain irq, and the remap irqs behind it', async () => {
    const { mdev, user } = device({ face: 'non-pci', pages: 2 });
    expect([user.info().pci, user.info().irqs, user.region(7).size]).toEqual([false, 3, 0]);
    const plain = user.eventfd();
    expect(user.trigger(0, plain)).toBe('ok');
    mdev.write('raise_msi', 1);
    expect(user.read(plain)).toBe(1n);
    const near = register(user, 1);
    const far = register(user, 2);
    const written = user.setState('pre-copy');
    for (const { trigger, ack } of [near, far]) user.write(ack, await user.signal(trigger));
    expect(await written).toBe('ok');
  });
});
