import { catchError, concatMap, map, NEVER, of, shareReplay, Subject, tap, throwError, type Observable, type OperatorFunction } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { DataChannel, PrecopyInfo } from '../../src/devices/port.js';
import { errnoError, VfioError } from '../../src/errors.js';
import { savedState, type SavedState } from '../../src/streams/saved-state.js';
import { transition } from '../../src/streams/transition.js';
import { marbles } from '../../src/testing/index.js';
import { openedNow, twoRegions, type Alter } from '../support/devices.js';
import { drained } from '../support/saved.js';

const notInPreCopy = new VfioError('VFIO_E_RANGE', 'stopped', { operation: 'VFIO_MIG_GET_PRECOPY_INFO', errno: 'EINVAL' });
const still = { ...twoRegions, remap: false } as const;
const fail = (error: unknown): never => { throw error; };
const name = map(({ device }: SavedState) => device);
const estimate = map(({ initialBytes, dirtyBytes, reinit }: PrecopyInfo) => `${initialBytes}+${dirtyBytes}${reinit ? ' anew' : ''}`);
const letter = map((chunk: { readonly kind: string }) => chunk.kind.slice(0, 1));
const roundsOf: OperatorFunction<SavedState, PrecopyInfo> = concatMap(({ rounds }) => rounds);
const round = (saved: SavedState) => drained(saved);

/** Subscribed once, for all who want the same session. */
const shared = (saved: Observable<SavedState>): Observable<SavedState> => saved.pipe(shareReplay({ bufferSize: 1, refCount: false }));

/** Calls each time. */
function at<T>(times: Observable<unknown>, call: (saved: SavedState) => Observable<T>): OperatorFunction<SavedState, T> {
  return concatMap((saved) => times.pipe(concatMap(() => call(saved))));
}

/** A round each time; the first letter of each chunk's kind. */
function readAt(times: Observable<unknown>): OperatorFunction<SavedState, string> {
  return (saved) => saved.pipe(at(times, round), letter);
}

/** Data channels made otherwise. */
function alteredData(change: (data: DataChannel) => Partial<DataChannel>): Alter {
  const alteredOne = (data: DataChannel): DataChannel => ({
    direction: data.direction, read: (maxBytes) => data.read(maxBytes), write: (bytes) => data.write(bytes), precopy: () => data.precopy(), close: () => data.close(), ...change(data),
  });
  return (port) => ({ setState: (to) => port.setState(to).pipe(map(({ state, data }) => ({ state, ...(data === undefined ? {} : { data: alteredOne(data) }) }))) });
}

describe('savedState', () => {
  it.each([
    [2, { r: '80+0', s: '0+0', t: '0+0' }],
    [1, { r: '0+80', s: '0+0', t: '0+0' }],
  ] as const)('is its diagram, in version %i of device_state', (migrationVersion, rounds) => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...still, migration: 5, migrationVersion });
      driver.faults.arcLatencyUs = 3;
      driver.preCopy.initialBytes = 64;
      const saved$ = shared(savedState(device));
      t.at('                   ---------- d -c', { d: () => driver.preCopy.dirty(32), c: () => { transition(device, 'stop-copy').subscribe({ error: fail }); } });
      const pull$ = t.hot('-------a         ---b       -------c         |');
      t.expectDevice(device).toShow({
        state: '               --[p--]-         ----       -[c--]' });
      t.expect(saved$.pipe(name), '--^').toBe('-- ---<software0,|>');
      t.expect(saved$.pipe(readAt(pull$)), '--^').toBe(
        '                     -- -----<b,b,b,q>---<b,b,q> -------<b,b,b,b,e>|');
      t.expect(saved$.pipe(roundsOf, estimate), '--^').toBe(
        '                     -- ---r-s          -- -t    -- -|', rounds);
    });
  });

  it('begins nothing before it is subscribed, and one session for each subscription', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, still);
      const saved$ = savedState(device);
      t.expect(saved$.pipe(concatMap((saved) => saved.close()), map(() => 'x')), '--^').toBe('--<x,|>');
      t.at('----r', { r: () => { transition(device, 'running').subscribe({ error: fail }); } });
      t.expect(saved$.pipe(name), '------^').toBe('------<software0,|>');
      t.expectDevice(device).toShow({ state: '--<[p,]>-<[r,]>-<[p,]>' });
    });
  });

  it.each([1, 3])('begins in STOP_COPY where there is no PRE_COPY (flags %i), and has no rounds', (migration) => {
    marbles((t) => {
      const { device } = openedNow(t.clock, { ...still, migration });
      const saved$ = shared(savedState(device));
      t.expect(saved$.pipe(concatMap(round), letter)).toBe('<b,b,b,b,b,e,|>');
      t.expect(saved$.pipe(roundsOf, estimate)).toBe('|');
      t.expectDevice(device).toShow({ state: '<[c,]>' });
    });
  });

  it('begins where it is told', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, still);
      t.expect(savedState(device, { from: 'pre-copy-p2p' }).pipe(name)).toBe('<software0,|>');
      t.expectDevice(device).toShow({ state: '<[pre-copy-p2p,]>' });
    });
  });

  it('refuses a device that is being saved, before its driver is asked', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, still);
      t.expect(savedState(device).pipe(name)).toBe('<software0,|>');
      t.expect(savedState(device, { from: 'stop-copy' }), '--^').toBe('--#', undefined, { code: 'VFIO_E_BUSY', operation: 'savedState', device: 'software0' });
      t.expectDevice(device).toShow({ state: '<[p,]>' });
    });
  });

  it('fails as the transition does', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, { ...still, migration: false });
      t.expect(savedState(device)).toBe('#', undefined, { code: 'VFIO_E_UNSUPPORTED' });
      const poor = openedNow(t.clock, { ...still, name: 'poor', migration: 1 });
      t.expect(savedState(poor.device, { from: 'pre-copy' })).toBe('#', undefined, { code: 'VFIO_E_ARC' });
    });
  });

  it('closes the session of a device that cannot say what it has', () => {
    marbles((t) => {
      const closed = new Subject<string>();
      const unable = alteredData((data) => ({
        precopy: () => throwError(() => errnoError('ENOTTY', 'VFIO_MIG_GET_PRECOPY_INFO', 'software0')),
        close: () => data.close().pipe(tap(() => closed.next('x'))),
      }));
      const { device } = openedNow(t.clock, still, unable);
      t.expect(closed).toBe('--x');
      t.expect(savedState(device), '--^').toBe('--#', undefined, { code: 'VFIO_E_UNSUPPORTED' });
    });
  });

  it('does not believe a driver that makes no session', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, still, () => ({ setState: (state) => of({ state }) }));
      t.expect(savedState(device)).toBe('#', undefined, { code: 'VFIO_E_PROTOCOL' });
    });
  });

  it('closes what comes after nobody wants it any more', () => {
    marbles((t) => {
      const closed = new Subject<string>();
      const { device, driver } = openedNow(t.clock, still, alteredData((data) => ({ close: () => data.close().pipe(tap(() => closed.next('x'))) })));
      driver.faults.arcLatencyUs = 5;
      t.expect(closed).toBe('-----x');
      t.expect(savedState(device), '^-!').toBe('');
    });
  });
});

describe('the rounds', () => {
  it('tell of new initial data, once', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, still);
      const saved$ = shared(savedState(device));
      t.at('                                        --- d       i', { d: () => driver.preCopy.dirty(16), i: () => driver.preCopy.reinit(4096) });
      t.expect(saved$.pipe(readAt(t.hot('         -a-         ---a              a')))).toBe(
        '                                          -<b,q>-     ---<b,b,b,q>      q');
      t.expect(saved$.pipe(at(t.hot('-----p'), (saved) => saved.precopy()), estimate)).toBe('-----a', { a: '4112+0 anew' });
      t.expect(saved$.pipe(roundsOf, estimate)).toBe('ab----bb', { a: '16+0', b: '0+0' });
    });
  });

  it('give who comes late the latest, and end with the session', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, still);
      const saved$ = shared(savedState(device));
      t.expect(saved$.pipe(readAt(t.hot('-a')))).toBe('-<b,q>');
      t.expect(saved$.pipe(roundsOf, estimate), '---^').toBe('---b--|', { b: '0+0' });
      t.expect(saved$.pipe(at(t.hot('------c'), (saved) => saved.close()), map(() => 'x'))).toBe('------x');
      t.expect(saved$.pipe(at(t.hot('-------c'), (saved) => saved.read(1)))).toBe('-------#', undefined, { code: 'VFIO_E_CLOSED' });
    });
  });

  it.each([2, 1] as const)('end where the device leaves PRE_COPY, to wherever, and reads fail once it is out of the group, in version %i', (migrationVersion) => {
    marbles((t) => {
      const { device } = openedNow(t.clock, { ...still, migrationVersion });
      const saved$ = shared(savedState(device));
      t.expect(saved$.pipe(roundsOf, map(() => 'r'))).toBe('r--|');
      t.at('---r', { r: () => { transition(device, 'running').subscribe({ error: fail }); } });
      t.expect(saved$.pipe(at(t.hot('----c'), (saved) => saved.read(1)))).toBe('----#', undefined, { code: 'VFIO_E_NO_DEVICE' });
    });
  });

  it('have none for a read that was quiet while the device went on to STOP_COPY', () => {
    marbles((t) => {
      // The read began in PRE_COPY, the estimate after it is refused.
      const late = alteredData((data) => ({ precopy: () => data.precopy().pipe(tap(() => { if (t.clock.nowNs() > 0n) throw notInPreCopy; })) }));
      const { device } = openedNow(t.clock, still, late);
      const saved$ = shared(savedState(device));
      t.expect(saved$.pipe(readAt(t.hot('-a')))).toBe('-<b,q>');
      t.expect(saved$.pipe(roundsOf, estimate)).toBe('a', { a: '16+0' });
    });
  });

  it('fail the read whose estimate fails', () => {
    marbles((t) => {
      const broken = alteredData((data) => ({ precopy: () => data.precopy().pipe(tap(() => { if (t.clock.nowNs() > 0n) throw errnoError('EIO', 'VFIO_MIG_GET_PRECOPY_INFO'); })) }));
      const { device } = openedNow(t.clock, still, broken);
      t.expect(savedState(device).pipe(readAt(t.hot('-a')), catchError((error: unknown) => of(VfioError.is(error) ? error.errno : error)))).toBe('-<b,e,|>', { b: 'b', e: 'EIO' });
    });
  });

  it('closes a session whose first estimate nobody waits for any more', () => {
    marbles((t) => {
      let closed = 0;
      const { device } = openedNow(t.clock, still, alteredData((data) => ({ precopy: () => NEVER, close: () => data.close().pipe(tap(() => (closed += 1))) })));
      t.expect(savedState(device, { from: 'pre-copy' }).pipe(name), '^-!').toBe('---');
      t.at('---c', { c: () => expect(closed).toBe(1) });
    });
  });
});
