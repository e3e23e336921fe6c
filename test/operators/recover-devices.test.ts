import { concat, ignoreElements, map, NEVER, of, throwError, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { State } from '../../src/devices/port.js';
import { lockstep } from '../../src/operators/lockstep.js';
import { recoverDevices, type Recovered } from '../../src/operators/recover-devices.js';
import { transition } from '../../src/streams/transition.js';
import { marbles, type MarbleTest } from '../../src/testing/index.js';
import { openedNow, twoRegions, type Alter, type Opened } from '../support/devices.js';

const why = new Error('of the source');
const failing = (t: MarbleTest, at: string): Observable<never> => t.cold<never>(at, undefined, why);

function device(t: MarbleTest, name: string, alter: Alter = () => ({})): Opened {
  return openedNow(t.clock, { ...twoRegions, remap: false, name, migration: 5 }, alter);
}

/** Already in the state when the test begins. */
function inState(t: MarbleTest, name: string, state: State, alter?: Alter): Opened {
  const opened = device(t, name, alter);
  transition(opened.device, state).subscribe({ error: (error: unknown) => { throw error; } });
  return opened;
}

const short = (recovered: readonly Recovered[]): readonly string[] => recovered.map(({ device: name, state, by }) => `${name} ${state} ${by}`);

describe('recoverDevices', () => {
  it('is its diagram', () => {
    marbles((t) => {
      const [a, b] = [inState(t, 'a', 'stop'), inState(t, 'b', 'stop')];
      const told: (readonly Recovered[])[] = [];
      t.at('-l', { l: () => { a.driver.faults.arcLatencyUs = 3; b.driver.faults.arcLatencyUs = 2; b.driver.faults.failArc('running', 'EIO'); } });
      t.expect(failing(t, '--#').pipe(recoverDevices([a.device, b.device], { tell: (recovered) => told.push(recovered) }))).toBe('-----#', undefined, why);
      t.expectDevice(a.device).toShow({ state: '<[s,]>-[r--]' });
      t.expectDevice(b.device).toShow({ state: '<[s,]>-[r-]#' });
      t.atEnd(() => {
        expect(told.map(short)).toEqual([['a running transition', 'b running reset']]);
        expect(told[0]?.[1]?.error).toMatchObject({ errno: 'EIO' });
        expect([a, b].map(({ driver }) => driver.state)).toEqual(['running', 'running']);
        expect(b.driver.trace.map(({ event }) => event)).toContain('reset');
      });
    });
  });

  it('has all of several in RUNNING_P2P before one of them runs, and one alone run at once', () => {
    for (const count of [1, 2]) {
      marbles((t) => {
        const all = ['a', 'b'].slice(0, count).map((name) => openedNow(t.clock, { ...twoRegions, remap: false, name }));
        for (const { device: one } of all) transition(one, 'stop').subscribe({ error: (error: unknown) => { throw error; } });
        t.at('-l', { l: () => all.forEach(({ driver }, n) => { driver.faults.arcLatencyUs = 1 + n; }) });
        t.expect(failing(t, '--#').pipe(recoverDevices(all.map((one) => one.device)))).toBe(count === 1 ? '----#' : '------#', undefined, why);
        if (all[0] !== undefined) t.expectDevice(all[0].device).toShow({ state: count === 1 ? '<[s,]>-[r-]' : '<[s,]>-[<running-p2p>][r]' });
        if (all[1] !== undefined) t.expectDevice(all[1].device).toShow({ state: '<[s,]>-[<running-p2p>-<],[r>-]' });
      });
    }
  });

  it('passes all else through, and asks for nothing where nothing fails', () => {
    marbles((t) => {
      const { device: one } = inState(t, 'a', 'stop');
      t.expect(t.cold('-ab|').pipe(recoverDevices([one]))).toBe('-ab|');
      t.expect(failing(t, '-#').pipe(recoverDevices([]))).toBe('-#', undefined, why);
      t.expectDevice(one).toShow({ state: '<[s,]>' });
    });
  });

  it('leaves a device where it is to be, and takes others to a state that is named', () => {
    marbles((t) => {
      const [a, b, c] = [inState(t, 'a', 'stop'), inState(t, 'b', 'pre-copy'), inState(t, 'c', 'stop-copy')];
      const told: (readonly Recovered[])[] = [];
      t.expect(failing(t, '--#').pipe(recoverDevices([a.device, b.device, c.device], { to: 'stop', tell: (recovered) => told.push(recovered) }))).toBe('--#', undefined, why);
      t.atEnd(() => {
        expect(told.map(short)).toEqual([['a stop itself', 'b stop transition', 'c stop transition']]);
        expect([a, b, c].map(({ driver }) => driver.state)).toEqual(['stop', 'stop', 'stop']);
      });
    });
  });

  it('resets where there is no way: a state that the device lacks, one that is blocked, ERROR', () => {
    marbles((t) => {
      let broken = false;
      const failed = inState(t, 'failed', 'stop', (port) => ({ getState: () => port.getState().pipe(map((state): State => (broken ? 'error' : state))) }));
      const blocked = inState(t, 'blocked', 'stop-copy');
      const none = openedNow(t.clock, { ...twoRegions, remap: false, name: 'none', migration: false });
      const told: (readonly Recovered[])[] = [];
      t.at('-e', { e: () => { broken = true; failed.driver.faults.failArc('running', 'EIO'); transition(failed.device, 'running').subscribe({ error: () => undefined }); } });
      t.expect(failing(t, '--#').pipe(recoverDevices([failed.device, blocked.device, none.device], { to: 'pre-copy', tell: (recovered) => told.push(recovered) }))).toBe('--#', undefined, why);
      t.atEnd(() => expect(told.map(short)).toEqual([['failed running reset', 'blocked running reset', 'none running reset']]));
    });
  });

  it('waits for a write that is under way, and says of one that does not return that it could do nothing', () => {
    marbles((t) => {
      const slow = device(t, 'slow');
      const stuck = device(t, 'stuck', () => ({ setState: () => NEVER }));
      slow.driver.faults.stallMs = 0.004;
      for (const { device: one } of [slow, stuck]) t.expect(transition(one, 'stop').pipe(ignoreElements()), '-^-!').toBe('');
      t.at('---x', { x: () => { slow.driver.faults.stallMs = 0; } });
      const told: (readonly Recovered[])[] = [];
      t.expect(failing(t, '--#').pipe(recoverDevices([slow.device, stuck.device], { deadlineMs: 0.006, tell: (recovered) => told.push(recovered) }))).toBe('--------#', undefined, why);
      t.atEnd(() => {
        expect(told.map(short)).toEqual([['slow running transition', 'stuck running nothing']]);
        expect(told[0]?.[1]?.error).toMatchObject({ code: 'VFIO_E_DEADLINE' });
      });
    });
  });

  it('says of a device that is closed, or whose reset fails, where it was left', () => {
    marbles((t) => {
      const closed = device(t, 'closed');
      const lost = inState(t, 'lost', 'stop', () => ({ reset: () => throwError(() => new Error('no reset')) }));
      const told: (readonly Recovered[])[] = [];
      t.at('-x', { x: () => { void closed.device.close(); lost.driver.faults.failArc('running', 'EIO'); } });
      t.expect(failing(t, '--#').pipe(recoverDevices([closed.device, lost.device], { tell: (recovered) => told.push(recovered) }))).toBe('--#', undefined, why);
      t.atEnd(() => {
        expect(told.map(short)).toEqual([['closed running nothing', 'lost stop nothing']]);
        expect(told[0]?.map(({ error }) => error)).toEqual([expect.objectContaining({ code: 'VFIO_E_CLOSED' }), expect.objectContaining({ errno: 'EIO' })]);
      });
    });
  });

  it('brings back all of a lockstep that one of them broke', () => {
    marbles((t) => {
      const all = [device(t, 'a'), device(t, 'b'), device(t, 'c')];
      const devices = all.map((one) => one.device);
      all[1]?.driver.faults.failArc('stop-copy', 'EIO');
      const told: (readonly Recovered[])[] = [];
      const steps$ = concat(of('pre-copy' as const), of('stop-copy' as const));
      t.expect(steps$.pipe(lockstep(devices, (one, to) => transition(one, to)), map((arcs) => arcs[0]?.to), recoverDevices(devices, { tell: (recovered) => told.push(recovered) }))).toBe('<p,#>', { p: 'pre-copy' }, { code: 'VFIO_E_STEP', device: 'b' });
      t.atEnd(() => expect(told.map(short)).toEqual([['a running transition', 'b running transition', 'c running transition']]));
    });
  });
});
