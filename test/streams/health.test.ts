import { EMPTY, map, throwError } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { health, type Health } from '../../src/streams/health.js';
import { irq } from '../../src/streams/irq.js';
import { transition } from '../../src/streams/transition.js';
import { marbles } from '../../src/testing/index.js';
import { errnoError } from '../../src/errors.js';
import { openedNow, twoRegions } from '../support/devices.js';

const [err, req] = [{ index: 3 }, { index: 4 }];
const both = { ...twoRegions, remap: false, irqs: { err: true, req: true } } as const;
const told = map(({ errors, releaseRequests, stuck }: Health) => `${errors} ${releaseRequests}${stuck.map(({ call, sinceNs }) => ` ${call}@${sinceNs}`).join('')}`);
const well = { errors: 0n, releaseRequests: 0n, stuck: [] };
const ignore = { error: () => undefined };

describe('health', () => {
  it('is its diagram', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, both);
      driver.faults.arcLatencyUs = 6;
      t.at('                  --e-----------', { e: () => driver.raise(err) });
      t.at('                  -----r--------', { r: () => driver.raise(req) });
      t.at('                  -------p------', { p: () => transition(device, 'pre-copy', { deadlineMs: 0.003 }).subscribe(ignore) });
      t.expect(health(device)).toBe('a-b--c----d--e', {
        a: well,
        b: { ...well, errors: 1n },
        c: { ...well, errors: 1n, releaseRequests: 1n },
        d: { errors: 1n, releaseRequests: 1n, stuck: [{ call: 'device_state pre-copy', sinceNs: 7000n }] },
        e: { ...well, errors: 1n, releaseRequests: 1n },
      });
      t.expectDevice(device).toShow({ state: '-------[p-----]' });
    });
  });

  it('counts together what came together', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, both);
      t.at('--e', { e: () => { driver.raise(err); driver.raise(err); driver.raise(req); } });
      t.expect(health(device).pipe(told)).toBe('a-<b,c>', { a: '0 0', b: '2 0', c: '2 1' });
    });
  });

  it('of a device without these irqs, or of another kind, tells of stuck calls', () => {
    marbles((t) => {
      for (const options of [{ ...twoRegions, remap: false }, { ...twoRegions, remap: false, face: 'non-pci' }, { ...both, irqs: { req: true } }] as const) {
        const { device, driver } = openedNow(t.clock, options);
        driver.faults.arcLatencyUs = 5;
        t.at('-p', { p: () => transition(device, 'pre-copy', { deadlineMs: 0.002 }).subscribe(ignore) });
        t.expect(health(device).pipe(told)).toBe('a--b--a', { a: '0 0', b: '0 0 device_state pre-copy@1000' });
      }
    });
  });

  it('shows a late subscriber what is stuck', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, both);
      driver.faults.arcLatencyUs = 8;
      t.at('-p', { p: () => transition(device, 'pre-copy', { deadlineMs: 0.002 }).subscribe(ignore) });
      t.expect(health(device).pipe(told), '-----^').toBe('-----b---a', { a: '0 0', b: '0 0 device_state pre-copy@1000' });
    });
  });

  it('a write that returns in time, or fails, was never stuck', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, both);
      driver.faults.arcLatencyUs = 2;
      driver.faults.failArc('running', 'EIO');
      t.at('-p--r', { p: () => transition(device, 'stop').subscribe(ignore), r: () => transition(device, 'running', { deadlineMs: 1 }).subscribe(ignore) });
      t.expect(health(device).pipe(told)).toBe('a', { a: '0 0' });
    });
  });

  it('outlives close, until the device is released: a close that waits is stuck, too', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, both);
      driver.faults.arcLatencyUs = 12_000_000;
      t.at('-p', { p: () => transition(device, 'pre-copy', { deadlineMs: 5000 }).subscribe(ignore) });
      t.at('--c', { c: () => void device.close() });
      t.expect(health(device).pipe(told)).toBe('a 5s b 4999999us - c 1999998us <d,a,|>', { a: '0 0', b: '0 0 device_state pre-copy@1000', c: '0 0 device_state pre-copy@1000 close@2000', d: '0 0 close@2000' });
      t.atEnd(() => expect(driver.irqs).toBe(0));
    });
  });

  it('completes with a device that is closed, at once where nothing is out', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, both);
      t.expect(health(device)).toBe('a--|', { a: well });
      t.at('---c', { c: () => void device.close() });
      t.expect(health(device), '-----^').toBe('-----<a,|>', { a: well });
    });
  });

  it('listens alone: BUSY where somebody else has ERR or REQ, and both are given back', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, both);
      t.expect(irq(device, req), '^----!').toBe('');
      t.expect(health(device).pipe(told), '--^').toBe('--#', undefined, { code: 'VFIO_E_BUSY' });
      t.expect(health(device).pipe(told), '-------^-!').toBe('-------a', { a: '0 0' });
      t.at('---x----y--z', { x: () => expect(driver.irqs).toBe(1), y: () => expect(driver.irqs).toBe(2), z: () => expect(driver.irqs).toBe(0) });
    });
  });

  it('fails with what an irq fails with', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, both, () => ({ irq: (line) => (line.index === err.index ? throwError(() => errnoError('EMFILE', 'eventfd')) : EMPTY) }));
      t.expect(health(device)).toBe('#', undefined, { code: 'VFIO_E_LIMIT' });
    });
  });
});
