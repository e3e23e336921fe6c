import { describe, expect, it } from 'vitest';
import { areas, register, registerTrigger, sampleUsers, told, type SampleUser } from '../support/sample-user.js';

/** Every switch of the sample driver does what drivers/linux/README.md says, and is off at first. */

const device = sampleUsers();
const { whole } = areas;

/** Entering PRE_COPY, until the driver waits. Its signal is unread. */
async function waiting({ mdev, user }: SampleUser): Promise<{ readonly written: Promise<string> }> {
  const written = user.setState('pre-copy');
  while (mdev.number('waiters') === 0) await new Promise(setImmediate);
  return { written };
}

it('they are off at first', () => {
  const { mdev } = device();
  const off = ['ignore_acks', 'take_any_ack', 'ignore_disable', 'silent_roll_back', 'signal_twice', 'add_one', 'signal_undeclared', 'signal_before_layout', 'stall_ms'];
  expect(off.map((name) => mdev.read(name))).toEqual(off.map(() => '0'));
  expect([mdev.read('drain'), mdev.read('fail_arc')]).toEqual(['never', 'none']);
  for (const [name, value] of [['drain', 'often'], ['fail_arc', 'MOVING'], ['stall_ms', '60001'], ['pages', '3'], ['profile', 'posted'], ['face', 'both']] as const) {
    expect(() => { mdev.write(name, value); }, name).toThrow(/EINVAL/);
  }
});

describe('ignore_acks', () => {
  it.each(['doorbell-value', 'rfc-v4', 'doorbell-none'] as const)('%s: nothing releases the wait; switched off, what was heard meanwhile does', async (profile) => {
    const sample = device({ profile });
    const { mdev, user } = sample;
    const { trigger, ack } = profile === 'doorbell-value' ? register(user) : { trigger: registerTrigger(user), ack: -1 };
    const mailbox = user.map(0, whole);
    mdev.write('ignore_acks', 1);
    const { written } = await waiting(sample);
    const read = await user.signal(trigger);
    user.unmap(mailbox);
    if (profile === 'doorbell-value') user.write(ack, read);
    if (profile === 'rfc-v4') user.write(trigger, 0n);
    expect(mdev.number('waiters')).toBe(1);
    mdev.write('ignore_acks', 0);
    expect(await written).toBe('ok');
  });
});

describe('take_any_ack', () => {
  it('rfc-v4: an ack for an older signal releases the wait, with the newer one unread', async () => {
    const sample = device({ profile: 'rfc-v4' });
    const { mdev, user } = sample;
    const trigger = registerTrigger(user);
    mdev.write('take_any_ack', 1);
    mdev.write('revoke', 1);
    expect(user.read(trigger)).toBe(0b10n);
    user.map(0, whole);
    const { written } = await waiting(sample);
    while (!user.readable(trigger)) await new Promise(setImmediate);
    user.write(trigger, 0n);
    expect([await written, user.read(trigger), mdev.number('violations')]).toEqual(['ok', 0b11n, 1]);
  });

  it('value acks: any number covers all that was sent', async () => {
    const sample = device();
    const { mdev, user } = sample;
    const { ack } = register(user);
    mdev.write('take_any_ack', 1);
    mdev.write('revoke', 1);
    const { written } = await waiting(sample);
    user.write(ack, 1n);
    expect([await written, mdev.number('acked')]).toEqual(['ok', 2]);
  });
});

it('signal_twice: each add is made twice, and the sums have both', async () => {
  const sample = device({ profile: 'bitmap-value' });
  const { mdev, user } = sample;
  const { trigger, ack } = register(user);
  mdev.write('signal_twice', 1);
  const { written } = await waiting(sample);
  let read = await user.signal(trigger);
  if (read < 6n) read += await user.signal(trigger);
  expect([read, mdev.number('sent'), told(mdev, 'signal', 'add')]).toEqual([6n, 6, ['add=3', 'add=3']]);
  user.write(ack, 3n);
  expect(mdev.number('waiters')).toBe(1);
  user.write(ack, 3n);
  expect(await written).toBe('ok');
});

it.each(['bitmap-value', 'bitmap-none', 'rfc-v4'] as const)('add_one: %s: 1, whichever regions are meant', (profile) => {
  const { mdev, user } = device({ profile });
  const { trigger } = profile === 'bitmap-value' ? register(user) : { trigger: registerTrigger(user) };
  mdev.write('add_one', 1);
  mdev.write('revoke', 1);
  expect([user.read(trigger), mdev.number('sent')]).toEqual([1n, 1]);
});

it.each([
  ['bitmap-value', 0b110n],
  ['rfc-v4', 0b110n],
  ['doorbell-value', 1n],
] as const)('signal_undeclared: %s: a signal of region 1 adds %s', (profile, add) => {
  const { mdev, user } = device({ profile });
  const { trigger } = profile === 'rfc-v4' ? { trigger: registerTrigger(user) } : register(user);
  mdev.write('signal_undeclared', 1);
  mdev.write('revoke', 1);
  expect(user.read(trigger)).toBe(add);
});

it('signal_before_layout: who queries at once sees the old layout, acks, and has the area mapped when the write returns', async () => {
  const sample = device();
  const { mdev, user } = sample;
  const { trigger, ack } = register(user);
  user.map(0, whole);
  mdev.write('signal_before_layout', 1);
  const { written } = await waiting(sample);
  const read = await user.signal(trigger);
  const seen = user.region(0).mmappable;
  user.write(ack, read);
  expect([await written, user.region(0).mmappable, mdev.number('vmas')]).toEqual(['ok', false, 1]);
  const order = mdev.trace().filter(({ event, fields }) => event === 'signal' || (event === 'layout' && fields['region'] === '0')).map(({ event }) => event);
  expect([order, seen]).toEqual([['signal', 'layout'], true]);
});

describe('drain', () => {
  it('always: its own adds, too, before anybody has read them', () => {
    const { mdev, user } = device();
    const { trigger } = register(user);
    mdev.write('drain', 'always');
    mdev.write('revoke', 0);
    expect([user.read(trigger), mdev.number('sent')]).toEqual([undefined, 1]);
  });

  it('at-ack: rfc-v4: the echo of a write of 1 never comes back', async () => {
    const { mdev, user } = device({ profile: 'rfc-v4' });
    const trigger = registerTrigger(user);
    mdev.write('drain', 'at-ack');
    const written = user.setState('pre-copy');
    expect(await user.signal(trigger)).toBe(0b11n);
    user.write(trigger, 1n);
    expect([await written, user.read(trigger)]).toEqual(['ok', undefined]);
  });

  it('sometimes: rfc-v4: every second echo is missing', () => {
    const { mdev, user } = device({ profile: 'rfc-v4' });
    const trigger = registerTrigger(user);
    mdev.write('drain', 'sometimes');
    const echoes = [1, 2, 3, 4].map(() => {
      user.write(trigger, 1n);
      return user.read(trigger);
    });
    expect(echoes).toEqual([1n, undefined, 1n, undefined]);
  });

  it('at-ack: value acks: what was signalled since the read is gone', async () => {
    const { mdev, user } = device();
    const { trigger, ack } = register(user);
    mdev.write('drain', 'at-ack');
    mdev.write('revoke', 0);
    expect(user.read(trigger)).toBe(1n);
    mdev.write('revoke', 1);
    user.write(ack, 1n);
    // The trigger's lock is not to be had inside the ack's: a worker drains, a moment later.
    for (let nth = 0; nth < 200 && user.readable(trigger); nth += 1) await new Promise((resolve) => { setTimeout(resolve, 5); });
    expect([user.read(trigger), mdev.number('sent'), mdev.number('acked')]).toEqual([undefined, 2, 1]);
  });
});

it.each([0, 1])('silent_roll_back=%i: the layout that a timeout restores', async (silent) => {
  const { mdev, user } = device({ ackTimeoutMs: 100 });
  const { trigger } = register(user);
  mdev.write('silent_roll_back', silent);
  expect(await user.setState('pre-copy')).toBe('ETIMEDOUT');
  expect([user.region(0).mmappable, user.read(trigger), mdev.number('sent')]).toEqual([true, silent === 1 ? 1n : 2n, silent === 1 ? 1 : 2]);
});

it.each(['a disable', 'a hang-up'])('ignore_disable: %s changes nothing; the wait runs into its timeout', async (what) => {
  const sample = device({ ackTimeoutMs: 300 });
  const { mdev, user } = sample;
  const { trigger } = register(user);
  mdev.write('ignore_disable', 1);
  const { written } = await waiting(sample);
  if (what === 'a disable') expect(user.disable(5)).toBe('ok');
  else user.hangUp(trigger);
  // It would have ended with ECANCELED: no look at the waiter in between, which a slow machine may take too late.
  expect([await written, mdev.number('irqs')]).toEqual(['ETIMEDOUT', 2]);
});

it('stall_ms: the write sits still after its wait, with the state as before', async () => {
  const sample = device();
  const { mdev, user } = sample;
  const { ack } = register(user);
  const stallMs = 3_000;
  mdev.write('stall_ms', stallMs);
  const { written } = await waiting(sample);
  user.write(ack, 1n);
  while (mdev.number('waiters') > 0) await new Promise(setImmediate);
  expect([user.getState(), user.setStateNow('stop')]).toEqual(['running', 'EBUSY']);
  expect([await written, user.getState()]).toEqual(['ok', 'pre-copy']);
  const at = (event: string): bigint => mdev.trace().findLast((line) => line.event === event)?.atNs ?? 0n;
  expect(Number(at('state') - at('release')) / 1e6).toBeGreaterThanOrEqual(stallMs);
});

it('fail_arc: EIO at the arc into that state, which is not reached', async () => {
  const { mdev, user } = device({ profile: 'static' });
  mdev.write('fail_arc', 'STOP');
  expect([await user.setState('stop-copy'), user.getState()]).toEqual(['EIO', 'running-p2p']);
  mdev.write('fail_arc', 'none');
  expect(await user.setState('stop-copy')).toBe('ok');
});

it('saving-layout: an arc that fails gives back what was taken for it', async () => {
  const { mdev, user } = device({ profile: 'saving-layout' });
  mdev.write('fail_arc', 'PRE_COPY');
  expect(await user.setState('pre-copy')).toBe('EIO');
  expect([user.region(0).mmappable, user.region(1).areas]).toEqual([true, [areas.first, areas.second]]);
  expect(user.map(0, whole)).not.toBe('EINVAL');
});
