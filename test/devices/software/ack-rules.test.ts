import { describe, expect, it } from 'vitest';
import { SoftEventfd } from '../../../src/devices/software/eventfd.js';
import { plainRegions, raw } from './raw.js';

const whole = { offset: 0, size: 0x2000 };

/** What a user reads and writes, in the words of the profile. */
describe('rfc-v4', () => {
  const rfc = { regions: plainRegions(0, 2), remap: { profile: 'rfc-v4', ackTimeoutMs: 20 }, mailbox: false } as const;

  it('adds the bits of the BARs, and a write of 0 after the read is the ack', () => {
    const { driver, trigger, write, traced } = raw(rfc);
    const set = write('stop-copy');
    expect([driver.waiters, trigger.read()]).toEqual([1, 0b101n]);
    trigger.write(0n);
    expect([set.outcome, driver.waiters]).toMatchObject([{ state: 'stop-copy' }, 0]);
    expect(traced('signal', 'wait', 'ack', 'release')).toEqual(['signal add=5', 'wait', 'ack', 'release ret=0']);
    expect(trigger.count).toBe(0n);
  });

  it('hears a write of 1 as well, and does not drain it: the echo is the user\'s to know', () => {
    const { trigger, write } = raw(rfc);
    const set = write('stop-copy');
    trigger.read();
    trigger.write(1n);
    expect(set.outcome).toMatchObject({ state: 'stop-copy' });
    expect(trigger.read()).toBe(1n);
  });

  it('ignores an ack while its own add is unread: it can only be for an older batch', () => {
    const { driver, trigger, write } = raw(rfc);
    driver.revoke(2);
    expect(trigger.read()).toBe(4n);
    const set = write('stop-copy');
    trigger.write(0n); // for the revocation
    expect(set.outcome).toBeUndefined();
    trigger.read();
    trigger.write(0n);
    expect(set.outcome).toMatchObject({ state: 'stop-copy' });
  });

  it('waits for an ack of the signal, however late the add comes', () => {
    const { clock, driver, trigger, write } = raw(rfc);
    driver.faults.signalDelayUs = 1000;
    const set = write('stop-copy');
    trigger.write(0n);
    clock.advanceMs(1);
    expect(set.outcome).toBeUndefined();
    expect(trigger.read()).toBe(5n);
    trigger.write(0n);
    expect(set.outcome).toMatchObject({ state: 'stop-copy' });
  });

  it('does not wait for an ack on the way back', () => {
    const { trigger, write } = raw(rfc);
    write('stop-copy');
    trigger.read();
    trigger.write(0n);
    expect(write('running').outcome).toMatchObject({ state: 'running' });
    expect(trigger.read()).toBe(5n);
  });

  it('times out, restores the layout and signals that', () => {
    const { clock, driver, trigger, write } = raw(rfc);
    const set = write('stop-copy');
    clock.advanceMs(20);
    expect([set.outcome, driver.state, trigger.read()]).toEqual([{ errno: 'ETIMEDOUT' }, 'running', 10n]);
    expect(driver.layout.get(0)).toEqual([whole]);
  });

  it('waits for ever where it was posted so', () => {
    const { clock, driver, write } = raw({ ...rfc, remap: { profile: 'rfc-v4', ackTimeoutMs: Infinity } });
    const set = write('stop-copy');
    clock.advanceMs(1e9);
    expect([set.outcome, driver.waiters]).toEqual([undefined, 1]);
    driver.disableIrq(5);
    expect(set.outcome).toEqual({ errno: 'ECANCELED' });
  });

  it('refuses device_state with ENODEV while the irq is not registered, and takes no ack eventfd and no semaphore', () => {
    const { driver, write } = raw(rfc, false);
    expect(write('stop-copy').outcome).toEqual({ errno: 'ENODEV' });
    expect(driver.registerIrq(5, 'ack', new SoftEventfd())).toBe('ENOTTY');
    expect(driver.registerIrq(5, 'trigger', new SoftEventfd({ semaphore: true }))).toBe('EINVAL');
  });
});

describe('region-remap, bitmap and value', () => {
  const bitmap = { regions: plainRegions(1, 3), remap: { signals: 'bitmap', ackTimeoutMs: 20 }, mailbox: false } as const;

  it('adds the bits of the regions, and waits for their sum', () => {
    const { driver, trigger, ack, write, traced } = raw(bitmap);
    driver.revoke(3);
    const set = write('stop-copy');
    expect(trigger.read()).toBe(8n + 2n);
    ack.write(8n);
    expect(set.outcome).toBeUndefined();
    ack.write(2n);
    expect(set.outcome).toMatchObject({ state: 'stop-copy' });
    expect(traced('signal', 'wait', 'ack')).toEqual(['signal add=8', 'signal add=2', 'wait target=10', 'ack value=8', 'ack value=2']);
    expect([driver.sent, driver.acked]).toEqual([10n, 10n]);
  });

  it('adds, and does not OR: the same region twice reads as the next one', () => {
    const { driver, trigger } = raw(bitmap);
    driver.revoke(1);
    driver.restore(1);
    expect(trigger.read()).toBe(4n);
  });

  it('signals all 64 regions in two adds, the second when the first has come back', () => {
    const all = Array.from({ length: 64 }, (_, index) => index);
    const { driver, trigger, ack, write, traced } = raw({ ...bitmap, regions: plainRegions(...all) });
    const set = write('stop-copy');
    expect(traced('signal', 'wait')).toEqual([`signal add=${1n << 63n}`, 'wait target=-1']);
    const first = trigger.read() ?? 0n;
    ack.write(first);
    expect(set.outcome).toBeUndefined(); // its own signal is only now complete
    const second = trigger.read() ?? 0n;
    expect(first | second).toBe(2n ** 64n - 1n);
    ack.write(second);
    expect(set.outcome).toMatchObject({ state: 'stop-copy' });
    expect(driver.violations).toBe(0);
  });

  it('holds back what would fill the count, as bits, until there is room', () => {
    const { driver, trigger, ack } = raw({ ...bitmap, regions: plainRegions(1, 63) });
    driver.revoke(63);
    driver.restore(63);
    driver.revoke(63);
    driver.revoke(1);
    expect(trigger.read()).toBe(1n << 63n);
    expect(trigger.read()).toBeUndefined();
    ack.write(1n << 63n);
    expect(trigger.read()).toBe((1n << 63n) | 2n);
  });
});

for (const signals of ['doorbell', 'bitmap'] as const) {
  describe(`region-remap, ${signals} and none`, () => {
    const none = { regions: plainRegions(0, 1), remap: { signals, ack: 'none', ackTimeoutMs: 20 }, mailbox: false } as const;

    it('waits until nothing is mapped that the layout does not offer', () => {
      const { driver, trigger, write } = raw(none);
      const [zero, one] = [driver.mmap(0, whole), driver.mmap(1, { offset: 0x1000, size: 0x1000 })];
      if (typeof zero === 'string' || typeof one === 'string') throw new Error('not mapped');
      const set = write('stop-copy');
      expect(trigger.read()).toBe(signals === 'doorbell' ? 1n : 3n);
      expect(driver.mmap(1, { offset: 0, size: 0x1000 })).toBe('EINVAL');
      driver.munmap(zero, { offset: 0x1000, size: 0x1000 });
      driver.munmap(one, one.area);
      expect([set.outcome, driver.waiters]).toEqual([undefined, 1]);
      driver.munmap(zero, { offset: 0, size: 0x1000 });
      expect([set.outcome, driver.waiters]).toMatchObject([{ state: 'stop-copy' }, 0]);
    });

    it('waits for nothing that is offered again meanwhile', () => {
      const { driver, write } = raw({ ...none, regions: [...plainRegions(0), { index: 1, size: 0x2000, areas: 'all' }] });
      const [zero, one] = [driver.mmap(0, whole), driver.mmap(1, whole)];
      if (typeof zero === 'string' || typeof one === 'string') throw new Error('not mapped');
      const set = write('stop-copy');
      driver.revoke(1);
      driver.munmap(zero, whole);
      expect([set.outcome, driver.waiters]).toEqual([undefined, 1]);
      driver.restore(1);
      expect([set.outcome, driver.waiters]).toMatchObject([{ state: 'stop-copy' }, 0]);
    });

    it('signals, and waits for nothing, where nothing is mapped', () => {
      const { trigger, write } = raw(none);
      expect(write('stop-copy').outcome).toMatchObject({ state: 'stop-copy' });
      expect(trigger.count).toBeGreaterThan(0n);
    });

    it('times out while something stays mapped', () => {
      const { clock, driver, write } = raw(none);
      driver.mmap(0, whole);
      const set = write('stop-copy');
      clock.advanceMs(20);
      expect([set.outcome, driver.state]).toEqual([{ errno: 'ETIMEDOUT' }, 'running']);
    });

    it('is complete with the trigger alone, and takes no ack eventfd', () => {
      const { driver } = raw(none);
      expect(driver.pages).toMatchObject([{ complete: true, irqIndex: 5 }]);
      expect(driver.registerIrq(5, 'ack', new SoftEventfd())).toBe('ENOTTY');
    });
  });
}
