import { describe, expect, it } from 'vitest';
import type { RawUser } from '../support/raw-user.js';
import { sampleUsers } from '../support/sample-user.js';

/** INTx and MSI of the sample driver, as drivers/linux/README.md has them, on the real kernel. */

const device = sampleUsers();

function intx(user: RawUser): number {
  const fd = user.eventfd();
  expect(user.trigger(0, fd)).toBe('ok');
  return fd;
}

describe('INTx', () => {
  it('says that it is maskable and automasked', () => {
    expect(device().user.irq(0)).toMatchObject({ count: 1, eventfd: true, maskable: true, automasked: true, noResize: false });
  });

  it('signals once while its level is up, and again at each unmask', () => {
    const { mdev, user } = device();
    const fd = intx(user);
    mdev.write('intx', 1);
    mdev.write('intx', 1);
    expect([user.read(fd), mdev.read('intx')]).toEqual([1n, 'level=1 masked=1']);
    const unmask = (): string => user.setIrqs({ index: 0, action: 'unmask', data: 'none', count: 1 });
    expect([unmask(), user.read(fd)]).toEqual(['ok', 1n]);
    mdev.write('intx', 0);
    expect([unmask(), user.read(fd), mdev.read('intx')]).toEqual(['ok', undefined, 'level=0 masked=0']);
  });

  it('is unmasked by an eventfd, which is emptied', async () => {
    const { mdev, user } = device();
    const fd = intx(user);
    const unmask = user.eventfd();
    expect(user.setIrqs({ index: 0, action: 'unmask', data: 'eventfd', fds: [unmask] })).toBe('ok');
    mdev.write('intx', 1);
    expect(await user.signal(fd)).toBe(1n);
    user.write(unmask, 1n);
    expect([await user.signal(fd), user.read(unmask), mdev.number('irqs')]).toEqual([1n, undefined, 2]);
    mdev.write('intx', 0);
    user.hangUp(unmask);
    while (mdev.number('irqs') > 1) await new Promise(setImmediate);
  });

  it('is masked and unmasked by call, by NONE and BOOL', () => {
    const { mdev, user } = device();
    const fd = intx(user);
    expect(user.setIrqs({ index: 0, action: 'mask', data: 'none', count: 1 })).toBe('ok');
    mdev.write('intx', 1);
    expect(user.read(fd)).toBeUndefined();
    expect(user.setIrqs({ index: 0, action: 'unmask', data: 'bool', vectors: [false] })).toBe('ok');
    expect(user.read(fd)).toBeUndefined();
    expect(user.setIrqs({ index: 0, action: 'unmask', data: 'bool', vectors: [true] })).toBe('ok');
    expect(user.read(fd)).toBe(1n);
  });

  it('is raised by loopback unless it is masked', () => {
    const { user } = device();
    const fd = intx(user);
    const loopback = (): string => user.setIrqs({ index: 0, action: 'trigger', data: 'none', count: 1 });
    expect([loopback(), loopback(), user.read(fd)]).toEqual(['ok', 'ok', 2n]);
    user.setIrqs({ index: 0, action: 'mask', data: 'none', count: 1 });
    expect([loopback(), user.read(fd)]).toEqual(['ok', undefined]);
  });

  it('refuses what makes no sense, and everything while it is not enabled', () => {
    const { mdev, user } = device();
    for (const action of ['mask', 'unmask', 'trigger'] as const) expect(user.setIrqs({ index: 0, action, data: 'none', count: 1 })).toBe('EINVAL');
    intx(user);
    expect(user.setIrqs({ index: 0, action: 'mask', data: 'eventfd', fds: [user.eventfd()] })).toBe('ENOTTY');
    expect([user.disable(0), mdev.number('irqs')]).toEqual(['ok', 0]);
  });
});

describe('MSI', () => {
  it('has four vectors, enabled together by the first call', () => {
    const { mdev, user } = device();
    expect(user.irq(1)).toMatchObject({ count: 4, eventfd: true, noResize: true, maskable: false });
    const fds = [user.eventfd(), user.eventfd(), user.eventfd(), user.eventfd()];
    expect(user.setIrqs({ index: 1, action: 'trigger', data: 'eventfd', fds: fds.slice(0, 2) })).toBe('ok');
    expect(user.setIrqs({ index: 1, action: 'trigger', start: 2, data: 'eventfd', fds: fds.slice(2) })).toBe('EINVAL');
    user.disable(1);
    expect(user.setIrqs({ index: 1, action: 'trigger', data: 'eventfd', fds })).toBe('ok');
    mdev.write('raise_msi', 0b1010);
    expect(fds.map((fd) => user.read(fd))).toEqual([undefined, 1n, undefined, 1n]);
  });

  it('exchanges single vectors, and takes one away by fd -1', () => {
    const { mdev, user } = device();
    const [first, second, other] = [user.eventfd(), user.eventfd(), user.eventfd()];
    user.setIrqs({ index: 1, action: 'trigger', data: 'eventfd', fds: [first, second] });
    expect(user.setIrqs({ index: 1, action: 'trigger', start: 1, data: 'eventfd', fds: [other] })).toBe('ok');
    expect(user.setIrqs({ index: 1, action: 'trigger', data: 'eventfd', fds: [-1] })).toBe('ok');
    mdev.write('raise_msi', 0b11);
    expect([first, second, other].map((fd) => user.read(fd))).toEqual([undefined, undefined, 1n]);
    expect(() => { mdev.write('raise_msi', 0b01); }).toThrow(/ENOENT/);
  });

  it('is raised by loopback, by NONE and BOOL', () => {
    const { user } = device();
    const fds = [user.eventfd(), user.eventfd()];
    user.setIrqs({ index: 1, action: 'trigger', data: 'eventfd', fds });
    expect(user.setIrqs({ index: 1, action: 'trigger', data: 'bool', vectors: [false, true] })).toBe('ok');
    expect(user.setIrqs({ index: 1, action: 'trigger', data: 'none', count: 2 })).toBe('ok');
    expect(fds.map((fd) => user.read(fd))).toEqual([1n, 2n]);
    expect(user.setIrqs({ index: 1, action: 'trigger', data: 'none', count: 4 })).toBe('EINVAL');
    expect(user.setIrqs({ index: 1, action: 'mask', data: 'none', count: 1 })).toBe('ENOTTY');
  });

  it('and INTx exclude one another', () => {
    const { user } = device();
    intx(user);
    expect(user.trigger(1, user.eventfd())).toBe('EINVAL');
    user.disable(0);
    expect(user.trigger(1, user.eventfd())).toBe('ok');
    expect(user.trigger(0, user.eventfd())).toBe('EINVAL');
  });

  it('a first call that fails enables nothing', () => {
    const { mdev, user } = device();
    expect(user.setIrqs({ index: 1, action: 'trigger', data: 'eventfd', fds: [user.eventfd(), 1_000_000] })).toBe('EBADF');
    expect(mdev.number('irqs')).toBe(0);
    expect(user.trigger(0, user.eventfd())).toBe('ok');
  });
});
