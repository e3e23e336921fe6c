import { concatMap, first, map, NEVER, of, Subject, tap, throwError, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice } from '../../src/devices/open.js';
import { migrationFlags } from '../../src/devices/protocol/migration-states.js';
import type { SoftwareDeviceOptions } from '../../src/devices/software/options.js';
import { VfioError } from '../../src/errors.js';
import type { InDoubt, MigrationEvent } from '../../src/migration/plan.js';
import { memoryJournal } from '../../src/migration/journal.js';
import { receive } from '../../src/migration/receive.js';
import { resolve } from '../../src/migration/resolve.js';
import { softwareSource } from '../support/devices.js';
import { nothingUnhandled } from '../support/unhandled.js';
import { virtualClock } from '../support/virtual-clock.js';
import { contents, pair, small } from './pair.js';
import { watchedWire } from './watched-wire.js';

nothingUnhandled();

function made(count = 1, options: SoftwareDeviceOptions = {}) {
  const clock = virtualClock();
  const p = pair(clock, count, () => { clock.flush(); }, options, { latencyMs: 1 });
  const last: { source?: MigrationEvent | VfioError; destination?: MigrationEvent | VfioError } = {};
  const hear = (side: 'source' | 'destination') => ({ next: (event: MigrationEvent) => (last[side] = event), error: (error: unknown) => (last[side] = error as VfioError) });
  const states = (): readonly string[] => [...p.source, ...p.destination].map(({ driver }) => driver.state);
  return { clock, p, last, hear, states };
}

/** Two devices, of which the second has more to load; `act` is called when the first has stopped. */
function loadedEarly(act: (all: ReturnType<typeof made>) => void, abort: Observable<unknown> = NEVER) {
  const all = made(2, { migration: migrationFlags.stopCopy | migrationFlags.p2p });
  const { clock, p, hear } = all;
  const [, more] = p.source;
  if (more !== undefined) more.driver.preCopy.initialBytes = 0x4000;
  p.destination[0]?.device.state.pipe(first(({ state, going }) => state === 'stop' && going === undefined)).subscribe({ next: () => { act(all); }, error: () => undefined });
  p.receive({ windowBytes: 0x2000, abort }).subscribe(hear('destination'));
  p.migrate().subscribe(hear('source'));
  clock.flush();
  return all;
}

/** COMMIT is lost: both are in doubt, the source has decided. */
function inDoubt(count = 1) {
  const all = made(count);
  const { clock, p, last, hear } = all;
  const cut = tap(({ phase }: MigrationEvent) => { if (phase === 'commit') clock.scheduler.schedule(() => { p.transport.cut(); }, 0.5); });
  p.receive().subscribe(hear('destination'));
  p.migrate().pipe(cut).subscribe(hear('source'));
  clock.flush();
  expect([last.source, last.destination]).toMatchObject([{ phase: 'in-doubt' }, { phase: 'in-doubt' }]);
  const said: string[] = [];
  const note = { next: (one: string) => said.push(one), error: (error: unknown) => said.push(VfioError.is(error) ? error.code : String(error)) };
  return { ...all, said, note, source: last.source as InDoubt, destination: last.destination as InDoubt };
}

describe('the destination', () => {
  it.each([1, 2] as const)('whose device vanishes while it is loaded fails, and nobody else hears of it (version %i)', (migrationVersion) => {
    for (let atMs = 1; atMs < 30; atMs += 1) {
      const clock = virtualClock();
      const p = pair(clock, 1, () => { clock.flush(); }, { migrationVersion }, { latencyMs: 2 });
      let code: string | undefined;
      p.receive({ windowBytes: 256 }).subscribe({ error: (error: unknown) => (code = VfioError.is(error) ? error.code : String(error)) });
      p.migrate().subscribe({ error: () => undefined });
      clock.scheduler.schedule(() => { p.destination[0]?.driver.remove(); }, atMs);
      clock.flush();
      expect([atMs, code]).not.toEqual([atMs, 'Error']);
      expect(p.destination[0]?.channels.open).toBe(0);
    }
  });

  it.each(['transfer', 'commit'] as const)('is given up in phase %s where what would abort it fails: it promises that it never ran, and the source runs', (at) => {
    const { clock, p, last, hear, states } = made();
    const broken = new Subject<never>();
    // In another turn: `prepared` has been said then.
    const breaks = tap(({ phase }: MigrationEvent) => { if (phase === at) clock.scheduler.schedule(() => { broken.error(new VfioError('VFIO_E_IO', 'a region cannot be asked for', { operation: 'region' })); }); });
    p.receive({ abort: broken }).pipe(breaks).subscribe(hear('destination'));
    p.migrate().subscribe(hear('source'));
    clock.flush();
    expect([last.destination, last.source]).toMatchObject([{ code: 'VFIO_E_IO' }, { code: 'VFIO_E_PEER' }]);
    expect(states()[0]).toBe('running');
    expect(p.destinationJournal.entries.at(-1)?.record).toBe(at === 'transfer' ? 'begun' : 'discarded');
  });

  it('takes no journal in which it stands prepared: what it promised then is not over', () => {
    const { clock, p, last, hear, states } = made();
    const before = { migration: 'before', devices: ['to0'], side: 'destination', record: 'prepared' } as const;
    p.destinationJournal.write(before).subscribe({ error: (error: unknown) => { throw error; } });
    p.receive().subscribe(hear('destination'));
    p.migrate().subscribe(hear('source'));
    clock.flush();
    expect([last.destination, last.source]).toMatchObject([{ code: 'VFIO_E_JOURNAL', message: expect.stringContaining('before stands there as prepared') as string }, { code: 'VFIO_E_PEER' }]);
    expect([states(), p.destinationJournal.entries]).toEqual([['running', 'running'], [before]]);
  });

  it('closes every session where one device of several cannot take state', () => {
    const { clock, p, last, hear } = made(3);
    p.destination[2]?.driver.faults.failArc('resuming', 'EIO');
    for (const { driver } of p.destination.slice(0, 2)) driver.faults.arcLatencyUs = 0;
    p.receive().subscribe(hear('destination'));
    p.migrate().subscribe(hear('source'));
    clock.flush();
    expect(last.destination).toMatchObject({ code: 'VFIO_E_IO', device: 'to2' });
    expect(p.destination.map(({ channels }) => channels.open)).toEqual([0, 0, 0]);
  });

  it('says which device it leaves in RESUMING because it has no reset, and what to do', () => {
    const clock = virtualClock();
    const bare = softwareSource({ ...small, name: 'bare' }, (port) => ({ info: () => port.info().pipe(map((info) => ({ ...info, reset: false }))) }));
    const abort = new Subject<void>();
    const p = pair(clock, 1, () => { clock.flush(); }, {}, { latencyMs: 1 });
    let device: VfioDevice | undefined;
    let error: unknown;
    openDevice(bare, { clock }).subscribe({ next: (opened) => (device = opened), error: (one: unknown) => { throw one; } });
    clock.flush();
    if (device === undefined) throw new Error('it did not open');
    receive({ devices: [{ name: 'd0', destination: device }], transport: p.transport.listening, journal: memoryJournal(), abort }).subscribe({ error: (one: unknown) => (error = one) });
    p.migrate().pipe(tap(({ phase }) => { if (phase === 'transfer') abort.next(); })).subscribe({ error: () => undefined });
    clock.flush();
    expect(device.currentState.state).toBe('resuming');
    expect(error).toMatchObject({ code: 'VFIO_E_ABORTED', message: 'receive: the caller gave the migration up; left in RESUMING: bare (it has no reset). Close it, and have its driver make it anew before anybody opens it: remove and create an mdev, unbind and bind a function [VFIO_E_ABORTED]' });
  });

  it('is not prepared where somebody has reset a device that was loaded', () => {
    const { clock, p, last, hear } = made();
    p.destination[0]?.driver.faults.failArc('stop', 'EIO', 0);
    const reset = tap(({ phase }: MigrationEvent) => { if (phase === 'prepare') p.destination[0]?.device.reset().subscribe({ error: () => undefined }); });
    p.receive().pipe(reset).subscribe(hear('destination'));
    p.migrate().subscribe(hear('source'));
    clock.flush();
    expect(VfioError.is(last.destination) && VfioError.is(last.source)).toBe(true);
    expect(p.source[0]?.driver.state).toBe('running');
  });

  it('loads a device as soon as it has all of its state, while another still waits for its own', () => {
    let then: unknown;
    const { p, last, states } = loadedEarly(({ p: { destination }, last: { destination: event } }) => (then = [destination[1]?.device.currentState.state, (event as MigrationEvent).phase]));
    expect(then).toEqual(['resuming', 'transfer']);
    expect([last.source, last.destination]).toMatchObject([{ phase: 'moved' }, { phase: 'moved' }]);
    expect(states()).toEqual(['stop', 'stop', 'running', 'running']);
    expect(p.destination.map(contents)).toEqual(p.source.map(contents));
  });

  it('ends at once where a device cannot load, while another still waits for its state', () => {
    const all = made(2, { migration: migrationFlags.stopCopy | migrationFlags.p2p });
    const { clock, p, last, hear, states } = all;
    const [, more] = p.source;
    if (more !== undefined) more.driver.preCopy.initialBytes = 0x4000;
    // Not before: the way to RESUMING goes through STOP.
    const fail = tap(({ phase }: MigrationEvent) => { if (phase === 'transfer') p.destination[0]?.driver.faults.failArc('stop', 'EIO'); });
    p.receive({ windowBytes: 0x2000 }).subscribe(hear('destination'));
    p.migrate().pipe(fail).subscribe(hear('source'));
    clock.flush();
    expect(last.destination).toMatchObject({ code: 'VFIO_E_IO', device: 'to0', operation: 'device_state stop at the destination' });
    expect(last.source).toMatchObject({ code: 'VFIO_E_PEER', message: expect.stringContaining('to0') as string });
    // Both were reset; the other one was never told to load what it had so far.
    expect(states()).toEqual(['running', 'running', 'running', 'running']);
    expect(p.destination[1]?.driver.trace.filter(({ event }) => event === 'state').map(({ fields }) => fields['to'])).toEqual(['resuming']);
    expect(p.destination.map(({ channels }) => channels.open)).toEqual([0, 0]);
  });

  it('given up while one device is loaded and another is not: the one stays stopped, the other is reset, and the error says so', () => {
    const abort = new Subject<void>();
    const { p, last, states } = loadedEarly(({ clock }) => { clock.scheduler.schedule(() => { abort.next(); }); }, abort);
    expect(last.source).toMatchObject({ code: 'VFIO_E_PEER' });
    expect(last.destination).toMatchObject({ code: 'VFIO_E_ABORTED', message: 'receive: the caller gave the migration up; left in STOP: to0 (reset it before it runs) [VFIO_E_ABORTED]' });
    expect(states()).toEqual(['running', 'running', 'stop', 'running']);
    expect(p.destination.map(({ channels }) => channels.open)).toEqual([0, 0]);
  });

  it('says of each device where it was left, and why', () => {
    const abort = new Subject<void>();
    const { last, states } = loadedEarly(({ clock, p: { destination } }) => {
      const [, notLoaded] = destination;
      if (notLoaded !== undefined) notLoaded.device.reset = () => throwError(() => new Error('no'));
      clock.scheduler.schedule(() => { abort.next(); });
    }, abort);
    expect(states()).toEqual(['running', 'running', 'stop', 'resuming']);
    expect((last.destination as VfioError).message).toContain('; left in STOP: to0 (reset it before it runs); left in RESUMING: to1 (its reset failed). Close it');
  });

  it('resets a device that its load has brought to ERROR', () => {
    const { clock, p, last, hear } = made();
    const [to] = p.destination;
    const fail = tap(({ phase }: MigrationEvent) => {
      if (phase !== 'transfer' || to === undefined) return;
      to.driver.faults.failArc('stop', 'EIO');
      to.device.port.getState = () => of('error');
    });
    p.receive().pipe(fail).subscribe(hear('destination'));
    p.migrate().subscribe(hear('source'));
    clock.flush();
    expect(last.destination).toMatchObject({ code: 'VFIO_E_IO', message: expect.not.stringContaining('left in') as string });
    expect(to?.driver.trace.map(({ event }) => event)).toContain('reset');
    expect(to?.device.currentState.state).toBe('running');
  });

  it('is not prepared where somebody has run a device that was loaded before the others', () => {
    const { p, last } = loadedEarly(({ clock, p: { destination } }) => { clock.scheduler.schedule(() => { destination[0]?.device.reset().subscribe(); }); });
    expect(last.destination).toMatchObject({ code: 'VFIO_E_BUSY', device: 'to0', message: expect.stringContaining('to running') as string });
    expect(p.destinationJournal.entries.map(({ record }) => record)).toEqual(['begun']);
    expect(p.source.map(({ driver }) => driver.state)).toEqual(['running', 'running']);
  });

  it('in doubt may give up by itself: it never runs, and the source takes back when it hears of it', () => {
    const { clock, p, said, note, states, source, destination } = inDoubt(2);
    destination.giveUp?.().subscribe(note);
    clock.flush();
    expect(said).toEqual(['not-moved']);
    expect(p.destinationJournal.entries.at(-1)?.record).toBe('discarded');
    resolve({ journal: p.destinationJournal, transport: p.transport.listening, clock }).subscribe(note);
    source.resolve().subscribe(note);
    clock.flush();
    expect(said).toEqual(['not-moved', 'not-moved', 'not-moved']);
    expect(states()).toEqual(['running', 'running', 'stop', 'stop']);
    expect(source.giveUp).toBeUndefined();
  });

  it('of which some run and some could not stays in doubt, cannot give up, and tries again each time that the source comes', () => {
    const { clock, p, said, note, states, source, destination } = inDoubt(2);
    p.destination[1]?.driver.faults.failArc('running', 'EIO', 2);
    const attempt = (): void => {
      destination.resolve().subscribe(note);
      source.resolve().subscribe(note);
      clock.flush();
    };
    attempt();
    expect([said.splice(0).sort(), p.destination[0]?.driver.state]).toEqual([['VFIO_E_IN_DOUBT', 'VFIO_E_IN_DOUBT'], 'running']);
    destination.giveUp?.().subscribe(note);
    expect(said.splice(0)).toEqual(['VFIO_E_IN_DOUBT']);
    attempt();
    expect(said.splice(0).sort()).toEqual(['VFIO_E_IN_DOUBT', 'VFIO_E_IN_DOUBT']);
    attempt();
    expect(said).toEqual(['moved', 'moved']);
    expect(states()).toEqual(['stop', 'stop', 'running', 'running']);
    expect(p.destination.map(contents)).toEqual(p.source.map(contents));
    // The one that ran was left alone.
    expect(p.destination[0]?.driver.trace.filter(({ event, fields }) => event === 'state' && fields['from'] === 'running').map(({ fields }) => fields['to'])).toEqual(['resuming']);
  });

  it.each(['fails', 'is left'] as const)('has no connection after an attempt that %s', (how) => {
    const { clock, p, said, note, source, destination } = inDoubt();
    for (const [side, event, transport, other] of [['source', source, p.transport.connecting, p.transport.listening], ['destination', destination, p.transport.listening, p.transport.connecting]] as const) {
      const wire = watchedWire(transport, {});
      // Somebody who says nothing.
      other.open(clock).subscribe({ error: (error: unknown) => { throw error; } });
      const attempt = event.resolve(wire).subscribe(note);
      clock.advanceMs(1);
      expect([side, wire.connections.open]).toEqual([side, 1]);
      if (how === 'is left') attempt.unsubscribe();
      clock.flush();
      expect([side, said.splice(0), wire.connections.open]).toEqual([side, how === 'fails' ? [side === 'source' ? 'VFIO_E_DEADLINE' : 'VFIO_E_IN_DOUBT'] : [], 0]);
    }
  });

  it('resolves once at a time, a source that came and says nothing has its time, and what is known is answered at once', () => {
    const { clock, p, said, note, source, destination } = inDoubt();
    const waiting = destination.resolve().subscribe(note);
    destination.resolve().subscribe(note);
    expect(said.splice(0)).toEqual(['VFIO_E_BUSY']);
    waiting.unsubscribe();
    // Nobody listens now; the next one waits, and hears nothing but a hello.
    destination.resolve().subscribe(note);
    p.transport.connecting.open(clock).pipe(concatMap((connection) => connection.read())).subscribe({ error: () => undefined });
    clock.flush();
    expect(said.splice(0)).toEqual(['VFIO_E_IN_DOUBT']);
    destination.resolve().subscribe(note);
    source.resolve().subscribe(note);
    clock.flush();
    expect(said.splice(0)).toEqual(['moved', 'moved']);
    destination.resolve().subscribe(note);
    source.resolve().subscribe(note);
    expect(said).toEqual(['moved', 'moved']);
  });
});
