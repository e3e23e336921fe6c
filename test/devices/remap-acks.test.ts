import { describe, expect, it } from 'vitest';
import type { IrqHandle } from '../../src/devices/port.js';
import { SoftEventfd } from '../../src/devices/software/eventfd.js';
import { SoftwareIrqHandle } from '../../src/devices/software/irq-handle.js';
import { Timers } from '../../src/devices/software/timers.js';
import { ackForms } from '../../src/devices/remap-acks.js';
import { codeOf, now } from '../support/devices.js';
import { virtualClock } from '../support/virtual-clock.js';

const most = 2n ** 64n - 1n;

/** An irq whose driver notes each write, and drains the eventfd where it is told to. */
function irqOf(withAckFd: boolean, drains = false): { readonly handle: IrqHandle; readonly trigger: SoftEventfd; readonly written: bigint[] } {
  const handle: SoftwareIrqHandle = new SoftwareIrqHandle({ device: 'software0', timers: new Timers(virtualClock()), act: () => undefined, release: () => { handle.dispose(); } }, { index: 5, vector: 0 }, withAckFd);
  const written: bigint[] = [];
  const heard = handle.ackFd ?? handle.triggerFd;
  let before = 0n;
  heard.listen({
    written: () => {
      written.push(heard.count - before);
      if (withAckFd || drains) heard.read();
      before = heard.count;
    },
    hungUp: () => undefined,
  });
  return { handle, trigger: handle.triggerFd, written };
}

describe('value', () => {
  it('writes the sum to the ack eventfd, the largest in two writes, and reads nothing', () => {
    for (const [sum, writes] of [[1n, [1n]], [7n, [7n]], [most - 1n, [most - 1n]], [most, [most - 1n, 1n]]] as const) {
      const { handle, trigger, written } = irqOf(true);
      trigger.add(3n);
      expect(now(ackForms.value(handle, sum))).toEqual({ written: true, read: undefined });
      expect(written).toEqual(writes);
      expect(trigger.count).toBe(3n);
    }
  });
});

describe('write-zero', () => {
  it('is heard, changes no count, and leaves alone what came meanwhile', () => {
    const { handle, trigger, written } = irqOf(false);
    trigger.add(2n);
    expect(now(ackForms['write-zero'](handle, 5n))).toEqual({ written: true, read: undefined });
    expect(written).toHaveLength(1);
    expect(trigger.count).toBe(2n);
  });

  it('that meets a full count reads it: the batch begins again', () => {
    const { handle, trigger, written } = irqOf(false);
    trigger.add(most);
    expect(now(ackForms['write-zero'](handle, 1n))).toEqual({ written: false, read: { count: most, doubtful: false, full: true } });
    expect([written, trigger.count]).toEqual([[], 0n]);
  });
});

describe('write-one', () => {
  it('RR-52: reads its echo back: doubtful', () => {
    const { handle, trigger } = irqOf(false);
    expect(now(ackForms['write-one'](handle, 4n))).toEqual({ written: true, read: { count: 1n, doubtful: true, full: false } });
    expect(trigger.count).toBe(0n);
  });

  it('owes itself nothing where the driver has drained it', () => {
    const { handle, written } = irqOf(false, true);
    expect(now(ackForms['write-one'](handle, 4n))).toEqual({ written: true, read: undefined });
    expect(written).toEqual([1n]);
  });

  it('takes more than the echo for a signal', () => {
    const { handle, trigger } = irqOf(false);
    trigger.add(1n);
    expect(now(ackForms['write-one'](handle, 4n))).toEqual({ written: true, read: { count: 2n, doubtful: false, full: false } });
  });

  it('that meets a nearly full count reads it: the batch begins again', () => {
    for (const count of [most, most - 1n]) {
      const { handle, trigger } = irqOf(false);
      trigger.add(count);
      expect(now(ackForms['write-one'](handle, 1n))).toEqual({ written: false, read: { count, doubtful: false, full: true } });
    }
  });

  it('fails with what the write says otherwise', () => {
    const { handle } = irqOf(false);
    now(handle.close());
    expect(codeOf(() => now(ackForms['write-one'](handle, 1n)))).toBe('VFIO_E_CLOSED');
  });
});

describe('none', () => {
  it('writes and reads nothing', () => {
    const { handle, trigger, written } = irqOf(false);
    trigger.add(2n);
    expect(now(ackForms.none(handle, 5n))).toEqual({ written: false, read: undefined });
    expect([written, trigger.count]).toEqual([[], 2n]);
  });
});
