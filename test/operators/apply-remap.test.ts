import { concat, defer, EMPTY, finalize, ignoreElements, map, NEVER, Subject, throwError, timer, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { disregard } from '../../src/devices/call.js';
import type { VfioDevice } from '../../src/devices/device.js';
import type { Holder } from '../../src/devices/holders.js';
import type { AppliedRemap } from '../../src/devices/remap-batch.js';
import { errnoError, type VfioError } from '../../src/errors.js';
import { applyRemap } from '../../src/operators/apply-remap.js';
import { marbles, type MarbleTest } from '../../src/testing/index.js';
import { planOf, testChannel } from '../support/batches.js';
import { now, openedNow, secondPage, twoRegions, whole } from '../support/devices.js';

const failed = map(({ notMapped }: AppliedRemap) => notMapped.map(({ index }) => index).join() || 'all');

/** Plans made when their frame comes, from what is mapped and offered then. */
function plans(t: MarbleTest, device: VfioDevice, marble: string, declared = [0, 1]): Observable<ReturnType<typeof planOf>> {
  const channel = testChannel({ declared: new Set(declared) });
  return t.cold(marble).pipe(map(() => planOf(device, channel)));
}

describe('applyRemap', () => {
  it('is its diagram', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      now(device.mapRegion(0));
      const said = new Subject<string>();
      const holder: Holder = {
        name: 'worker',
        release: () => concat(defer(() => { said.next('a'); return t.cold('----|'); }), defer(() => { said.next('l'); return EMPTY; })),
        regain: () => { said.next('g'); return EMPTY; },
      };
      now(device.region(0).hold([whole], holder));
      t.at('                               -r---------s------', { r: () => driver.revoke(0), s: () => driver.restore(0) });
      const plan = plans(t, device, '      --d---------e-----', [0]);
      t.expect(said).toBe('                --a---l-----g-----');
      t.expectDevice(device).toShow({
        map: '                            0-----------0-----',
        unmap: '                          ------0-----------' });
      t.expect(plan.pipe(applyRemap(device), failed)).toBe('------a-----b-----', { a: 'all', b: 'all' });
    });
  });

  it('traps the accessors before it asks the holders, and gives them the new mapping after the last area is mapped', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions, (port) => ({
        accessNow: (request) => { trapped.push(`${t.clock.nowNs() / 1000n}`); return port.accessNow(request); },
      }));
      const trapped: string[] = [];
      const region = device.region(0);
      now(device.mapRegion(0));
      now(region.hold([whole], { name: 'slow', release: () => t.cold('----|'), regain: () => EMPTY }));
      driver.revoke(0);
      t.at('-r-r-r-r-r', { r: () => region.read32(0) });
      t.at('-----s', { s: () => undefined });
      t.at('-------s', { s: () => driver.restore(0) });
      t.expect(plans(t, device, '--d-----e', [0]).pipe(applyRemap(device), failed)).toBe('------a-b', { a: 'all', b: 'all' });
      t.atEnd(() => expect(trapped).toEqual(['3', '5', '7']));
    });
  });

  it('goes on while holders take back what they were given, and stops that when the next batch begins', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      const said = new Subject<string>();
      const holder = (name: string): Holder => ({
        name,
        release: () => { said.next('a'); return EMPTY; },
        regain: () => defer(() => { said.next('g'); return NEVER; }).pipe(finalize(() => said.next('x'))),
      });
      for (const index of [0, 1]) disregard(device.region(index).hold([whole], holder(`slow ${index}`)));
      t.at('                   -----r', { r: () => driver.revoke(0) });
      t.expect(said).toBe('  --<g,g>---<x,x,a>');
      t.expect(plans(t, device, '--d---e').pipe(applyRemap(device), failed)).toBe('--a---b', { a: 'all', b: 'all' });
    });
  });

  it('takes away everything before it adds anything: an area may move from one region to another', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      now(device.mapRegion(1));
      driver.revoke(1);
      const order: string[] = [];
      const unmap = device.port.unmap.bind(device.port);
      const mapPort = device.port.map.bind(device.port);
      Object.assign(device.port, {
        unmap: (...args: Parameters<typeof unmap>) => defer(() => { order.push(`u${args[0].region}`); return unmap(...args); }),
        map: (...args: Parameters<typeof mapPort>) => defer(() => { order.push(`m${args[0]}`); return mapPort(...args); }),
      });
      t.expect(plans(t, device, '-d').pipe(applyRemap(device), failed)).toBe('-a', { a: 'all' });
      t.atEnd(() => expect(order).toEqual(['u1', 'm0']));
    });
  });

  it('unmaps a part and keeps the rest in use', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      now(device.mapRegion(0));
      const plan = planOf(device, testChannel({ declared: new Set([0]) }));
      const current = new Map([...plan.current].map(([index, info]) => [index, { ...info, areas: [secondPage] }]));
      const narrowed = { ...plan, current, diffs: plan.diffs.map((diff) => ({ ...diff, kept: [secondPage], revoked: [{ offset: 0, size: 0x1000 }] })) };
      t.expect(t.cold('-d', { d: narrowed }).pipe(applyRemap(device), failed)).toBe('-a', { a: 'all' });
      t.atEnd(() => {
        expect(device.region(0).mapped.areas).toEqual([secondPage]);
        expect(now(device.layouts).get(0)?.areas).toEqual([secondPage]);
      });
    });
  });

  it('reports an area that could not be mapped, leaves it trapped, and goes on', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      driver.faults.failMap(0, 'ENOMEM');
      t.expect(plans(t, device, '-d--e').pipe(applyRemap(device), map(({ notMapped: [first] }) => (first === undefined ? 'all' : { ...first, error: (first.error as VfioError).errno })))).toBe('-a--b', {
        a: { index: 0, area: whole, error: 'ENOMEM' },
        b: 'all',
      });
      t.expectDevice(device).toShow({ map: '-1--0' });
      t.at('--r', { r: () => expect(device.region(0).read32(0)).toBe(0) });
    });
  });

  it('gives a holder half of the driver\'s ack timeout, or what the caller says', () => {
    marbles((t) => {
      const run = (name: string, budgetMs?: number): Observable<string> => {
        const { device, driver } = openedNow(t.clock, { ...twoRegions, name });
        now(device.mapRegion(0));
        now(device.region(0).hold([whole], { name: 'stuck', release: () => NEVER, regain: () => EMPTY }));
        driver.revoke(0);
        const channel = testChannel({ ackTimeoutMs: 8, declared: new Set([0]) });
        return t.cold('-d').pipe(map(() => planOf(device, channel)), applyRemap(device, budgetMs === undefined ? {} : { holderBudgetMs: budgetMs }), failed);
      };
      t.expect(run('half')).toBe('- 4ms #', undefined, { code: 'VFIO_E_HOLDER', operation: 'holder stuck release' });
      t.expect(run('told', 2)).toBe('- 2ms #', undefined, { code: 'VFIO_E_HOLDER' });
      t.expectDevice({ name: 'half' }).toShow({ unmap: '' });
    });
  });

  it('asks the holders of all regions at once: the budget is the batch\'s, not the sum over its regions', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      for (const index of [0, 1]) {
        now(device.mapRegion(index));
        now(device.region(index).hold([whole], { name: `h${index}`, release: () => timer(3, t.clock.scheduler), regain: () => EMPTY }));
        driver.revoke(index);
      }
      t.expect(plans(t, device, '-d').pipe(applyRemap(device, { holderBudgetMs: 4 }), failed)).toBe('- 3ms a', { a: 'all' });
    });
  });

  it('fails with a holder that fails, and unmaps nothing; the accessors stay trapped', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      const cause = new Error('worker died');
      now(device.mapRegion(0));
      now(device.region(0).hold([whole], { name: 'broken', release: () => throwError(() => cause), regain: () => EMPTY }));
      driver.revoke(0);
      t.expect(plans(t, device, '-d').pipe(applyRemap(device))).toBe('-#', undefined, { code: 'VFIO_E_HOLDER', cause });
      t.expectDevice(device).toShow({ map: '0', unmap: '' });
      t.atEnd(() => expect(device.region(0).mapped.areas).toEqual([whole]));
    });
  });

  it('is not failed by a holder that does not take an area back', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      let times = 0;
      now(device.mapRegion(0));
      now(device.region(0).hold([whole], { name: 'shy', release: () => EMPTY, regain: () => (times++ === 0 ? EMPTY : throwError(() => new Error('no'))) }));
      driver.revoke(0);
      t.at('--s', { s: () => driver.restore(0) });
      t.expect(plans(t, device, '-d-e').pipe(applyRemap(device), failed)).toBe('-a-b', { a: 'all', b: 'all' });
    });
  });

  it('fails with what munmap says', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions, () => ({ unmap: () => throwError(() => errnoError('EINVAL', 'munmap', 'software0')) }));
      now(device.mapRegion(0));
      driver.revoke(0);
      t.expect(plans(t, device, '-d').pipe(applyRemap(device))).toBe('-#', undefined, { code: 'VFIO_E_IO', operation: 'munmap', errno: 'EINVAL' });
    });
  });

  it('hands nobody an area that is on its way out', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      const region = device.region(0);
      now(device.mapRegion(0));
      now(region.hold([whole], { name: 'slow', release: () => t.cold('----|'), regain: () => EMPTY }));
      driver.revoke(0);
      const given: unknown[] = [];
      t.at('---h', { h: () => { now(region.hold([whole], { name: 'new', release: () => EMPTY, regain: (pieces) => { given.push(...pieces); return EMPTY; } })); } });
      t.expect(plans(t, device, '-d', [0]).pipe(applyRemap(device), failed)).toBe('-----a', { a: 'all' });
      t.atEnd(() => expect(given).toEqual([]));
    });
  });

  it('leaves no accessor on memory that has gone, though a layout that offers it again was settled meanwhile', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      const letsGo = (marble: string): Holder => ({ name: marble, release: () => t.cold(marble), regain: () => EMPTY });
      now(device.mapRegion(0));
      now(device.mapRegion(1));
      now(device.region(0).hold([whole], letsGo('---|')));
      now(device.region(1).hold([whole], letsGo('-----|')));
      driver.revoke(0);
      driver.revoke(1);
      t.at('--s--w', { s: () => { driver.restore(0); now(device.mapRegion(0)); }, w: () => device.region(0).write32(0, 7) });
      t.expect(plans(t, device, '-d').pipe(applyRemap(device), failed)).toBe('------a', { a: 'all' });
      t.expectDevice(device).toShow({ unmap: '----0-1' });
      t.atEnd(() => expect(driver.violationList).toEqual([]));
    });
  });

  it('maps all of a region anew where its rights changed, and accessors and holders use the new mapping', () => {
    marbles((t) => {
      let writable = false;
      const { device } = openedNow(t.clock, twoRegions, (port) => ({ accessNow: () => { throw new Error('trapped'); }, regionInfo: (index) => port.regionInfo(index).pipe(map((info) => ({ ...info, writable }))) }));
      const had: string[] = [];
      now(device.mapRegion(0));
      now(device.region(0).hold([whole], { name: 'h', release: () => { had.push('-'); return EMPTY; }, regain: () => { had.push('+'); return EMPTY; } }));
      t.at('-wr', { w: () => (writable = true), r: () => { device.region(0).write32(0, 5); expect(device.region(0).read32(0)).toBe(5); } });
      t.expect(plans(t, device, '-d', [0]).pipe(applyRemap(device), failed)).toBe('-a', { a: 'all' });
      t.expectDevice(device).toShow({ unmap: '-0', map: '<0>0' });
      t.atEnd(() => expect(had).toEqual(['+', '-', '+']));
    });
  });

  it('stops in the middle when it is unsubscribed: nothing is unmapped behind the holder\'s back', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      now(device.mapRegion(0));
      now(device.region(0).hold([whole], { name: 'slow', release: () => timer(1, t.clock.scheduler), regain: () => EMPTY }));
      driver.revoke(0);
      t.expect(plans(t, device, '-d').pipe(applyRemap(device)), '^ 500us !').toBe('');
      t.expectDevice(device).toShow({ unmap: '' });
    });
  });

  it('passes on the end and the error of its source', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      t.expect(plans(t, device, '--|').pipe(applyRemap(device))).toBe('--|');
      t.expect(throwError(() => new Error('x')).pipe(applyRemap(device), ignoreElements())).toBe('#', undefined, { message: 'x' });
    });
  });
});
