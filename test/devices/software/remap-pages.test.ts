import { describe, expect, it } from 'vitest';
import { SoftEventfd } from '../../../src/devices/software/eventfd.js';
import { plainRegions, raw } from './raw.js';

const three = { regions: plainRegions(1, 64, 65, 190), remap: { signals: 'bitmap', ackTimeoutMs: 20 }, mailbox: false } as const;

describe('pages', () => {
  it('stand one after the other, each about its own 64 regions; a page without a region is not there', () => {
    const { driver } = raw(three);
    expect(driver.shape.remap?.pages).toEqual([
      { page: 0, irqIndex: 5, regions: 2n },
      { page: 1, irqIndex: 6, regions: 3n },
      { page: 2, irqIndex: 7, regions: 1n << 62n },
    ]);
    expect(raw({ regions: plainRegions(0, 128), mailbox: false }).driver.irqInfo(6, new Uint8Array(64))).toBe('EINVAL');
  });

  it('keep their own sums', () => {
    const { driver, pages, traced } = raw(three);
    driver.revoke(65);
    expect(pages.map(({ trigger }) => trigger.read())).toEqual([undefined, 2n, undefined]);
    pages[0]?.ack.write(2n);
    expect(driver.violationList).toMatchObject([{ kind: 'ack-not-sent', value: 2n }]);
    pages[1]?.ack.write(2n);
    expect(driver.pages.map(({ sent, acked }) => [sent, acked])).toEqual([[0n, 0n], [2n, 2n], [0n, 0n]]);
    expect(traced('signal')).toEqual(['signal add=2 page=1']);
  });

  it('wait side by side, and a write goes on when all have their acks', () => {
    const { driver, pages, write } = raw(three);
    const set = write('stop-copy');
    expect(driver.pages.map(({ waiting }) => waiting)).toEqual([true, true, true]);
    pages[2]?.ack.write(1n << 62n);
    pages[0]?.ack.write(2n);
    expect([set.outcome, driver.waiters]).toEqual([undefined, 1]);
    pages[1]?.ack.write(3n);
    expect(set.outcome).toMatchObject({ state: 'stop-copy' });
  });

  it('end together where one fails', () => {
    const { driver, pages, write } = raw(three);
    const set = write('stop-copy');
    pages[0]?.ack.write(2n);
    driver.disableIrq(6);
    expect([set.outcome, driver.waiters]).toEqual([{ errno: 'ECANCELED' }, 0]);
    expect(driver.layout.get(190)).toHaveLength(1);
    // The restored layout is signalled where somebody listens.
    expect(pages.map(({ trigger }) => trigger.count)).toEqual([4n, 3n, 1n << 63n]);
  });

  it('are all needed for device_state', () => {
    const { driver, write } = raw(three);
    driver.disableIrq(7);
    expect(driver.pages.map(({ complete }) => complete)).toEqual([true, true, false]);
    expect(write('stop-copy').outcome).toEqual({ errno: 'EPERM' });
  });

  it('take no eventfd that another page has', () => {
    const { driver, pages } = raw(three);
    const used = pages[0]?.trigger ?? new SoftEventfd();
    expect([driver.registerIrq(6, 'trigger', used), driver.registerIrq(6, 'ack', used)]).toEqual(['EINVAL', 'EINVAL']);
  });

  it('revoke one region after the other, each page its own, where the driver may wait more than once', () => {
    const { pages, write } = raw({ ...three, remap: { ...three.remap, maxWaits: 2 } });
    const set = write('stop-copy');
    expect(pages.map(({ trigger }) => trigger.read())).toEqual([2n, 1n, 1n << 62n]);
    for (const [n, value] of [2n, 1n, 1n << 62n].entries()) pages[n]?.ack.write(value);
    expect(pages.map(({ trigger }) => trigger.read())).toEqual([undefined, 2n, undefined]);
    pages[1]?.ack.write(2n);
    expect(set.outcome).toMatchObject({ state: 'stop-copy' });
  });
});

describe('profile saving-layout', () => {
  const saving = { regions: plainRegions(0, 1), remap: { profile: 'saving-layout' }, mailbox: false } as const;
  const whole = { offset: 0, size: 0x2000 };

  it('has no irq, and refuses a change of state that something mapped stands against', () => {
    const { driver, write, traced } = raw(saving);
    expect([driver.pages, driver.irqInfo(5, new Uint8Array(64))]).toEqual([[], 'EINVAL']);
    const mapping = driver.mmap(0, whole);
    if (typeof mapping === 'string') throw new Error('not mapped');
    expect([write('stop-copy').outcome, driver.state]).toEqual([{ errno: 'EBUSY' }, 'running']);
    driver.munmap(mapping, whole);
    expect(write('stop-copy').outcome).toMatchObject({ state: 'stop-copy' });
    expect(driver.mmap(0, whole)).toBe('EINVAL');
    expect(write('running').outcome).toMatchObject({ state: 'running' });
    expect(traced('signal', 'wait')).toEqual([]);
  });

  it('maps nothing of what goes while the arcs are under way, and all of it again after one has failed', () => {
    const { clock, driver, write } = raw(saving);
    driver.faults.arcLatencyUs = 1000;
    driver.faults.failArc('stop-copy', 'EIO');
    const set = write('stop-copy');
    clock.advanceMs(1);
    expect(driver.mmap(0, whole)).toBe('EINVAL');
    clock.advanceMs(10);
    expect([set.outcome, typeof driver.mmap(0, whole)]).toEqual([{ errno: 'EIO' }, 'object']);
  });

  it('counts a reset as a change to RUNNING', () => {
    const { driver, write } = raw({ ...saving, regions: [{ index: 0, size: 0x2000, areas: [], savingAreas: 'all' }] });
    write('stop-copy');
    driver.mmap(0, whole);
    const outcomes: unknown[] = [];
    driver.reset((outcome) => outcomes.push(outcome));
    expect([outcomes, driver.state]).toEqual([[{ errno: 'EBUSY' }], 'stop-copy']);
  });

  it('changes no layout of its own accord', () => {
    expect(() => { raw(saving).driver.revoke(0); }).toThrow(RangeError);
  });
});
