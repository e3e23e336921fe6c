import { describe, expect, it } from 'vitest';
import type { AckForm, RemapPage } from '../../src/devices/protocol/negotiation.js';
import { RegisteredPage } from '../../src/devices/remap-page.js';
import { SoftEventfd } from '../../src/devices/software/eventfd.js';
import { SoftwareIrqHandle } from '../../src/devices/software/irq-handle.js';
import { Timers } from '../../src/devices/software/timers.js';
import { codeOf, now, openedNow, twoRegions } from '../support/devices.js';
import { virtualClock } from '../support/virtual-clock.js';

const most = 2n ** 64n - 1n;

/** A page whose driver takes each value ack out of its eventfd, as it must. */
function pageOf(ack: AckForm): { readonly page: RegisteredPage; readonly trigger: SoftEventfd; readonly acked: bigint[] } {
  const clock = virtualClock();
  const { device } = openedNow(clock, twoRegions);
  const handle = new SoftwareIrqHandle({ device: 'software0', timers: new Timers(clock), act: () => undefined, release: () => undefined }, { index: 5, vector: 0 }, ack === 'value');
  const acked: bigint[] = [];
  handle.ackFd?.listen({ written: () => { acked.push(handle.ackFd?.read() ?? 0n); }, hungUp: () => undefined });
  const described: RemapPage = { irqIndex: 5, page: 0, declared: new Set([0, 1]), signals: 'doorbell', ack, ackTimeoutMs: 500, maxWaits: 1 };
  const page = new RegisteredPage(device, ack === 'value' || ack === 'none' ? 'region-remap' : 'rfc-v4', described, handle, () => undefined);
  return { page, trigger: handle.triggerFd, acked };
}

describe('a page', () => {
  it('sums what is read until it is acked, and lets no ack say more', () => {
    const { page, trigger, acked } = pageOf('value');
    trigger.add(3n);
    expect(now(page.readNow())).toEqual({ because: 'signal', sumRead: 3n, doubtful: false, atNs: 0n });
    trigger.add(4n);
    expect(now(page.readNow())?.sumRead).toBe(7n);
    expect(now(page.readNow())).toBeUndefined();
    expect(codeOf(() => now(page.channel.ack(8n)))).toBe('VFIO_E_RANGE');
    expect(codeOf(() => now(page.channel.ack(-1n)))).toBe('VFIO_E_RANGE');
    expect([now(page.channel.ack(5n)), page.full('after-transition').sumRead]).toEqual([true, 2n]);
    expect([now(page.channel.ack(2n)), now(page.channel.ack(0n)), acked]).toEqual([true, false, [5n, 2n]]);
    expect(codeOf(() => now(page.channel.ack(1n)))).toBe('VFIO_E_RANGE');
  });

  it('calls a count saturated that adds may be missing from', () => {
    for (const [count, because] of [[most - 2n, 'signal'], [most - 1n, 'saturated'], [most, 'saturated']] as const) {
      const { page, trigger } = pageOf('value');
      trigger.add(count);
      expect(now(page.readNow())).toMatchObject({ because, sumRead: count });
    }
  });

  it('in form none has acked what the batch took, without writing', () => {
    const { page, trigger } = pageOf('none');
    trigger.add(2n);
    expect([now(page.readNow())?.sumRead, now(page.channel.ack(2n)), trigger.count, page.full('after-transition').sumRead]).toEqual([2n, false, 0n, 0n]);
  });

  it('hands on an echo as doubtful, once, and forgets it where it was not acked', () => {
    const { page, trigger } = pageOf('write-one');
    trigger.add(1n);
    now(page.readNow());
    expect([now(page.channel.ack(1n)), page.takeFollowing(), page.takeFollowing()]).toEqual([true, { because: 'signal', sumRead: 1n, doubtful: true, atNs: 0n }, undefined]);
    // Nothing had changed: the batch ended without an ack.
    expect(page.full('after-transition').sumRead).toBe(0n);
    expect(codeOf(() => now(page.channel.ack(1n)))).toBe('VFIO_E_RANGE');
  });

  it('acks a doubtful batch that found a change, and reads once more', () => {
    const { page, trigger } = pageOf('write-one');
    trigger.add(1n);
    now(page.readNow());
    now(page.channel.ack(1n));
    expect(page.takeFollowing()?.doubtful).toBe(true);
    expect([now(page.channel.ack(1n)), page.takeFollowing()?.doubtful, trigger.count]).toEqual([true, true, 0n]);
  });

  it('keeps what an ack that did not fit was about, and adds what it read', () => {
    const { page, trigger } = pageOf('write-one');
    trigger.add(2n);
    now(page.readNow());
    trigger.add(most);
    expect([now(page.channel.ack(2n)), page.takeFollowing()]).toEqual([false, { because: 'saturated', sumRead: most + 2n, doubtful: false, atNs: 0n }]);
    expect([now(page.channel.ack(most + 2n)), page.full('after-transition').sumRead]).toEqual([true, 0n]);
  });
});
