import { concat, concatMap, filter, map, mergeMap, shareReplay, Subject, takeWhile, tap, toArray, type Observable, type OperatorFunction } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { RegionMemory } from '../../src/devices/software/region-memory.js';
import { SaveSession } from '../../src/devices/software/state-stream.js';
import { resumeState, type ResumingState } from '../../src/streams/resume-state.js';
import { savedState } from '../../src/streams/saved-state.js';
import { transition } from '../../src/streams/transition.js';
import { marbles } from '../../src/testing/index.js';
import { openedNow, twoRegions } from '../support/devices.js';
import { drained } from '../support/saved.js';

const still = { ...twoRegions, remap: false } as const;
const name = map(({ device }: ResumingState) => device);
const shared = (resuming: Observable<ResumingState>): Observable<ResumingState> => resuming.pipe(shareReplay({ bufferSize: 1, refCount: false }));

/** Calls each time. */
function at<T>(times: Observable<unknown>, call: (into: ResumingState) => Observable<T>): OperatorFunction<ResumingState, T> {
  return concatMap((into) => times.pipe(concatMap(() => call(into))));
}

/** What a device of two regions gives, each of them filled with a byte. */
function stream(contents: Readonly<Record<number, number>>): Uint8Array {
  const regions = new Map<number, RegionMemory>();
  for (const [index, value] of Object.entries(contents)) {
    const memory = new RegionMemory(Number(index), 0x2000, () => undefined);
    memory.write(0, new Uint8Array(0x2000).fill(value));
    regions.set(Number(index), memory);
  }
  const session = new SaveSession(regions);
  session.stop();
  const chunks: Uint8Array[] = [];
  for (let chunk = session.read(1 << 20); typeof chunk !== 'string' && chunk.kind === 'bytes'; chunk = session.read(1 << 20)) chunks.push(chunk.bytes);
  return Buffer.concat(chunks);
}

describe('resumeState', () => {
  it.each([2, 1] as const)('is its diagram, in version %i of device_state', (migrationVersion) => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...still, migration: 5, migrationVersion });
      t.at('s-l', { s: () => { transition(device, 'stop').subscribe(); }, l: () => { driver.faults.arcLatencyUs = 3; } });
      const write = (into: ResumingState) => into.write(stream({ 0: 5, 1: 7 })).pipe(map(() => 'w'));
      const end = (into: ResumingState) => into.end().pipe(map(({ from, to }) => `${from} ${to}`));
      const resuming$ = shared(resumeState(device));
      t.expectDevice(device).toShow({
        state: '                       <[s,]>-- [<resuming>--]-- ----[s--]' });
      t.expect(resuming$.pipe(name), '---^').toBe('--- ---<software0,|>');
      t.expect(resuming$.pipe(at(t.hot('  --- -----b'), write)), '---^').toBe('--- -----w');
      t.expect(resuming$.pipe(at(t.hot('  --- ----- -----e'), end)), '---^').toBe('--- ----- ----- ---e', { e: 'resuming stop' });
      t.atEnd(() => expect(driver.readRegion(1, 0, 4)).toEqual(Uint8Array.of(7, 7, 7, 7)));
    });
  });

  it.each([[2, 2], [1, 1], [2, 1], [1, 2]] as const)('takes what savedState reads, with rounds of filling between: version %i to version %i', (from, to) => {
    marbles((t) => {
      const source = openedNow(t.clock, { ...still, name: 'source', migrationVersion: from });
      const target = openedNow(t.clock, { ...still, name: 'target', migrationVersion: to });
      source.driver.writeRegion(1, 0x123, Uint8Array.from({ length: 3000 }, (_, n) => n % 251));
      source.driver.preCopy.initialBytes = 5000;
      t.at('--d', { d: () => source.driver.preCopy.dirty(777) });
      const saved$ = savedState(source.device).pipe(
        mergeMap((saved) => concat(t.cold('-a-b|').pipe(concatMap(() => drained(saved, 1000))), transition(source.device, 'stop-copy'), drained(saved, 1000))),
        filter((chunk) => 'kind' in chunk),
        takeWhile(({ kind }) => kind !== 'end'),
        concatMap((chunk) => (chunk.kind === 'bytes' ? [chunk.bytes] : [])),
      );
      const moved$ = resumeState(target.device).pipe(concatMap((into) => concat(saved$.pipe(concatMap((bytes) => into.write(bytes)), toArray()), into.end(), transition(target.device, 'running'))));
      t.expect(moved$.pipe(filter((step) => 'to' in step), map(({ to: state }) => state))).toBe('----<stop,running,|>');
      t.atEnd(() => {
        for (const region of [0, 1]) expect(target.driver.readRegion(region, 0, 0x2000)).toEqual(source.driver.readRegion(region, 0, 0x2000));
        expect([source.driver.state, target.driver.state]).toEqual(['stop-copy', 'running']);
      });
    });
  });

  it.each([2, 1] as const)('stays in RESUMING where the device does not like the bytes, and can be given up, in version %i', (migrationVersion) => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...still, migrationVersion });
      const resuming$ = shared(resumeState(device));
      t.expect(resuming$.pipe(concatMap((into) => into.write(Uint8Array.of(1, 2, 3))), map(() => 'w'))).toBe('<w,|>');
      t.expect(resuming$.pipe(at(t.hot('--e'), (into) => into.end()))).toBe('--#', undefined, { errno: 'EINVAL' });
      t.at('---c', { c: () => expect(driver.state).toBe('resuming') });
      t.expect(resuming$.pipe(at(t.hot('----r'), (into) => into.reset()), map(() => driver.state))).toBe('----r', { r: 'running' });
      t.expect(resuming$.pipe(at(t.hot('-----w'), (into) => into.write(Uint8Array.of(1))))).toBe('-----#', undefined, { code: 'VFIO_E_CLOSED' });
    });
  });

  it('loads nothing where nothing was written', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, still);
      t.expect(resumeState(device).pipe(concatMap((into) => into.end()), map(({ to }) => to))).toBe('<stop,|>');
    });
  });

  it('says that it was not loaded where somebody else has reset the device', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, still);
      const resuming$ = shared(resumeState(device));
      t.expect(resuming$.pipe(name)).toBe('<software0,|>');
      t.expect(device.reset().pipe(map(() => 'r')), '-^').toBe('-<r,|>');
      t.expect(resuming$.pipe(at(t.hot('--e'), (into) => into.end()))).toBe('--#', undefined, { code: 'VFIO_E_NO_DEVICE', errno: 'ENODEV' });
    });
  });

  it('refuses a device that is resuming, before its driver is asked', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, still);
      t.expect(resumeState(device).pipe(name)).toBe('<software0,|>');
      t.expect(resumeState(device), '--^').toBe('--#', undefined, { code: 'VFIO_E_BUSY', operation: 'resumeState', device: 'software0' });
      t.expectDevice(device).toShow({ state: '<[resuming,]>' });
    });
  });

  it('does not believe a driver that makes no session', () => {
    marbles((t) => {
      const mute = openedNow(t.clock, still, (port) => ({ setState: (state) => port.setState(state).pipe(map(() => ({ state }))) }));
      t.expect(resumeState(mute.device)).toBe('#', undefined, { code: 'VFIO_E_PROTOCOL' });
    });
  });

  it('closes what comes after nobody wants it any more', () => {
    marbles((t) => {
      const closed = new Subject<string>();
      const { device, driver } = openedNow(t.clock, still, (port) => ({
        setState: (to) => port.setState(to).pipe(tap(({ data }) => { if (data !== undefined) data.close = () => { closed.next('x'); return concat(); }; })),
      }));
      driver.faults.arcLatencyUs = 5;
      t.expect(closed).toBe('---------------x');
      t.expect(resumeState(device), '^-!').toBe('');
    });
  });
});

