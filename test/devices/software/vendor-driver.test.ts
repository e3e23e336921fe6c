import { describe, expect, it } from 'vitest';
import { SoftEventfd } from '../../../src/devices/software/eventfd.js';
import { shapeOf } from '../../../src/devices/software/options.js';
import { Timers } from '../../../src/devices/software/timers.js';
import { VendorDriver } from '../../../src/devices/software/vendor-driver.js';
import { virtualClock } from '../../support/virtual-clock.js';
import { failure, now, opened, registered, traced, watch } from './opened.js';

const mailbox = { offset: 0, size: 0x1_0000 };

describe('a write of device_state', () => {
  it('waits for the ack before the first arc, and returns after it', () => {
    const { clock, device, port, irq } = registered();
    const set = watch(port.setState('pre-copy'));
    clock.advanceMs(1);
    expect(device.driver.waiters).toBe(1);
    expect(device.driver.state).toBe('running');
    expect(now(port.regionInfo(0)).areas).toEqual([]);
    expect(now(port.regionInfo(1)).areas).toEqual([{ offset: 0, size: 0x8000 }]);
    const signal = watch(irq.next());
    clock.advanceMs(0);
    now(irq.ack(signal.values[0]?.count ?? 0n));
    expect(set.complete).toBe(false); // never inside the ack
    clock.advanceMs(0);
    expect(set.values.map(({ state, data }) => [state, data?.direction])).toEqual([['pre-copy', 'save']]);
    expect(traced(device, 'layout', 'signal', 'wait', 'ack', 'release', 'state')).toEqual([
      'layout region=0 mmap=0', 'layout region=1 mmap=1', 'signal add=1', 'wait target=1', 'ack value=1', 'release ret=0', 'state from=running to=pre-copy ret=0',
    ]);
    expect(device.driver.violations).toBe(0);
  });

  it('signals what it offers again on the way back, and does not wait', () => {
    const { clock, device, port, irq } = registered();
    const set = watch(port.setState('stop-copy'));
    clock.advanceMs(1);
    now(irq.ack(1n));
    clock.advanceMs(0);
    expect(set.complete).toBe(true);
    const back = watch(port.setState('running'));
    clock.advanceMs(0);
    expect(back.values).toEqual([{ state: 'running' }]);
    expect(device.driver.sent).toBe(2n);
    expect(now(port.regionInfo(0)).areas).toEqual([mailbox]);
  });

  it('ends in ETIMEDOUT without an ack, with state and layout as before, and that signalled', () => {
    const { clock, device, port, irq } = registered({ remap: { ackTimeoutMs: 20 } });
    const set = watch(port.setState('stop-copy'));
    clock.advanceMs(19);
    expect(set.error).toBeUndefined();
    clock.advanceMs(1);
    expect(set.error).toMatchObject({ code: 'VFIO_E_ACK_TIMEOUT', errno: 'ETIMEDOUT' });
    expect(device.driver.state).toBe('running');
    expect(now(port.regionInfo(0)).areas).toEqual([mailbox]);
    const signal = watch(irq.next());
    clock.advanceMs(0);
    expect(signal.values.map(({ count }) => count)).toEqual([2n]);
    expect(device.driver.waiters).toBe(0);
    // The late ack is for signals that were sent: no violation, and it releases nothing that comes after.
    now(irq.ack(1n));
    const again = watch(port.setState('stop-copy'));
    clock.advanceMs(1);
    now(irq.ack(1n));
    clock.advanceMs(1);
    expect(again.complete).toBe(false);
    now(irq.ack(1n));
    clock.advanceMs(1);
    expect(again.complete).toBe(true);
    expect(device.driver.violations).toBe(0);
  });

  it('is refused with EPERM where the remap irq is not registered with both eventfds', () => {
    const { clock, port } = opened();
    const bare = watch(port.setState('pre-copy'));
    clock.flush();
    expect(bare.error).toMatchObject({ code: 'VFIO_E_REFUSED', errno: 'EPERM' });
    now(port.irq({ index: 5 }));
    const half = watch(port.setState('pre-copy'));
    clock.flush();
    expect(half.error?.code).toBe('VFIO_E_REFUSED');
    const elsewhere = watch(port.setState('stop'));
    clock.flush();
    expect(elsewhere.values).toEqual([{ state: 'stop' }]);
  });

  it('is refused with EPERM also where the saving group takes nothing away', () => {
    const { clock, port } = opened({ regions: [{ index: 0, size: 0x1000, areas: 'all' }] });
    const set = watch(port.setState('pre-copy'));
    clock.flush();
    expect(set.error?.errno).toBe('EPERM');
  });

  it('goes no further once a reset came between two arcs', () => {
    const { clock, device, port } = opened();
    device.driver.faults.arcLatencyUs = 100;
    const set = watch(port.setState('stop'));
    clock.advanceMs(0.15);
    expect(device.driver.state).toBe('running-p2p');
    const reset = watch(port.reset());
    clock.flush();
    expect([set.error?.errno, reset.complete, device.driver.state]).toEqual(['ECANCELED', true, 'running']);
  });

  it('is refused with EBUSY while another is outstanding, and a look at the state is not', () => {
    const { clock, port } = registered();
    watch(port.setState('pre-copy'));
    const second = watch(port.setState('stop'));
    const state = watch(port.getState());
    clock.advanceMs(1);
    expect(second.error).toMatchObject({ code: 'VFIO_E_BUSY', errno: 'EBUSY' });
    expect(state.values).toEqual(['running']);
  });

  for (const [how, cancel] of [
    ['disable', ({ irq }) => { now(irq.close()); }],
    ['reset', ({ port }) => { watch(port.reset()); }],
    ['close', ({ port }) => { port.close(); }],
    ['removal', ({ device }) => { device.driver.remove(); }],
  ] satisfies readonly [string, (all: ReturnType<typeof registered>) => void][]) {
    it(`ends in ECANCELED at ${how}, with the layout as before`, () => {
      const all = registered();
      const set = watch(all.port.setState('pre-copy'));
      all.clock.advanceMs(1);
      expect(all.device.driver.waiters).toBe(1);
      cancel(all);
      all.clock.advanceMs(0);
      expect(set.error).toMatchObject({ code: 'VFIO_E_CANCELED', errno: 'ECANCELED' });
      expect(all.device.driver.waiters).toBe(0);
      expect(all.device.driver.state).toBe('running');
      expect(all.device.driver.layout.get(0)).toEqual([mailbox]);
      all.clock.flush();
    });
  }

  it('waits for each region in turn where the driver may wait more than once', () => {
    const { clock, device, port, irq } = registered({ remap: { maxWaits: 2 } });
    const set = watch(port.setState('pre-copy'));
    clock.advanceMs(1);
    expect(device.driver.layout.get(1)).toHaveLength(2);
    now(irq.ack(1n));
    expect(device.driver.waiters).toBe(1);
    expect(device.driver.layout.get(1)).toHaveLength(1);
    now(irq.ack(1n));
    clock.advanceMs(1);
    expect(set.complete).toBe(true);
  });

  it('waits in whichever direction it revokes', () => {
    const { clock, device, port, irq } = registered({
      regions: [{ index: 0, size: 0x2000, areas: [{ offset: 0, size: 0x1000 }], savingAreas: [{ offset: 0x1000, size: 0x1000 }] }],
    });
    const set = watch(port.setState('pre-copy'));
    clock.advanceMs(1);
    now(irq.ack(1n));
    clock.advanceMs(1);
    expect(set.complete).toBe(true);
    expect(device.driver.sent).toBe(2n);
    const back = watch(port.setState('running'));
    clock.advanceMs(1);
    expect(device.driver.waiters).toBe(1);
    expect(now(port.regionInfo(0)).areas).toEqual([]);
    now(irq.ack(1n));
    expect(device.driver.waiters).toBe(1); // that was for the offer
    now(irq.ack(1n));
    clock.advanceMs(1);
    expect(back.complete).toBe(true);
  });

  it('leaves the state between two arcs where an arc fails, with the layout of that state', () => {
    const { clock, device, port, irq } = registered();
    device.driver.faults.failArc('stop-copy', 'EIO');
    const set = watch(port.setState('stop-copy'));
    clock.advanceMs(1);
    now(irq.ack(1n));
    clock.advanceMs(1);
    expect(set.error).toMatchObject({ errno: 'EIO' });
    expect(device.driver.state).toBe('stop');
    expect(device.driver.layout.get(0)).toEqual([mailbox]);
    expect(device.driver.sent).toBe(2n);
  });

  it('is refused before the driver is asked where there is no such arc', () => {
    const { clock, device, port, irq } = registered();
    watch(port.setState('stop-copy'));
    clock.advanceMs(1);
    now(irq.ack(1n));
    clock.advanceMs(1);
    const before = device.driver.trace.length;
    const blocked = watch(port.setState('pre-copy'));
    const error = watch(port.setState('error'));
    clock.flush();
    expect([blocked.error?.code, error.error?.code]).toEqual(['VFIO_E_ARC', 'VFIO_E_ARC']);
    expect(device.driver.trace.length).toBe(before);
  });

  it('takes as long as its arcs take', () => {
    const { clock, device, port } = opened();
    device.driver.faults.arcLatencyUs = 250;
    const set = watch(port.setState('stop')); // running, running-p2p, stop
    clock.advanceMs(0.499);
    expect(set.complete).toBe(false);
    clock.advanceMs(0.001);
    expect(set.complete).toBe(true);
  });

  it('is unknown to a device that cannot migrate', () => {
    const { clock, port } = opened({ migration: false });
    const set = watch(port.setState('stop'));
    clock.flush();
    expect(set.error?.code).toBe('VFIO_E_UNSUPPORTED');
    expect(now(port.migration())).toBeUndefined();
  });
});

describe('what the driver holds against its user', () => {
  it('an ack for more than was sent: ignored', () => {
    const { clock, device, port, irq } = registered();
    const set = watch(port.setState('pre-copy'));
    clock.advanceMs(1);
    now(irq.ack(2n));
    clock.advanceMs(1);
    expect(set.complete).toBe(false);
    expect(device.driver.violationList).toMatchObject([{ kind: 'ack-not-sent', value: 2n }]);
  });

  it('an ack while what was revoked is mapped', () => {
    const { clock, device, port, irq } = registered();
    now(port.map(1, { offset: 0x1_0000, size: 0x2000 }));
    const set = watch(port.setState('pre-copy'));
    clock.advanceMs(1);
    now(irq.ack(1n));
    clock.advanceMs(1);
    expect(set.complete).toBe(true);
    expect(device.driver.violationList).toMatchObject([{ kind: 'acked-while-mapped', region: 1, offset: 0x1_0000, value: 0x2000n }]);
  });
});

describe('registration', () => {
  const driver = (): VendorDriver => {
    const made = new VendorDriver(shapeOf({}));
    made.open(new Timers(virtualClock()));
    return made;
  };

  it('takes the two eventfds in any order', () => {
    const one = driver();
    expect(one.registerIrq(5, 'ack', new SoftEventfd())).toBeUndefined();
    expect(one.registerIrq(5, 'trigger', new SoftEventfd())).toBeUndefined();
    one.revoke(0);
    expect(one.sent).toBe(1n);
  });

  it('refuses an eventfd whose count is not 0, and leaves the role empty', () => {
    const one = driver();
    const trigger = new SoftEventfd();
    one.registerIrq(5, 'trigger', trigger);
    expect(one.registerIrq(5, 'trigger', new SoftEventfd({ initial: 1n }))).toBe('EBUSY');
    expect(one.irqs).toBe(0);
  });

  it('refuses an EFD_SEMAPHORE for acks, and one eventfd in two roles', () => {
    const one = driver();
    expect(one.registerIrq(5, 'ack', new SoftEventfd({ semaphore: true }))).toBe('EINVAL');
    const both = new SoftEventfd();
    expect(one.registerIrq(5, 'trigger', both)).toBeUndefined();
    expect(one.registerIrq(5, 'ack', both)).toBe('EINVAL');
    expect(one.setIrqs({ index: 1, action: 'trigger', data: 'eventfd', fds: [both] })).toBe('EINVAL');
    const msi = new SoftEventfd();
    one.setIrqs({ index: 1, action: 'trigger', data: 'eventfd', fds: [msi] });
    expect(one.registerIrq(5, 'ack', msi)).toBe('EINVAL');
  });

  it('begins with empty sums, and disabling the trigger takes the ack eventfd along', () => {
    const { device, port, irq } = registered();
    device.driver.revoke(0);
    expect(device.driver.sent).toBe(1n);
    now(irq.close());
    expect(traced(device, 'register', 'unregister')).toEqual(['register role=trigger', 'register role=ack', 'unregister role=trigger', 'unregister role=ack']);
    now(port.irq({ index: 5 }, { ackFd: true }));
    expect([device.driver.sent, device.driver.acked]).toEqual([0n, 0n]);
  });

  it('ends the wait of the registration that it replaces', () => {
    const one = driver();
    one.registerIrq(5, 'trigger', new SoftEventfd());
    one.registerIrq(5, 'ack', new SoftEventfd());
    const outcomes: unknown[] = [];
    one.setState('pre-copy', (outcome) => outcomes.push(outcome));
    expect(one.waiters).toBe(1);
    one.registerIrq(5, 'trigger', new SoftEventfd());
    expect(outcomes).toEqual([{ errno: 'ECANCELED' }]);
    expect(one.layout.get(0)).toEqual([mailbox]);
  });

  it('gets no signal that was on its way to an older one', () => {
    const { clock, device, port, irq } = registered();
    device.driver.faults.signalDelayUs = 10;
    device.driver.revoke(0);
    now(irq.close());
    now(port.irq({ index: 5 }, { ackFd: true }));
    clock.flush();
    expect(traced(device, 'signal')).toEqual([]);
  });

  it('ends a wait when the last reference to an eventfd goes without a word', () => {
    const one = driver();
    const trigger = new SoftEventfd();
    one.registerIrq(5, 'trigger', trigger);
    one.registerIrq(5, 'ack', new SoftEventfd());
    const outcomes: unknown[] = [];
    one.setState('pre-copy', (outcome) => outcomes.push(outcome));
    expect(one.waiters).toBe(1);
    trigger.close();
    expect(outcomes).toEqual([{ errno: 'ECANCELED' }]);
  });
});

describe('the script', () => {
  it('revokes and restores on its own: signalled, not waited for', () => {
    const { clock, device, port, irq } = registered();
    device.driver.revoke(0);
    expect(now(port.regionInfo(0)).mmappable).toBe(false);
    expect(device.driver.waiters).toBe(0);
    device.driver.restore(0);
    device.driver.restore(0); // nothing changes, nothing is signalled
    const signal = watch(irq.next());
    clock.flush();
    expect(signal.values.map(({ count }) => count)).toEqual([2n]);
    expect(() => { device.driver.revoke(7); }).toThrow(RangeError);
  });

  it('is heard in a turn of its own, by whoever waits then', () => {
    const { clock, device, irq } = registered();
    const first = watch(irq.next());
    device.driver.revoke(0);
    expect(first.values).toEqual([]);
    first.stop();
    clock.flush();
    expect(first.values).toEqual([]);
    const second = watch(irq.next());
    clock.flush();
    expect(second.values.map(({ count }) => count)).toEqual([1n]);
  });

  it('delays the signal, not the layout', () => {
    const { clock, device, port, irq } = registered();
    device.driver.faults.signalDelayUs = 30;
    const signal = watch(irq.next());
    device.driver.revoke(0);
    expect(now(port.regionInfo(0)).areas).toEqual([]);
    clock.advanceMs(0.029);
    expect(signal.values).toEqual([]);
    clock.advanceMs(0.001);
    expect(signal.values.map(({ atNs }) => atNs)).toEqual([30_000n]);
  });

  it('never answers an ack while it is told so', () => {
    const { clock, device, port, irq } = registered();
    device.driver.faults.ignoreAcks = true;
    const set = watch(port.setState('pre-copy'));
    clock.advanceMs(1);
    now(irq.ack(1n));
    clock.flush();
    expect(set.error?.code).toBe('VFIO_E_ACK_TIMEOUT');
  });

  it('fails queries, maps and registrations as often as it is told', () => {
    const { device, port } = opened();
    device.driver.faults.failQuery(0, 'EIO', 2);
    device.driver.faults.failMap(1, 'ENOMEM');
    device.driver.faults.failIrq('EMFILE');
    expect([failure(port.regionInfo(0)), failure(port.regionInfo(0)), failure(port.regionInfo(0))]).toEqual(['VFIO_E_IO', 'VFIO_E_IO', 'no error, 1 values']);
    expect(failure(port.map(1, { offset: 0, size: 0x1000 }))).toBe('VFIO_E_LIMIT');
    expect(failure(port.irq({ index: 5 }, { ackFd: true }))).toBe('VFIO_E_LIMIT');
    expect(device.driver.irqs).toBe(0);
    expect(failure(port.irq({ index: 5 }, { ackFd: true }))).toBe('no error, 1 values');
  });

  it('takes the device away: ENODEV from then on, and close still works', () => {
    const { clock, device, port, irq } = registered();
    const mapping = now(port.map(0, mailbox));
    device.driver.remove();
    expect([failure(port.info()), failure(port.regionInfo(0)), failure(port.irqInfo(5)), failure(port.map(1, { offset: 0, size: 0x1000 })), failure(port.migration())])
      .toEqual(Array.from({ length: 5 }, () => 'VFIO_E_NO_DEVICE'));
    now(port.unmap(mapping));
    now(irq.close());
    port.close();
    clock.flush();
    expect({ opens: device.driver.opens, vmas: device.driver.vmas, irqs: device.driver.irqs }).toEqual({ opens: 0, vmas: 0, irqs: 0 });
    expect(failure(device.open(clock))).toBe('VFIO_E_NO_DEVICE');
  });
});
