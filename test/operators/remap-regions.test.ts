import { concatMap, delay, EMPTY, filter, ignoreElements, map, mergeMap, NEVER, of, throwError, timer } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { AppliedRemap, Remap } from '../../src/devices/remap-batch.js';
import { acknowledge } from '../../src/operators/acknowledge.js';
import { applyRemap } from '../../src/operators/apply-remap.js';
import { decodeRegionBitmap } from '../../src/operators/decode-region-bitmap.js';
import { diffRegions } from '../../src/operators/diff-regions.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { requeryRegions } from '../../src/operators/requery-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition } from '../../src/streams/transition.js';
import { marbles } from '../../src/testing/index.js';
import { now, openedNow, twoRegions, whole } from '../support/devices.js';

const because = map(({ because: why, sumRead }: Remap) => `${why} ${sumRead}`);
const events = (trace: readonly { readonly event: string }[]): readonly string[] => trace.map(({ event }) => event);

describe('remapRegions', () => {
  it('is its diagram', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.at('                  ------r--------s----', { r: () => driver.revoke(0), s: () => driver.restore(0) });
      const remap$ = remapIrq(device).pipe(remapRegions(device), because);
      t.expectDevice(device).toShow({
        signal: '               ------1--------1----',
        query: '                (0101)(01)-----(01)-',
        unmap: '                ------0-------------',
        map: '                  (01)-----------0----',
        ack: '                  ------1--------1----' });
      t.expect(remap$).toBe('   r-----s--------t----', { r: 'registered 0', s: 'signal 1', t: 'signal 1' });
      t.atEnd(() => expect(driver.violationList).toEqual([]));
    });
  });

  it('acks after the unmap and the unmap after the query, as the driver saw it', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.expect(remapIrq(device).pipe(remapRegions(device), ignoreElements())).toBe('');
      t.expect(transition(device, 'pre-copy').pipe(map(({ to }) => to)), '-^').toBe('-<pre-copy,|>');
      t.atEnd(() => {
        const from = events(driver.trace).indexOf('layout');
        expect(events(driver.trace).slice(from)).toEqual([
          'layout', 'layout', 'signal', 'wait', 'query', 'query', 'munmap', 'munmap', 'ack', 'release', 'state', 'query', 'query',
        ]);
        expect(driver.violationList).toEqual([]);
        expect([driver.sent, driver.acked, driver.vmas]).toEqual([1n, 1n, 0]);
      });
    });
  });

  it('acks what one read had, however many signals that were', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.at('-x', { x: () => { driver.revoke(0); driver.revoke(1); driver.restore(0); } });
      t.expect(remapIrq(device).pipe(remapRegions(device), because)).toBe('rs', { r: 'registered 0', s: 'signal 3' });
      t.expectDevice(device).toShow({ ack: '-3', unmap: '-1' });
    });
  });

  it('acks a batch that changed nothing', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.at('-x', { x: () => { driver.revoke(0); driver.restore(0); } });
      t.expect(remapIrq(device).pipe(remapRegions(device), because)).toBe('rs', { r: 'registered 0', s: 'signal 2' });
      t.expectDevice(device).toShow({ ack: '-2', unmap: '' });
    });
  });
});

describe('a query that fails', () => {
  it('is asked again, and the driver is served', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.at('-f', { f: () => driver.faults.failQuery(0, 'EIO', 1) });
      t.expect(remapIrq(device).pipe(remapRegions(device), because)).toBe('r- 1ms <s,a>', { r: 'registered 0', s: 'signal 1', a: 'after-transition 0' });
      t.expect(transition(device, 'pre-copy').pipe(map(({ to }) => to)), '--^').toBe('-- 1ms <pre-copy,|>');
    });
  });

  it('for ever is a typed error with region and errno: no ack, the irq disabled, the driver\'s wait freed', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.at('-f', { f: () => driver.faults.failQuery(0, 'EIO', 1_000) });
      t.expect(remapIrq(device).pipe(remapRegions(device), because)).toBe('r- 2ms #', { r: 'registered 0' }, { code: 'VFIO_E_IO', errno: 'EIO', operation: 'VFIO_DEVICE_GET_REGION_INFO(0)', device: 'software0' });
      t.expect(transition(device, 'pre-copy'), '--^').toBe('-- 2ms #', undefined, { code: 'VFIO_E_CANCELED', errno: 'ECANCELED' });
      t.expectDevice(device).toShow({ ack: '' });
      t.atEnd(() => expect([driver.irqs, driver.waiters, driver.acked, driver.state]).toEqual([0, 0, 0n, 'running']));
    });
  });
});

describe('a holder', () => {
  it('that takes its time within the budget holds up the ack, not the loop', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.at('-h', { h: () => { now(device.region(0).hold([whole], { name: 'h', release: () => timer(3, t.clock.scheduler), regain: () => EMPTY })); } });
      t.expect(remapIrq(device).pipe(remapRegions(device), ignoreElements())).toBe('');
      t.expect(transition(device, 'pre-copy').pipe(map(({ to }) => to)), '--^').toBe('-- 3ms <pre-copy,|>');
      t.expectDevice(device).toShow({ unmap: '--1 2999us 0', ack: '-- 3ms 1' });
      t.atEnd(() => expect(driver.violationList).toEqual([]));
    });
  });

  it('that is too late is fatal: no ack, the irq disabled, the write canceled', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.at('-h', { h: () => { now(device.region(0).hold([whole], { name: 'stuck', release: () => NEVER, regain: () => EMPTY })); } });
      t.expect(remapIrq(device).pipe(remapRegions(device, { holderBudgetMs: 2 }), ignoreElements())).toBe('-- 2ms #', undefined, { code: 'VFIO_E_HOLDER', operation: 'holder stuck release' });
      t.expect(transition(device, 'pre-copy'), '--^').toBe('-- 2ms #', undefined, { code: 'VFIO_E_CANCELED' });
      t.expectDevice(device).toShow({ unmap: '--1', ack: '' });
      t.atEnd(() => expect([driver.irqs, driver.waiters, driver.vmas]).toEqual([0, 0, 1]));
    });
  });
});

describe('a map that fails', () => {
  it('is reported and does not hold up the ack; the next batch tries again', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.at('-r--f-s--t', { r: () => driver.revoke(0), f: () => driver.faults.failMap(0, 'ENOMEM'), s: () => driver.restore(0), t: () => driver.revoke(1) });
      const remap$ = remapIrq(device).pipe(remapRegions(device), map(({ notMapped }) => notMapped.map(({ index }) => index).join() || 'all'));
      t.expect(remap$).toBe('aa----b--a', { a: 'all', b: '0' });
      t.expectDevice(device).toShow({ ack: '-1----1--1', map: '<0,1>--------0' });
    });
  });
});

describe('the time that serving took', () => {
  it('is from the read to the ack, and the headroom is less than nothing where the driver had given up', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...twoRegions, remap: { ackTimeoutMs: 2 } });
      const late = (applied: AppliedRemap) => of(applied).pipe(delay(3, t.clock.scheduler));
      const remap$ = remapIrq(device, { batchDeadlineMs: 50 }).pipe(
        decodeRegionBitmap(), requeryRegions(device), diffRegions(device), applyRemap(device),
        concatMap((applied) => (applied.because === 'signal' ? late(applied) : of(applied))),
        acknowledge(device), filter(({ acked }) => acked), map(({ servedNs, headroomNs }) => ({ servedNs, headroomNs })),
      );
      t.at('-r', { r: () => driver.revoke(0) });
      t.expect(remap$).toBe('- 3ms x', { x: { servedNs: 3_000_000n, headroomNs: -1_000_000n } });
    });
  });
});

describe('an operator of the user\'s own', () => {
  const steps = ['decode', 'requery', 'diff', 'apply'] as const;
  for (const after of steps) {
    it(`behind ${after} may take its time`, () => {
      marbles((t) => {
        const { device, driver } = openedNow(t.clock, twoRegions);
        const slow = <T>(step: (typeof steps)[number]) => concatMap((value: T) => (step === after ? of(value).pipe(delay(2, t.clock.scheduler)) : of(value)));
        const remap$ = remapIrq(device).pipe(decodeRegionBitmap(), slow('decode'), requeryRegions(device), slow('requery'), diffRegions(device), slow('diff'), applyRemap(device), slow('apply'), acknowledge(device), because);
        t.expect(remap$).toBe('2ms r 2999us s 1999us a', { r: 'registered 0', s: 'signal 1', a: 'after-transition 0' });
        t.expect(transition(device, 'pre-copy').pipe(map(({ to }) => to)), '3ms ^').toBe('7ms <pre-copy,|>');
        t.atEnd(() => expect([driver.violations, driver.waiters, driver.vmas]).toEqual([0, 0, 0]));
      });
    });

    it(`behind ${after} that swallows a batch is found by the deadline: the irq is disabled and the driver freed`, () => {
      marbles((t) => {
        const { device, driver } = openedNow(t.clock, { ...twoRegions, remap: { ackTimeoutMs: 20 } });
        const picky = <T extends { readonly because: string }>(step: (typeof steps)[number]) => filter((value: T) => step !== after || value.because !== 'signal');
        const remap$ = remapIrq(device, { batchDeadlineMs: 10 }).pipe(decodeRegionBitmap(), picky('decode'), requeryRegions(device), picky('requery'), diffRegions(device), picky('diff'), applyRemap(device), picky('apply'), acknowledge(device), because);
        t.expect(remap$).toBe('r- 10ms #', { r: 'registered 0' }, expect.objectContaining({ code: 'VFIO_E_BATCH_DEADLINE', operation: 'remapIrq', message: expect.stringContaining('batch 1 (signal) was not ended within 10 ms') as string }));
        t.expect(transition(device, 'pre-copy'), '--^').toBe('-- 10ms #', undefined, { code: 'VFIO_E_CANCELED' });
        t.expectDevice(device).toShow({ ack: '' });
        t.atEnd(() => expect([driver.irqs, driver.waiters, driver.acked]).toEqual([0, 0, 0n]));
      });
    });

    it(`behind ${after} that throws ends the pipeline with its error, and frees the driver`, () => {
      marbles((t) => {
        const { device, driver } = openedNow(t.clock, twoRegions);
        const bug = new Error('a bug of the user');
        const throwing = <T extends { readonly because: string }>(step: (typeof steps)[number]) => mergeMap((value: T) => (step === after && value.because === 'signal' ? throwError(() => bug) : of(value)));
        const remap$ = remapIrq(device).pipe(decodeRegionBitmap(), throwing('decode'), requeryRegions(device), throwing('requery'), diffRegions(device), throwing('diff'), applyRemap(device), throwing('apply'), acknowledge(device), because);
        t.expect(remap$).toBe('r-#', { r: 'registered 0' }, bug);
        t.expect(transition(device, 'pre-copy'), '--^').toBe('--#', undefined, { code: 'VFIO_E_CANCELED' });
        t.expectDevice(device).toShow({ ack: '' });
        t.atEnd(() => expect([driver.irqs, driver.waiters]).toEqual([0, 0]));
      });
    });
  }
});
