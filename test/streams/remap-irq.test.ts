import { concat, concatMap, defer, EMPTY, map, of, Subject, tap, throwError, timer } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { IrqHandle, IrqInfo } from '../../src/devices/port.js';
import type { RemapSignal } from '../../src/devices/remap-batch.js';
import { errnoError, VfioError } from '../../src/errors.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition } from '../../src/streams/transition.js';
import { marbles } from '../../src/testing/index.js';
import { endBatches } from '../support/batch-end.js';
import { type Alter, alteredIrq, openedNow, twoRegions } from '../support/devices.js';

const told = map(({ because, sumRead, channel }: RemapSignal) => `${because} ${sumRead}${channel.page === 0 ? '' : ` of page ${channel.page}`}`);

const names = { r: 'registered 0', s: 'signal 1', t: 'signal 2', a: 'after-transition 0' };

/** Ends every batch and acks none. */
const endedOnly = concatMap((signal: RemapSignal) => concat(of(signal), defer(() => { signal.channel.end(signal.batch); return EMPTY; })));

describe('remapIrq', () => {
  it('is its diagram', () => {
    marbles((t) => {
      const arming = new Subject<string>();
      const ended = new Subject<string>();
      const { device, driver } = openedNow(t.clock, twoRegions, logArming((what) => arming.next(what)));
      t.at('                      ------a-bc----------', { a: () => driver.revoke(0), b: () => driver.revoke(1), c: () => driver.restore(0) });
      t.expectDevice(device).toShow({
        signal: '                   ------1-11----------' });
      t.expect(ended).toBe('      ----x-----x---x-----');
      t.expect(arming).toBe('     ----a-d---(ad)a-----');
      t.expect(remapIrq(device).pipe(endBatches(t, 4, (x) => ended.next(x)), told)).toBe('r-----s---t---------', names);
    });
  });
});

function logArming(log: (what: 'a' | 'd') => void): Alter {
  return (port) => ({
    irq: (line, options) => port.irq(line, options).pipe(map((handle) => alteredIrq(handle, {
      next: () => { log('a'); return handle.next().pipe(map((signal) => { log('d'); return signal; })); },
    }))),
  });
}

describe('the negotiation', () => {
  it('finds a static device: one batch that maps everything, then the end', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...twoRegions, remap: false });
      const signals$ = remapIrq(device);
      t.expect(signals$.pipe(endBatches(t), map(({ channel, because, sumRead }) => [channel.profile, because, sumRead, [...channel.declared], channel.ackTimeoutMs]))).toBe('<s,|>', { s: ['static', 'registered', 0n, [0, 1], undefined] });
      t.expect(signals$.pipe(remapRegions(device), map(({ acked, headroomNs }) => [acked, headroomNs])), '-^').toBe('-<r,|>', { r: [false, undefined] });
      t.expectDevice(device).toShow({ map: '-<0,1>', ack: '' });
      t.atEnd(() => expect([driver.irqs, device.remapSession]).toEqual([0, undefined]));
    });
  });

  it('RR-3: registers nothing where a declared region does not answer', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      driver.faults.failQuery(1, 'EIO');
      t.expect(remapIrq(device)).toBe('#', undefined, expect.objectContaining({ code: 'VFIO_E_PROTOCOL', operation: 'register remap irq 5', cause: expect.objectContaining({ errno: 'EIO', operation: 'VFIO_DEVICE_GET_REGION_INFO(1)' }) as unknown }));
      t.atEnd(() => expect([driver.irqs, driver.trace.filter(({ event }) => event === 'register'), device.remapSession]).toEqual([0, [], undefined]));
    });
  });

  it('RR-27: registers nothing where the driver declares a region that the device does not have', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...twoRegions, remap: { regions: 0b1011n } });
      t.expect(remapIrq(device)).toBe('#', undefined, expect.objectContaining({ code: 'VFIO_E_PROTOCOL', operation: 'register remap irq 5', cause: expect.objectContaining({ code: 'VFIO_E_NO_REGION' }) as unknown }));
      t.atEnd(() => expect(driver.irqs).toBe(0));
    });
  });

  it('RR-27: registers nothing where two irqs claim one page', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions, (port) => ({
        irqInfo: (index) => port.irqInfo(index === 2 ? 5 : index).pipe(map((info): IrqInfo => ({ ...info, index }))),
      }));
      t.expect(remapIrq(device)).toBe('#', undefined, expect.objectContaining({ code: 'VFIO_E_PROTOCOL', message: expect.stringContaining('two remap irqs claim page 0') as string }));
      t.atEnd(() => expect(driver.irqs).toBe(0));
    });
  });

  it('fails with what registering says, and gives its place back', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      driver.faults.failIrq('EMFILE');
      t.expect(remapIrq(device)).toBe('#', undefined, { code: 'VFIO_E_LIMIT', errno: 'EMFILE' });
      t.expect(remapIrq(device).pipe(endBatches(t), told), '-^').toBe('-r', names);
    });
  });

  it('closes the first page where the second cannot be registered', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions, (port) => ({
        ...twoPages(port),
        irq: (line, options) => (line.index === 2 ? throwError(() => errnoError('EMFILE', 'eventfd')) : port.irq(line, options)),
      }));
      t.expect(remapIrq(device)).toBe('#', undefined, { code: 'VFIO_E_LIMIT' });
      t.atEnd(() => expect(driver.irqs).toBe(0));
    });
  });
});

/** A second remap irq, at index 2, for page 1. Its own regions are those of page 0 again, 64 higher. */
function twoPages(port: Parameters<Alter>[0]): ReturnType<Alter> {
  return {
    info: () => port.info().pipe(map((info) => ({ ...info, regions: 66 }))),
    regionInfo: (index) => port.regionInfo(index % 64 > 1 ? 2 : index % 64).pipe(map((info) => ({ ...info, index }))),
    irqInfo: (index) => port.irqInfo(index === 2 ? 5 : index).pipe(map((info): IrqInfo => (index !== 2 || info.remap?.subtype !== 'region-remap' ? info : { ...info, index, remap: { ...info.remap, page: 1 } }))),
  };
}

describe('two pages', () => {
  it('that always signal take turns, one batch at a time, each acked to its own irq', () => {
    marbles((t) => {
      const acks = new Subject<string>();
      const { device } = openedNow(t.clock, twoRegions, (port) => ({
        ...twoPages(port),
        irq: (line) => of<IrqHandle>({
          line,
          readNow: () => of(undefined),
          mask: () => of(undefined),
          unmask: () => of(undefined),
          trigger: () => of(undefined),
          next: () => t.cold('---s').pipe(map(() => ({ line, count: 1n, atNs: t.clock.nowNs() }))),
          ack: (count) => { acks.next(`${line.index}:${count}`); return of(undefined); },
          close: () => of(undefined),
        }),
      }));
      t.expect(remapIrq(device).pipe(endBatches(t, 1), told), '^------------!').toBe('rp---s---q', { ...names, p: 'registered 0 of page 1', q: 'signal 1 of page 1' });
      t.expect(acks).toBe('------a---b', { a: '5:1', b: '2:1' });
    });
  });
});

describe('one pipeline', () => {
  it('serves a device: a second one is refused and changes nothing for the first', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.at('---r', { r: () => driver.revoke(0) });
      t.expect(remapIrq(device).pipe(endBatches(t), told)).toBe('r--s', names);
      t.expect(remapIrq(device), '-^').toBe('-#', undefined, { code: 'VFIO_E_BUSY', operation: 'remap' });
    });
  });

  it('RR-9: registers anew for each subscription: numbers and sums begin again', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.at('-r---s', { r: () => driver.revoke(0), s: () => driver.restore(0) });
      const numbered$ = remapIrq(device).pipe(endBatches(t), map(({ batch }) => batch));
      t.expect(numbered$, '^--!').toBe('<0>1', { 0: 0, 1: 1 });
      t.expect(numbered$, '----^').toBe('----01', { 0: 0, 1: 1 });
      t.atEnd(() => expect(driver.sent).toBe(1n));
    });
  });

  it('releases its registration on unsubscribe', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.expect(remapIrq(device).pipe(endBatches(t), told), '^-!').toBe('r', names);
      t.at('-a--z', { a: () => expect(driver.irqs).toBeGreaterThan(0), z: () => expect([driver.irqs, device.remapSession]).toEqual([0, undefined]) });
    });
  });

  it('releases its registration in mid-batch as well, and the driver\'s wait is freed', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.expect(remapIrq(device).pipe(endBatches(t, 3), told), '^------!').toBe('r----s', names);
      t.expect(transition(device, 'pre-copy'), '-----^').toBe('-------#', undefined, { code: 'VFIO_E_CANCELED' });
      t.atEnd(() => expect([driver.irqs, driver.waiters]).toEqual([0, 0]));
    });
  });

  it('completes when the device is closed', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      t.at('--c', { c: () => void device.close() });
      t.expect(remapIrq(device).pipe(endBatches(t), told)).toBe('r-|', names);
      t.expect(remapIrq(device), '---^').toBe('---#', undefined, { code: 'VFIO_E_CLOSED' });
      t.expectDevice(device).toBeReleased();
    });
  });

  it('fails when the device is closed during a batch', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.at('--c', { c: () => void device.close() });
      t.expect(remapIrq(device).pipe(endBatches(t, 4), told)).toBe('r-#', names, { code: 'VFIO_E_CLOSED', operation: 'remapIrq' });
      t.expectDevice(device).toBeReleased();
      t.atEnd(() => expect(driver.irqs).toBe(0));
    });
  });

  it('fails where waiting for the signal fails, and releases', () => {
    marbles((t) => {
      const gone = errnoError('ENODEV', 'read eventfd');
      const { device, driver } = openedNow(t.clock, twoRegions, (port) => ({
        irq: (line, options) => port.irq(line, options).pipe(map((handle) => alteredIrq(handle, { next: () => timer(0.002, t.clock.scheduler).pipe(map(() => { throw gone; })) }))),
      }));
      t.expect(remapIrq(device).pipe(endBatches(t), told)).toBe('r-#', names, gone);
      t.atEnd(() => expect(driver.irqs).toBe(0));
    });
  });
});

describe('one batch at a time', () => {
  it('what the driver adds during a batch waits in the eventfd, and is one sum', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.at('-----rsrs', { r: () => driver.revoke(0), s: () => driver.restore(0) });
      t.expect(remapIrq(device).pipe(endBatches(t, 4), told)).toBe('r----s---x', { ...names, x: 'signal 3' });
    });
  });

  it('what was not acked is in the next sum', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.at('-----r-s', { r: () => driver.revoke(0), s: () => driver.restore(0) });
      t.expect(remapIrq(device).pipe(endedOnly, told)).toBe('r----s-t', names);
      t.atEnd(() => expect(driver.acked).toBe(0n));
    });
  });

  it('RR-14: an ack never says more than was read', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.at('-----r', { r: () => driver.revoke(0) });
      const answers: string[] = [];
      const greedy = tap(({ because, channel }: RemapSignal) => {
        if (because !== 'signal') return;
        for (const sum of [2n, 1n, 1n]) channel.ack(sum).subscribe({ next: () => answers.push('acked'), error: (error: unknown) => answers.push(VfioError.is(error) ? error.code : 'another') });
      });
      t.expect(remapIrq(device).pipe(greedy, endedOnly, told)).toBe('r----s', names);
      t.atEnd(() => {
        expect(answers).toEqual(['VFIO_E_RANGE', 'acked', 'VFIO_E_RANGE']);
        expect({ acked: driver.acked, violations: driver.violations }).toEqual({ acked: 1n, violations: 0 });
      });
    });
  });

  it('a saturated count is named: anything may have changed', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions, (port) => ({
        irq: (line, options) => port.irq(line, options).pipe(map((handle) => alteredIrq(handle, { next: () => t.cold('--s').pipe(map(() => ({ line, count: 2n ** 64n - 2n, atNs: t.clock.nowNs() }))) }))),
      }));
      t.expect(remapIrq(device).pipe(endBatches(t), map(({ because }) => because)), '^--!').toBe('r-s', { r: 'registered', s: 'saturated' });
    });
  });

  it('has a deadline: a second more than the driver\'s own ack timeout, or what the caller says', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, { ...twoRegions, remap: { ackTimeoutMs: 7 } });
      t.expect(remapIrq(device).pipe(told)).toBe('r 1006999us #', names, { code: 'VFIO_E_BATCH_DEADLINE' });
      t.expect(remapIrq(device, { batchDeadlineMs: 1 }).pipe(told), '2s ^').toBe('2s r 999us #', names, { code: 'VFIO_E_BATCH_DEADLINE' });
    });
  });

  it('an end that comes late or twice ends nothing', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.at('--r--s', { r: () => driver.revoke(0), s: () => driver.restore(0) });
      const twice$ = remapIrq(device, { batchDeadlineMs: 1 }).pipe(map((signal) => {
        if (signal.batch !== 1) signal.channel.end(signal.batch);
        signal.channel.end(0);
        signal.channel.end(7);
        return `${signal.batch}`;
      }));
      t.expect(twice$).toBe('<0>-<1> 999us #', undefined, { code: 'VFIO_E_BATCH_DEADLINE' });
    });
  });
});

describe('full batches that a transition asks for', () => {
  it('come at once when the pipeline is idle, also before any signal', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      t.expect(remapIrq(device).pipe(endBatches(t), told)).toBe('r-a-a', names);
      t.expect(transition(device, 'running-p2p').pipe(map(({ to }) => to)), '--^').toBe('--<running-p2p,|>');
      t.expect(transition(device, 'running').pipe(map(({ to }) => to)), '----^').toBe('----<running,|>');
    });
  });

  it('wait for the batch in flight, and whoever asked waits for theirs', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      t.expect(remapIrq(device).pipe(endBatches(t, 3), told)).toBe('r--a', names);
      t.expect(transition(device, 'running-p2p').pipe(map(({ to }) => to)), '-^').toBe('------<running-p2p,|>');
    });
  });

  it('fail their transition when the pipeline goes before them', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      t.expect(remapIrq(device).pipe(endBatches(t, 3), told), '^----!').toBe('r--a', names);
      t.expect(transition(device, 'running-p2p').pipe(map(({ to }) => to)), '-^').toBe('-----#', undefined, { code: 'VFIO_E_CANCELED' });
    });
  });
});
