import { concat, delay, map, of, tap, throwError, timer, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { VfioDevice } from '../../src/devices/device.js';
import type { State } from '../../src/devices/port.js';
import { VfioError } from '../../src/errors.js';
import { lockstep } from '../../src/operators/lockstep.js';
import { transition, type Arc } from '../../src/streams/transition.js';
import { marbles, type MarbleTest } from '../../src/testing/index.js';
import { openedNow, twoRegions } from '../support/devices.js';

const arrived = map((arcs: readonly Arc[]) => arcs.map(({ device, to }) => `${device} ${to}`).join(', '));

/** A device whose arcs take so many frames each. */
function slow(t: MarbleTest, name: string, frames: number) {
  const opened = openedNow(t.clock, { ...twoRegions, remap: false, name, migration: 7 });
  opened.driver.faults.arcLatencyUs = frames;
  return opened;
}

const go = (device: VfioDevice, to: State): Observable<Arc> => transition(device, to);

describe('lockstep', () => {
  it('is its diagram', () => {
    marbles((t) => {
      const [a, b] = [slow(t, 'a', 3), slow(t, 'b', 8)];
      const step$ = t.cold<State>('                                   --p---z|', { p: 'pre-copy', z: 'pre-copy-p2p' });
      t.expectDevice(a.device).toShow({ state: '                         --[p--]----[<pre-copy-p2p>--]' });
      t.expectDevice(b.device).toShow({ state: '                         --[p-------<],[pre-copy-p2p>-------]' });
      t.expect(step$.pipe(lockstep([a.device, b.device], go), arrived)).toBe('----------p-------<z,|>', { p: 'a pre-copy, b pre-copy', z: 'a pre-copy-p2p, b pre-copy-p2p' });
    });
  });

  it('fails when all have done or failed, and says who failed and why', () => {
    marbles((t) => {
      const all = [slow(t, 'a', 3), slow(t, 'b', 1), slow(t, 'c', 5)];
      all[0]?.driver.faults.failArc('stop', 'EIO');
      all[1]?.driver.faults.failArc('running-p2p', 'ENOMEM');
      const causes: unknown[] = [];
      const heard = tap({ error: (error: unknown) => { if (VfioError.is(error) && error.cause instanceof AggregateError) causes.push(...error.cause.errors as unknown[]); } });
      const matched: unknown = expect.objectContaining({ code: 'VFIO_E_STEP', operation: 'lockstep', device: 'a, b', message: expect.stringMatching(/2 of 3 devices .*a: .*EIO.*; b: .*ENOMEM/) as string });
      t.expect(of('stop' as const).pipe(lockstep(all.map(({ device }) => device), go), heard)).toBe('----------#', undefined, matched);
      t.atEnd(() => {
        expect(causes).toMatchObject([{ errno: 'EIO', device: 'a' }, { errno: 'ENOMEM', device: 'b' }]);
        expect(all.map(({ driver }) => driver.state)).toEqual(['running-p2p', 'running', 'stop']);
      });
    });
  });

  it('gives back what nobody gets: where another fails, and where the subscriber leaves', () => {
    marbles((t) => {
      const given: string[] = [];
      const [a, b] = [slow(t, 'a', 1), slow(t, 'b', 1)];
      const quick = (device: VfioDevice, n: number): Observable<string> => (device === a.device ? of(`a${n}`) : timer(0.005, t.clock.scheduler).pipe(map(() => { if (n === 1) throw new Error('b fails'); return `b${n}`; })));
      const giveBack = (result: string): void => { given.push(`${result} at ${t.clock.nowNs() / 1000n}`); };
      const devices = [a.device, b.device];
      t.expect(of(0).pipe(lockstep(devices, quick, giveBack), map((results) => results.join()))).toBe('-----<x,|>', { x: 'a0,b0' });
      t.expect(of(1).pipe(lockstep(devices, quick, giveBack)), '-^').toBe('------#', undefined, { code: 'VFIO_E_STEP', device: 'b' });
      t.expect(of(2).pipe(lockstep(devices, quick, giveBack)), '--^-!').toBe('');
      t.atEnd(() => expect(given).toEqual(['a2 at 4', 'a1 at 6']));
    });
  });

  it('takes the last value of a step, fails one that has none or that throws, and passes over no devices', () => {
    marbles((t) => {
      const { device } = slow(t, 'a', 1);
      t.expect(of(0).pipe(lockstep([device], () => of(1, 2)))).toBe('<x,|>', { x: [2] });
      t.expect(of(0).pipe(lockstep([device], () => concat()))).toBe('#', undefined, { code: 'VFIO_E_STEP' });
      t.expect(of(0).pipe(lockstep([device], () => { throw new VfioError('VFIO_E_IO', 'x', { operation: 'x' }); }))).toBe('#', undefined, { code: 'VFIO_E_STEP' });
      t.expect(of(0).pipe(lockstep([], () => throwError(() => new Error())))).toBe('<x,|>', { x: [] });
    });
  });

  it('begins no step before the one before it is done by all', () => {
    marbles((t) => {
      const begun: string[] = [];
      const [a, b] = [slow(t, 'a', 1), slow(t, 'b', 1)];
      const step = (device: VfioDevice, n: string): Observable<string> => {
        begun.push(`${device.name}${n} at ${t.clock.nowNs() / 1000n}`);
        return of(n).pipe(delay(device === a.device ? 0.001 : 0.004, t.clock.scheduler));
      };
      t.expect(t.cold('xyz|').pipe(lockstep([a.device, b.device], step), map(([n]) => n))).toBe('----x---y---<z,|>');
      t.atEnd(() => expect(begun).toEqual(['ax at 0', 'bx at 0', 'ay at 4', 'by at 4', 'az at 8', 'bz at 8']));
    });
  });
});
