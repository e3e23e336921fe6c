import { describe, expect, it } from 'vitest';
import { failure, now, registered, traced, watch } from './opened.js';
import { plainRegions, raw } from './raw.js';

const whole = { offset: 0, size: 0x2000 };
const bitmap = { regions: plainRegions(1, 3), remap: { signals: 'bitmap', ackTimeoutMs: 20 }, mailbox: false } as const;
const doorbell = { regions: plainRegions(1, 3), remap: { ackTimeoutMs: 20 }, mailbox: false } as const;
const rfc = { regions: plainRegions(1, 3), remap: { profile: 'rfc-v4', ackTimeoutMs: 20 }, mailbox: false } as const;

/** Each switch: what it does, and nothing beside it. */
describe('a driver that misbehaves', () => {
  it('ignoreAcks: hears them and waits on, whatever the profile', () => {
    for (const options of [doorbell, bitmap, rfc]) {
      const { clock, driver, trigger, ack, write, traced: trace } = raw(options);
      driver.faults.ignoreAcks = true;
      const set = write('stop-copy');
      const count = trigger.read() ?? 0n;
      if (options === rfc) trigger.write(0n);
      else ack.write(count);
      expect(trace('ack')).toHaveLength(1);
      clock.advanceMs(20);
      expect(set.outcome).toEqual({ errno: 'ETIMEDOUT' });
    }
  });

  it('signalTwice: two adds, and a wait for both', () => {
    const { driver, trigger, ack, write, traced: trace } = raw(bitmap);
    driver.faults.signalTwice = true;
    const set = write('stop-copy');
    expect([trigger.read(), trace('signal', 'wait')]).toEqual([20n, ['signal add=10', 'signal add=10', 'wait target=20']]);
    ack.write(10n);
    expect(set.outcome).toBeUndefined();
    ack.write(10n);
    expect(set.outcome).toMatchObject({ state: 'stop-copy' });
  });

  it('addOne: 1, whichever regions are meant, and that is what it waits for', () => {
    const { driver, trigger, ack, write } = raw(bitmap);
    driver.faults.addOne = true;
    const set = write('stop-copy');
    expect([trigger.read(), driver.sent]).toEqual([1n, 1n]);
    ack.write(1n);
    expect(set.outcome).toMatchObject({ state: 'stop-copy' });
  });

  it('signalUndeclared: the lowest bit that is not declared comes along; a doorbell has none', () => {
    const { driver, trigger } = raw(bitmap);
    driver.faults.signalUndeclared = true;
    driver.revoke(3);
    expect(trigger.read()).toBe(8n + 1n);
    const bell = raw(doorbell);
    bell.driver.faults.signalUndeclared = true;
    bell.driver.revoke(3);
    expect(bell.trigger.read()).toBe(1n);
  });

  it('signalBeforeLayout: who asks at once is told the old layout, and a millisecond later it is another', () => {
    const { clock, driver, trigger, ack, write } = raw(doorbell);
    driver.faults.signalBeforeLayout = true;
    driver.revoke(3);
    expect([trigger.read(), driver.layout.get(3)]).toEqual([1n, [whole]]);
    clock.advanceMs(1);
    expect(driver.layout.get(3)).toEqual([]);
    const set = write('stop-copy');
    driver.mmap(1, whole);
    ack.write(2n);
    // Acked, and mapped: the driver itself does not notice, for its layout still offers it.
    expect([set.outcome, driver.vmas, driver.layout.get(1)]).toMatchObject([{ state: 'stop-copy' }, 1, []]);
    expect(driver.mmap(3, whole)).toBe('EINVAL');
  });

  it('takeAnyAck (rfc-v4 as posted): an ack for an older batch ends the wait', () => {
    const { driver, trigger, write } = raw(rfc);
    driver.faults.takeAnyAck = true;
    driver.revoke(3);
    trigger.read();
    const set = write('stop-copy');
    trigger.write(0n); // for the revocation; the new signal has not been read
    expect([set.outcome, trigger.count]).toMatchObject([{ state: 'stop-copy' }, 2n]);
  });

  it('takeAnyAck, by value: whatever the number says', () => {
    const { driver, trigger, ack, write } = raw(bitmap);
    driver.faults.takeAnyAck = true;
    driver.revoke(3);
    trigger.read();
    const set = write('stop-copy');
    ack.write(8n);
    expect([set.outcome, driver.sent, driver.acked]).toMatchObject([{ state: 'stop-copy' }, 10n, 10n]);
  });

  describe('drain', () => {
    it('always: nothing that it adds is ever read, and it waits in vain', () => {
      for (const options of [doorbell, bitmap, rfc]) {
        const { clock, driver, trigger, write } = raw(options);
        driver.faults.drain = 'always';
        const set = write('stop-copy');
        expect(trigger.read()).toBeUndefined();
        clock.advanceMs(20);
        expect(set.outcome).toEqual({ errno: 'ETIMEDOUT' });
      }
    });

    it('at-ack: the echo goes, and with it whatever was signalled meanwhile', () => {
      const one = raw(rfc);
      one.driver.faults.drain = 'at-ack';
      one.driver.revoke(3);
      one.trigger.read();
      one.driver.restore(3);
      one.trigger.write(1n);
      expect(one.trigger.read()).toBeUndefined();
      const two = raw(doorbell);
      two.driver.faults.drain = 'at-ack';
      two.driver.revoke(3);
      two.trigger.read();
      two.driver.restore(3);
      two.ack.write(1n);
      expect([two.trigger.read(), two.driver.sent]).toEqual([undefined, 2n]);
    });

    it('sometimes: at every second ack', () => {
      const { driver, trigger } = raw(rfc);
      driver.faults.drain = 'sometimes';
      const echo = (): bigint | undefined => {
        trigger.write(1n);
        return trigger.read();
      };
      expect([echo(), echo(), echo(), echo()]).toEqual([1n, undefined, 1n, undefined]);
    });
  });

  it('silentRollBack: the layout is back, and nobody is told', () => {
    const { clock, driver, trigger, write } = raw(doorbell);
    driver.faults.silentRollBack = true;
    const set = write('stop-copy');
    trigger.read();
    clock.advanceMs(20);
    expect([set.outcome, driver.layout.get(1), trigger.read()]).toEqual([{ errno: 'ETIMEDOUT' }, [whole], undefined]);
  });

  it('ignoreDisable: a disable and a hang-up leave the wait to its deadline and the irq registered; close of the device takes it', () => {
    const { clock, device, port, irq } = registered({ remap: { ackTimeoutMs: 20 } });
    device.driver.faults.ignoreDisable = true;
    const set = watch(port.setState('pre-copy'));
    clock.advanceMs(1);
    now(irq.close());
    expect([device.driver.waiters, device.driver.irqs]).toEqual([1, 2]);
    port.close();
    clock.advanceMs(15);
    expect(set.error).toBeUndefined();
    clock.flush();
    expect([set.error?.errno, device.driver.opens, device.driver.irqs]).toEqual(['ETIMEDOUT', 0, 0]);
  });

  it('ignoreDisable: a new registration replaces the old one all the same', () => {
    const { device, port, irq } = registered();
    device.driver.faults.ignoreDisable = true;
    now(irq.close());
    expect(failure(port.irq({ index: 5 }, { ackFd: true }))).toBe('no error, 1 values');
    expect(device.driver.irqs).toBe(2);
  });

  it('stallMs: between the wait and the first arc, and nothing ends that but time', () => {
    const { clock, device, port, irq } = registered();
    device.driver.faults.stallMs = 50;
    const set = watch(port.setState('pre-copy'));
    clock.advanceMs(1);
    now(irq.ack(1n));
    clock.advanceMs(40);
    now(irq.close());
    expect([set.complete, device.driver.state, device.driver.waiters]).toEqual([false, 'running', 0]);
    clock.advanceMs(10);
    expect([set.complete, device.driver.state]).toEqual([true, 'pre-copy']);
  });

  it('stallMs: a removal, or a reset, is heard after it', () => {
    for (const how of ['remove', 'reset'] as const) {
      const { clock, device, port, irq } = registered();
      device.driver.faults.stallMs = 50;
      const set = watch(port.setState('pre-copy'));
      clock.advanceMs(1);
      now(irq.ack(1n));
      if (how === 'remove') device.driver.remove();
      else watch(port.reset());
      clock.advanceMs(49);
      expect(set.error).toBeUndefined();
      clock.advanceMs(1);
      expect([set.error?.errno, device.driver.state]).toEqual(['ECANCELED', 'running']);
    }
  });

  it('failArc: the wait was for nothing, and what was taken comes back', () => {
    const { driver, trigger, ack, write } = raw(doorbell);
    driver.faults.failArc('stop-copy', 'EIO');
    const set = write('stop-copy');
    ack.write(trigger.read() ?? 0n);
    expect([set.outcome, driver.state, driver.layout.get(1), trigger.read()]).toEqual([{ errno: 'EIO' }, 'stop', [whole], 1n]);
  });
});

describe('the duties of a driver', () => {
  it('1: the new layout is visible, and enforced by mmap, before the signal; what is mapped goes on until the wait has ended', () => {
    const { device, port, clock } = registered();
    const mapping = now(port.map(0, { offset: 0, size: 0x1000 }));
    device.driver.faults.signalDelayUs = 500;
    watch(port.setState('stop-copy'));
    clock.advanceMs(0.1);
    expect(traced(device, 'signal')).toEqual([]);
    expect([now(port.regionInfo(0)).areas, failure(port.map(0, { offset: 0x1000, size: 0x1000 }))]).toEqual([[], 'VFIO_E_RANGE']);
    new Uint32Array(mapping.memory)[0] = 7;
    expect([...device.driver.readRegion(0, 0, 1), device.driver.violations]).toEqual([7, 0]);
  });

  it('4: while it waits everything else goes on', () => {
    const { clock, device, port, irq } = registered();
    const mapping = now(port.map(0, { offset: 0, size: 0x1000 }));
    watch(port.setState('stop-copy'));
    clock.advanceMs(1);
    const state = watch(port.getState());
    const access = watch(port.access({ region: 2, offset: 0, readBytes: 4 }));
    for (const call of [port.info(), port.regionInfo(0), port.irqInfo(5), port.map(1, { offset: 0, size: 0x1000 }), port.unmap(mapping), port.irq({ index: 1 })]) {
      expect(failure(call)).toBe('no error, 1 values');
    }
    clock.advanceMs(0);
    expect([device.driver.waiters, state.values, access.complete]).toEqual([1, ['running'], true]);
    now(irq.ack(1n));
  });

  it('5: a hang-up of either eventfd ends the wait', () => {
    for (const which of ['trigger', 'ack'] as const) {
      const all = raw(doorbell);
      const set = all.write('stop-copy');
      all[which].close();
      expect([set.outcome, all.driver.pages[0]?.complete]).toEqual([{ errno: 'ECANCELED' }, false]);
    }
  });
});
