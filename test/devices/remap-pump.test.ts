import { concat, concatMap, defer, delay, EMPTY, ignoreElements, map, of, tap, throwError, type MonoTypeOperatorFunction, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { RemapWishes } from '../../src/devices/protocol/negotiation.js';
import type { AppliedRemap, Remap, RemapSignal } from '../../src/devices/remap-batch.js';
import type { SoftwareDeviceOptions } from '../../src/devices/software/options.js';
import type { SoftwareRemap } from '../../src/devices/software/remap-shape.js';
import type { SoftEventfd } from '../../src/devices/software/eventfd.js';
import { SoftwareIrqHandle } from '../../src/devices/software/irq-handle.js';
import { errnoError } from '../../src/errors.js';
import { acknowledge } from '../../src/operators/acknowledge.js';
import { applyRemap } from '../../src/operators/apply-remap.js';
import { decodeRegionBitmap } from '../../src/operators/decode-region-bitmap.js';
import { diffRegions } from '../../src/operators/diff-regions.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { requeryRegions } from '../../src/operators/requery-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition, type Arc } from '../../src/streams/transition.js';
import { marbles, type MarbleTest } from '../../src/testing/index.js';
import { alteredIrq, openedNow, twoRegions, type Alter } from '../support/devices.js';

/** `signal 3`, `signal 1? -`: a sum of 3 that was acked; a doubtful 1 that was not. */
const told = map(({ because, sumRead, doubtful, acked }: Remap) => `${because} ${sumRead}${doubtful ? '?' : ''}${acked || sumRead === 0n ? '' : ' -'}`);
const reached = map(({ to }: Arc) => to);
const rfc: SoftwareDeviceOptions = { ...twoRegions, remap: { profile: 'rfc-v4' } };

/** Batches of signals take so many frames before they are looked at. */
const slow = (t: MarbleTest, frames: number): MonoTypeOperatorFunction<RemapSignal> =>
  concatMap((signal) => (signal.because === 'signal' ? of(signal).pipe(delay(frames / 1000, t.clock.scheduler)) : of(signal)));

const rows: readonly (readonly [name: string, remap: SoftwareRemap, wishes: RemapWishes, batches: string])[] = [
  ['rfc-v4, write-zero', { profile: 'rfc-v4' }, {}, 'registered 0, signal 3, after-transition 0, signal 3, after-transition 0'],
  ['rfc-v4, write-one', { profile: 'rfc-v4' }, { rfcAck: 'write-one' }, 'registered 0, signal 3, signal 1? -, after-transition 0, signal 3, signal 1? -, after-transition 0'],
  ['region-remap, doorbell, value', {}, {}, 'registered 0, signal 1, after-transition 0, signal 1, after-transition 0'],
  ['region-remap, doorbell, none', { ack: 'none' }, {}, 'registered 0, signal 1 -, after-transition 0, signal 1 -, after-transition 0'],
  ['region-remap, bitmap, value', { signals: 'bitmap' }, {}, 'registered 0, signal 3, after-transition 0, signal 3, after-transition 0'],
  ['region-remap, bitmap, none', { signals: 'bitmap', ack: 'none' }, {}, 'registered 0, signal 3 -, after-transition 0, signal 3 -, after-transition 0'],
];

describe('every row that has an irq', () => {
  for (const [name, remap, wishes, batches] of rows) {
    it(`${name}: serves what a write of device_state waits for, and the way back`, () => {
      marbles((t) => {
        const { device, driver } = openedNow(t.clock, { ...twoRegions, remap });
        const seen: string[] = [];
        t.expect(remapIrq(device, wishes).pipe(remapRegions(device), told, tap((batch) => seen.push(batch)), ignoreElements())).toBe('');
        t.expect(transition(device, 'pre-copy').pipe(reached), '-^').toBe('-<pre-copy,|>');
        t.at('--x', { x: () => expect([driver.vmas, driver.waiters, driver.state]).toEqual([0, 0, 'pre-copy']) });
        t.expect(transition(device, 'running').pipe(reached), '---^').toBe('---<running,|>');
        t.atEnd(() => expect([seen.join(', '), driver.vmas, driver.violationList]).toEqual([batches, 2, []]));
      });
    });
  }
});

describe('what is fatal', () => {
  for (const [name, remap, wishes] of rows) {
    it(`${name}: an area that cannot be unmapped is not acked; the irq is disabled at once, and the write has its answer`, () => {
      marbles((t) => {
        const stuck = errnoError('EIO', 'munmap region 0', 'software0');
        const { device, driver } = openedNow(t.clock, { ...twoRegions, remap }, () => ({ unmap: () => throwError(() => stuck) }));
        t.expect(remapIrq(device, wishes).pipe(remapRegions(device), ignoreElements())).toBe('-#', undefined, stuck);
        t.expect(transition(device, 'pre-copy'), '-^').toBe('-#', undefined, { code: 'VFIO_E_CANCELED', errno: 'ECANCELED' });
        t.expectDevice(device).toShow({ ack: '' });
        t.atEnd(() => expect([driver.irqs, driver.waiters, driver.state, driver.vmas]).toEqual([0, 0, 'running', 2]));
      });
    });
  }
});

describe('pages', () => {
  const pages: SoftwareDeviceOptions = {
    regions: [0, 1, 64, 70].map((index) => ({ index, size: 0x1000, areas: 'all', savingAreas: [] })),
    remap: { signals: 'bitmap', regions: (1n << 0n) | (1n << 1n) | (1n << 64n) | (1n << 70n) },
    mailbox: false,
  };

  it('are served each by its own irq, and a write waits for both', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, pages);
      const ofPage = map(({ channel, sumRead, candidates }: Remap) => `${channel.page}:${sumRead}:${[...candidates].join('+')}`);
      const seen: string[] = [];
      t.expect(remapIrq(device).pipe(remapRegions(device), ofPage, tap((batch) => seen.push(batch)), ignoreElements())).toBe('');
      t.at('-r', { r: () => driver.revoke(64) });
      t.at('--s', { s: () => driver.restore(64) });
      t.expect(transition(device, 'pre-copy').pipe(reached), '---^').toBe('---<pre-copy,|>');
      t.atEnd(() => {
        expect(seen.slice(0, 4)).toEqual(['0:0:0+1', '1:0:64+70', '1:1:64', '1:1:64']);
        expect([...seen.slice(4)].sort()).toEqual(['0:0:0+1', '0:3:0+1', '1:0:64+70', '1:65:64+70']);
        expect([driver.vmas, driver.violationList]).toEqual([0, []]);
      });
    });
  });

  it('of a device that is closed are both given back', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, pages);
      t.expect(remapIrq(device).pipe(remapRegions(device), ignoreElements())).toBe('---|');
      t.at('--xc', { x: () => expect(driver.irqs).toBe(4), c: () => void device.close() });
      t.expectDevice(device).toBeReleased();
    });
  });
});

describe('the idle rule of rfc-v4', () => {
  it('lets a write begin when the batch in flight has ended', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, rfc);
      t.at('          --r', { r: () => driver.revoke(0) });
      t.expect(remapIrq(device).pipe(slow(t, 5), remapRegions(device), told)).toBe('r------s----<t,a>', { r: 'registered 0', s: 'signal 1', t: 'signal 2', a: 'after-transition 0' });
      t.expect(transition(device, 'pre-copy').pipe(map(({ atNs, tookNs }) => `${atNs} ${tookNs}`)), '---^').toBe('------------<7000 5000,|>');
      t.expectDevice(device).toShow({ state: '-------[p----]' });
      t.atEnd(() => expect(driver.violationList).toEqual([]));
    });
  });

  it('RR-53: makes a batch of what rests in the eventfd first', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, rfc);
      t.expect(remapIrq(device).pipe(remapRegions(device), told)).toBe('r-<s,t,a>', { r: 'registered 0', s: 'signal 1', t: 'signal 2', a: 'after-transition 0' });
      t.at('--r', {
        r: () => {
          driver.revoke(0);
          // The signal rests, and the pipeline has not been told of it yet.
          transition(device, 'pre-copy').subscribe({ error: (error: unknown) => { throw error; } });
        },
      });
      t.atEnd(() => expect([driver.state, driver.violationList]).toEqual(['pre-copy', []]));
    });
  });

  it('RR-53: without it a driver as posted takes the ack of an older batch for its own: an area is revoked and still mapped', () => {
    const corrupted = (options: SoftwareDeviceOptions, write: 'by the rule' | 'at once'): readonly string[] => {
      let kinds: readonly string[] = [];
      marbles((t) => {
        const { device, driver } = openedNow(t.clock, options);
        driver.faults.takeAnyAck = true;
        const lateAck = concatMap((applied: AppliedRemap) => (applied.batch === 1 ? of(applied).pipe(delay(0.005, t.clock.scheduler)) : of(applied)));
        t.expect(remapIrq(device).pipe(decodeRegionBitmap(), requeryRegions(device), diffRegions(device), applyRemap(device), lateAck, acknowledge(device), ignoreElements())).toBe('');
        t.at('--r--w', {
          r: () => driver.revoke(1),
          w: () => {
            const writing: Observable<unknown> = write === 'at once' ? device.port.setState('pre-copy') : transition(device, 'pre-copy');
            writing.subscribe({ error: (error: unknown) => { throw error; } });
          },
        });
        t.atEnd(() => { kinds = driver.violationList.map(({ kind }) => kind); });
      });
      return kinds;
    };
    expect(corrupted(rfc, 'at once')).toContain('acked-while-mapped');
    expect(corrupted(rfc, 'by the rule')).toEqual([]);
  });

  it('does not begin a write whose deadline passes while the pipeline is busy', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, rfc);
      t.at('--r', { r: () => driver.revoke(0) });
      t.expect(remapIrq(device).pipe(slow(t, 9), remapRegions(device), told)).toBe('r----------s---a', { r: 'registered 0', s: 'signal 1', a: 'after-transition 0' });
      t.expect(transition(device, 'pre-copy', { deadlineMs: 0.004 }), '---^').toBe('-------#', undefined, expect.objectContaining({ code: 'VFIO_E_DEADLINE', message: expect.stringContaining('the write was not begun') as string }));
      t.expect(transition(device, 'running-p2p').pipe(reached), '15us ^').toBe('15us <running-p2p,|>');
      t.expectDevice(device).toShow({ state: '15us <[R,]>' });
    });
  });

  it('is over when the pipeline ends: the driver says whether it will', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, rfc);
      t.at('--r', { r: () => driver.revoke(0) });
      t.expect(remapIrq(device).pipe(slow(t, 9), remapRegions(device), told), '^----!').toBe('r', { r: 'registered 0' });
      t.expect(transition(device, 'pre-copy'), '---^').toBe('-----#', undefined, { code: 'VFIO_E_REFUSED', errno: 'ENODEV' });
    });
  });

  it.each(['region-remap', 'rfc-v4'] as const)('of %s: a write waits for a pipeline that is still registering, as over a socket, and is not refused', (profile) => {
    marbles((t) => {
      const slowly: Alter = (port) => ({ irq: (line, options) => of(0).pipe(delay(0.005, t.clock.scheduler), concatMap(() => port.irq(line, options))) });
      const { device, driver } = openedNow(t.clock, { ...twoRegions, remap: { profile } }, slowly);
      remapIrq(device).pipe(remapRegions(device)).subscribe({ error: () => expect.unreachable() });
      t.expect(transition(device, 'pre-copy').pipe(map(({ to }) => to)), '-^').toBe('-----(a|)', { a: 'pre-copy' });
      t.atEnd(() => expect(driver.violationList).toEqual([]));
    });
  });

  it('is that profile\'s alone: a write of region-remap begins in mid-batch', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.at('--r', { r: () => driver.revoke(0) });
      t.expect(remapIrq(device).pipe(slow(t, 5), remapRegions(device), ignoreElements())).toBe('');
      t.expect(transition(device, 'pre-copy').pipe(reached), '---^').toBe('------------<pre-copy,|>');
      t.expectDevice(device).toShow({ state: '---[p--------]' });
    });
  });
});

describe('an echo', () => {
  it('that hides a signal is found by what it changed, and acked', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, rfc, (port) => ({
        irq: (line, options) => port.irq(line, options).pipe(map((handle) => alteredIrq(handle, { readNow: () => { restoreOnce(); return handle.readNow(); } }))),
      }));
      driver.faults.drain = 'at-ack';
      // The driver takes the echo out, and signals once before the user has looked.
      let restored = false;
      const restoreOnce = (): void => {
        if (!restored) driver.restore(0);
        restored = true;
      };
      t.at('--r', { r: () => driver.revoke(0) });
      t.expect(remapIrq(device, { rfcAck: 'write-one' }).pipe(remapRegions(device), told)).toBe('r-<s,d>', { r: 'registered 0', s: 'signal 1', d: 'signal 1?' });
      t.atEnd(() => expect(driver.vmas).toBe(2));
    });
  });
});

describe('an ack that does not fit', () => {
  it('reads the count, and the batch begins again with every declared region', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, rfc, (port) => ({
        irq: (line, options) => port.irq(line, options).pipe(tap((handle) => { if (handle instanceof SoftwareIrqHandle) trigger = handle.triggerFd; })),
      }));
      let trigger: SoftEventfd | undefined;
      const fill = tap(({ because, batch }: RemapSignal) => { if (because === 'signal' && batch === 1) trigger?.add(2n ** 64n - 1n); });
      t.at('--r', { r: () => driver.revoke(0) });
      t.expect(remapIrq(device, { rfcAck: 'write-one' }).pipe(fill, remapRegions(device), told)).toBe('r-<s,t,d>', { r: 'registered 0', s: 'signal 1 -', t: `saturated ${2n ** 64n}`, d: 'signal 1? -' });
    });
  });
});

describe('what is not acked', () => {
  it('is taken along by the next full batch', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      const unacked = concatMap((signal: RemapSignal) => (signal.because === 'signal' ? concat(EMPTY, defer(() => { signal.channel.end(signal.batch); return EMPTY; })) : of(signal)));
      t.at('--r', { r: () => driver.revoke(0) });
      t.expect(remapIrq(device).pipe(unacked, remapRegions(device), told)).toBe('r---a', { r: 'registered 0', a: 'after-transition 1' });
      t.expect(transition(device, 'running-p2p').pipe(reached), '----^').toBe('----<running-p2p,|>');
      t.atEnd(() => expect([driver.sent, driver.acked, driver.vmas]).toEqual([1n, 1n, 1]));
    });
  });
});

describe('a deadline that passes while the write is outstanding', () => {
  it('has every region looked at once more: a driver that lost its own signals costs no more than that', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...twoRegions, remap: { ackTimeoutMs: 20 } });
      driver.faults.drain = 'always';
      t.expect(remapIrq(device).pipe(remapRegions(device), map(({ because, diffs }) => `${because} ${diffs.filter(({ revoked }) => revoked.length > 0).length}`)))
        .toBe('r 4999us d 15999us a', { r: 'registered 0', d: 'after-deadline 2', a: 'after-transition 0' });
      t.expect(transition(device, 'pre-copy', { deadlineMs: 4 }), '1ms ^').toBe('5ms #', undefined, { code: 'VFIO_E_DEADLINE' });
    });
  });

  it('in rfc-v4 disables the irq, which ends the wait of a driver that has no bound', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...twoRegions, remap: { profile: 'rfc-v4', ackTimeoutMs: Infinity } });
      driver.faults.ignoreAcks = true;
      t.expect(remapIrq(device).pipe(remapRegions(device), ignoreElements())).toBe('1s #', undefined, { code: 'VFIO_E_DEADLINE', operation: 'remapIrq' });
      t.expect(transition(device, 'pre-copy', { deadlineMs: 999 }), '1ms ^').toBe('1s #', undefined, { code: 'VFIO_E_DEADLINE', operation: 'device_state pre-copy' });
      t.atEnd(() => expect([driver.irqs, driver.waiters, driver.state, device.currentState.going]).toEqual([0, 0, 'running', undefined]));
    });
  });
});
