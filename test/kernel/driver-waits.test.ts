import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, expect, it } from 'vitest';
import { SampleMdev } from '../support/mdev.js';
import type { RawUser } from '../support/raw-user.js';
import { areas, patientMs, register, sampleUsers, told, type SampleUser } from '../support/sample-user.js';

/** Signals and waits of the sample driver: rules RR-10 to RR-13, RR-18 to RR-23 and RR-32 to RR-35, on the real kernel. */

const device = sampleUsers();
const { whole, first, second } = areas;

interface Blocked extends SampleUser {
  readonly trigger: number;
  readonly ack: number;
  readonly mailbox: number | string;
  readonly sparse: number | string;
  /** What the write of device_state returned. */
  readonly written: Promise<string>;
}

/** A user that has read the signal, and has both areas mapped still. */
async function blocked(sample: SampleUser): Promise<Blocked> {
  const { mdev, user } = sample;
  const { trigger, ack } = register(user);
  const mailbox = user.map(0, whole);
  const sparse = user.map(1, second);
  const written = user.setState('pre-copy');
  expect(await user.signal(trigger)).toBe(1n);
  expect(mdev.number('waiters')).toBe(1);
  return { ...sample, trigger, ack, mailbox, sparse, written };
}

/** Nothing of the transition has remained, and the restored layout was signalled. */
function expectAsBefore({ mdev, user }: SampleUser): void {
  expect([mdev.read('state'), user.getState(), mdev.number('waiters')]).toEqual(['RUNNING', 'running', 0]);
  expect([user.region(0).mmappable, user.region(1).areas]).toEqual([true, [first, second]]);
}

describe('a signal', () => {
  it('RR-10: the layout is there, for queries and for mmap, before the count grows', () => {
    const { mdev, user } = device();
    register(user);
    for (let nth = 0; nth < 20; nth += 1) {
      mdev.write('revoke', 0);
      mdev.write('restore', 0);
    }
    const events = mdev.trace().filter(({ event }) => event === 'layout' || event === 'signal').map(({ event }) => event);
    expect(events).toEqual(Array.from({ length: 40 }, () => ['layout', 'signal']).flat());
    mdev.write('revoke', 0);
    expect(user.map(0, whole)).toBe('EINVAL');
  });

  it('RR-11: a doorbell adds 1, whichever regions are meant, and several add up', () => {
    const { mdev, user } = device();
    const { trigger } = register(user);
    mdev.write('revoke', 1);
    mdev.write('revoke', 0);
    expect(user.read(trigger)).toBe(2n);
  });

  it('RR-12: no region changes its size', async () => {
    const { user, ack, mailbox, sparse, written } = await blocked(device());
    expect([user.region(0).size, user.region(1).size]).toEqual([0x1_0000, 0x2_0000]);
    user.unmap(mailbox);
    user.unmap(sparse);
    user.write(ack, 1n);
    expect(await written).toBe('ok');
    expect([user.region(0).size, user.region(1).size]).toEqual([0x1_0000, 0x2_0000]);
  });
});

describe('entering the saving group', () => {
  it.each(['pre-copy', 'stop-copy'] as const)('RR-18: %s is EPERM until both fds are there, and again once one has gone', async (state) => {
    const { mdev, user } = device({ ackTimeoutMs: 50 });
    expect(await user.setState(state)).toBe('EPERM');
    user.trigger(5, user.eventfd());
    expect(await user.setState(state)).toBe('EPERM');
    const ack = user.eventfd();
    user.ack(5, ack);
    user.ack(5, -1);
    expect(await user.setState(state)).toBe('EPERM');
    expect([mdev.number('sent'), mdev.read('state')]).toEqual([0, 'RUNNING']);
  });

  it('RR-18: other states need no irq', async () => {
    const { user } = device();
    for (const state of ['stop', 'running', 'running-p2p', 'resuming'] as const) expect(await user.setState(state)).toBe('ok');
  });

  it('RR-19: the wait comes before the first arc, and what only adds is signalled without one', async () => {
    const { mdev, user, trigger, ack, mailbox, sparse, written } = await blocked(device());
    expect(mdev.read('state')).toBe('RUNNING');
    user.unmap(mailbox);
    user.unmap(sparse);
    user.write(ack, 1n);
    expect(await written).toBe('ok');
    mdev.write('trace', 0);
    expect(user.setStateNow('running')).toBe('ok');
    expect([told(mdev, 'signal', 'add'), told(mdev, 'wait'), user.read(trigger)]).toEqual([['add=1'], [], 1n]);
  });
});

describe('how a wait ends', () => {
  it('RR-20: 0 with the ack, and the driver sees nothing mapped then', async () => {
    const { mdev, user, ack, mailbox, sparse, written } = await blocked(device());
    user.unmap(mailbox);
    user.unmap(sparse);
    user.write(ack, 1n);
    expect([await written, mdev.number('vmas'), mdev.number('violations'), told(mdev, 'release', 'ret')]).toEqual(['ok', 0, 0, ['ret=0']]);
  });

  it('RR-20: ETIMEDOUT after ack_timeout_ms', async () => {
    const sample = await blocked(device({ ackTimeoutMs: 100 }));
    expect(await sample.written).toBe('ETIMEDOUT');
    expectAsBefore(sample);
  });

  const cancelling: readonly (readonly [string, (user: RawUser, fds: Blocked) => unknown])[] = [
    ['DATA_NONE', (user) => user.disable(5)],
    ['trigger fd -1', (user) => user.trigger(5, -1)],
    ['ack fd -1', (user) => user.ack(5, -1)],
    ['another trigger fd', (user) => user.trigger(5, user.eventfd())],
    ['another ack fd', (user) => user.ack(5, user.eventfd())],
    ['an ack fd that is none', (user) => user.ack(5, 1_000_000)],
    ['the last close of the trigger fd', (user, { trigger }) => { user.hangUp(trigger); }],
    ['the last close of the ack fd', (user, { ack }) => { user.hangUp(ack); }],
    ['a reset', (user) => user.reset()],
  ];

  it.each(cancelling)('RR-20: ECANCELED by %s', async (_name, cancel) => {
    const sample = await blocked(device());
    cancel(sample.user, sample);
    expect(await sample.written).toBe('ECANCELED');
    expectAsBefore(sample);
  });

  it('RR-20: EINTR when the user is killed, and everything of it is gone', async () => {
    using mdev = new SampleMdev({ ackTimeoutMs: patientMs });
    const program = join(process.env['VFIO_RX_CHILDREN'] ?? '', 'test/kernel/user.child.mjs');
    const child = spawn(process.execPath, [program, mdev.uuid, 'hold'], { stdio: ['ignore', 'pipe', 'inherit'] });
    const gone = once(child, 'exit');
    await new Promise<void>((resolve) => createInterface(child.stdout).on('line', (line) => { if (line === 'holding') resolve(); }));
    expect(mdev.number('waiters')).toBe(1);
    child.kill('SIGKILL');
    await gone;
    expect([told(mdev, 'release', 'ret'), told(mdev, 'state', 'to', 'ret')]).toEqual([['ret=-4'], [expect.stringMatching(/ret=-4$/)]]);
  });

  it('RR-35: the removal of the device ends a wait, and waits itself for the user to go', async () => {
    const sample = await blocked(device());
    const removal = spawn('sh', ['-c', `echo 1 > /sys/bus/mdev/devices/${sample.user.uuid}/remove`], { stdio: 'ignore' });
    expect(await sample.written).toBe('ECANCELED');
    expect(sample.user.getState()).toBe('running');
    sample.gone();
    await once(removal, 'exit');
  });

  it('RR-35: the last close takes every registration with it', () => {
    const { mdev, user } = device();
    register(user);
    expect(mdev.number('irqs')).toBe(2);
    user[Symbol.dispose]();
    expect([mdev.number('irqs'), told(mdev, 'unregister', 'role')]).toEqual([0, ['role=ack', 'role=trigger']]);
  });

  it('RR-21: a wait that fails leaves state and layout as before, and signals that without waiting', async () => {
    const sample = await blocked(device({ ackTimeoutMs: 100 }));
    expect(await sample.written).toBe('ETIMEDOUT');
    expectAsBefore(sample);
    expect([sample.user.read(sample.trigger), sample.mdev.number('sent')]).toEqual([1n, 2]);
  });

  it('RR-34: so does an arc that fails after the wait', async () => {
    const sample = await blocked(device());
    sample.mdev.write('fail_arc', 'PRE_COPY');
    sample.user.unmap(sample.mailbox);
    sample.user.unmap(sample.sparse);
    sample.user.write(sample.ack, 1n);
    expect(await sample.written).toBe('EIO');
    expectAsBefore(sample);
    expect(sample.user.read(sample.trigger)).toBe(1n);
  });

  it('RR-34: an arc that fails later leaves the state between two arcs, and the layout of that state', async () => {
    const { mdev, user, trigger, ack, mailbox, sparse, written } = await blocked(device());
    user.unmap(mailbox);
    user.unmap(sparse);
    user.write(ack, 1n);
    expect(await written).toBe('ok');
    mdev.write('fail_arc', 'STOP');
    expect(await user.setState('resuming')).toBe('EIO');
    expect([mdev.read('state'), user.region(0).mmappable, user.read(trigger)]).toEqual(['RUNNING_P2P', true, 1n]);
  });
});

describe('while a write waits', () => {
  it('RR-22, RR-33: a second write is EBUSY, and every other call on the device proceeds', async () => {
    const sample = await blocked(device());
    const { mdev, user, ack, mailbox, sparse, written } = sample;
    const from = process.hrtime.bigint();
    expect(user.setStateNow('stop')).toBe('EBUSY');
    expect(user.getState()).toBe('running');
    expect([user.info().irqs, user.region(0).mmappable, user.irq(5).count]).toEqual([6, false, 1]);
    const kept = user.map(1, first);
    user.unmap(kept);
    expect(user.setIrqs({ index: 1, action: 'trigger', data: 'eventfd', fds: [user.eventfd()] })).toBe('ok');
    expect(user.disable(1)).toBe('ok');
    expect(user.pread(7, 0, 2)).toEqual(Uint8Array.of(0xed, 0xfe));
    user.pwrite(2, 0, Uint8Array.of(1, 2, 3, 4));
    user.touch(mailbox);
    user.unmap(mailbox);
    user.unmap(sparse);
    expect(Number(process.hrtime.bigint() - from) / 1e6).toBeLessThan(5000);
    expect(mdev.number('waiters')).toBe(1);
    user.write(ack, 1n);
    expect(await written).toBe('ok');
  });

  it('RR-23: mappings from before work until the wait has ended, also on pages that nobody has touched', async () => {
    const { mdev, user, ack, mailbox, sparse, written } = await blocked(device());
    user.touch(mailbox);
    user.touch(sparse);
    expect(mdev.mailbox(0)).toMatchObject({ received: 1, by_map: 1 });
    user.unmap(mailbox);
    user.unmap(sparse);
    user.write(ack, 1n);
    expect(await written).toBe('ok');
  });

  it('RR-32: the count of the trigger fd is never touched by the driver, and its own wake-ups are no acks', async () => {
    const { mdev, user, trigger, ack, mailbox, sparse, written } = await blocked(device());
    mdev.write('restore', 1);
    mdev.write('revoke', 1);
    mdev.write('restore', 1);
    expect(mdev.number('waiters')).toBe(1);
    user.unmap(mailbox);
    user.unmap(sparse);
    // What the user adds to the trigger fd itself, and reads, is nobody's ack.
    user.write(trigger, 5n);
    expect(user.read(trigger)).toBe(7n);
    expect(mdev.number('waiters')).toBe(1);
    user.write(ack, 1n);
    expect(await written).toBe('ok');
  });

  it('RR-32: a violation is told when an area is mapped still', async () => {
    const { mdev, user, ack, written } = await blocked(device());
    user.write(ack, 1n);
    expect(await written).toBe('ok');
    expect([mdev.number('violations'), told(mdev, 'violation', 'kind', 'region', 'more')]).toEqual([1, ['kind=acked_while_mapped region=0 more=1']]);
  });
});
