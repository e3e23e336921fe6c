import { EMPTY, first, map, NEVER, Subject, tap, type Observable, type OperatorFunction } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { SoftwareDeviceOptions } from '../../src/devices/software/options.js';
import type { InDoubt, MigrationEvent, Moved, Resolution } from '../../src/migration/plan.js';
import type { RoundReport, RoundVerdict } from '../../src/migration/fit-downtime.js';
import type { MemoryTransportOptions } from '../../src/transport/memory-transport.js';
import { virtualClock, type VirtualClock } from '../support/virtual-clock.js';
import { contents, opened, pair, type Opened, type Pair } from './pair.js';

interface Watched {
  readonly events: readonly MigrationEvent[];
  readonly phases: readonly string[];
  readonly error: unknown;
  readonly completed: boolean;
  unsubscribe(): void;
}

function watch(of: Observable<MigrationEvent>): Watched {
  const events: MigrationEvent[] = [];
  const end = { error: undefined as unknown, completed: false };
  const subscription = of.subscribe({ next: (event) => events.push(event), error: (error: unknown) => (end.error = error), complete: () => (end.completed = true) });
  return {
    events,
    get phases() { return events.map(({ phase }) => phase).filter((phase, n, all) => phase !== all[n - 1]); },
    get error() { return end.error; },
    get completed() { return end.completed; },
    unsubscribe: () => subscription.unsubscribe(),
  };
}

function states(some: readonly Opened[]): readonly string[] {
  return some.map(({ device }) => device.currentState.state);
}

function make(count: number, options: SoftwareDeviceOptions = {}, wire: MemoryTransportOptions = {}): { readonly clock: VirtualClock; readonly p: Pair } {
  const clock = virtualClock();
  return { clock, p: pair(clock, count, () => { clock.flush(); }, options, wire) };
}

/** The source runs as if nothing had been, the destination holds nothing of it. */
function expectRolledBack(p: Pair, source: Watched, code: string): void {
  expect(source.error).toMatchObject({ code });
  expect(states(p.source)).toEqual(p.source.map(() => 'running'));
  expect(source.phases.at(-1)).toBe('roll-back');
  for (const [n, { device }] of p.destination.entries()) {
    const loadedAndRuns = device.currentState.state === 'running' && contents(p.destination[n] as Opened) === contents(p.source[n] as Opened);
    expect(loadedAndRuns).toBe(false);
  }
}

describe('a migration', () => {
  it.each([[2, 1], [1, 1], [2, 8], [2, 3], [1, 3]] as const)('in version %i of device_state moves %i devices whole', (migrationVersion, count) => {
    const { clock, p } = make(count, { migrationVersion });
    const before = p.source.map(contents);
    const destination = watch(p.receive());
    const source = watch(p.migrate({ noPeerToPeer: migrationVersion === 1 }));
    clock.flush();
    expect([source.error, destination.error]).toEqual([undefined, undefined]);
    expect([source.completed, destination.completed]).toEqual([true, true]);
    expect(p.destination.map(contents)).toEqual(before);
    expect([...states(p.source), ...states(p.destination)]).toEqual([...p.source.map(() => 'stop'), ...p.destination.map(() => 'running')]);
    expect(source.phases).toEqual(['check', 'pre-copy', 'stop', 'transfer', 'prepare', 'commit', 'release', 'moved']);
    expect(destination.phases).toEqual(['check', 'pre-copy', 'transfer', 'prepare', 'commit', 'release', 'moved']);
    expect(p.sourceJournal.entries.map(({ record }) => record)).toEqual(['begun', 'decided', 'moved']);
    expect(p.destinationJournal.entries.map(({ record }) => record)).toEqual(['begun', 'prepared', 'running']);
  });

  it('of devices with one state more and one less each works all the same', () => {
    for (const migration of [1, 3, 5, 7]) {
      const { clock, p } = make(2, { migration });
      watch(p.receive());
      const source = watch(p.migrate({ noPeerToPeer: true }));
      clock.flush();
      expect([migration, source.error, states(p.destination)]).toEqual([migration, undefined, ['running', 'running']]);
    }
  });

  it('of several devices without P2P is refused before anything is asked, unless it is said that they do none', () => {
    const { clock, p } = make(2, { migration: 5 });
    const source = watch(p.migrate());
    clock.flush();
    expect(source.error).toMatchObject({ code: 'VFIO_E_UNSUPPORTED', message: expect.stringContaining('vf0, vf1') as string });
    expect(p.sourceJournal.entries).toEqual([]);
  });

  it('goes another round until its policy is content, and tells each', () => {
    const { clock, p } = make(1, {}, { latencyMs: 1 });
    const [one] = p.source;
    const policy = map(({ round }: RoundReport): RoundVerdict => {
      if (round < 3) one?.driver.preCopy.dirty(1000 * round);
      return round < 4 ? 'again' : 'switch-over';
    });
    watch(p.receive());
    const source = watch(p.migrate({ policy }));
    clock.flush();
    const reports = source.events.flatMap((event) => ('round' in event ? [event.round] : []));
    expect(reports.map(({ round, sentBytes }) => [round, sentBytes])).toEqual([[1, 16n], [2, 1016n], [3, 3016n], [4, 3016n]]);
    expect(source.phases.at(-1)).toBe('moved');
  });

  it('stops no device that has initial data, nor one that has it anew (REINIT), and reports what there is and how long it would take', () => {
    const { clock, p } = make(2, {}, { latencyMs: 1, capacityBytes: 64 });
    const [, one] = p.source;
    let asked = 0;
    // When the first round has been through: it would have fitted.
    if (one !== undefined) one.channels.asked = () => { if ((asked += 1) === 2) one.driver.preCopy.reinit(0x1000); };
    watch(p.receive({ windowBytes: 0x400 }));
    const source = watch(p.migrate({ downtimeLimitMs: 1e6 }));
    clock.flush();
    expect(source.phases.at(-1)).toBe('moved');
    const reports = source.events.flatMap((event) => ('round' in event ? [{ ...event.round, remaining: event.devices.map(({ remaining }) => remaining) }] : []));
    expect(reports.map(({ round, initialBytes, dirtyBytes, remaining }) => [round, initialBytes, dirtyBytes, remaining])).toEqual([[1, 0x1000n, 0n, [0n, 0x1000n]], [2, 0n, 0n, [0n, 0n]]]);
    const beganNs = source.events.find(({ phase }) => phase === 'pre-copy')?.atNs ?? 0n;
    for (const { atNs, sentBytes, rate, expectedDowntimeMs, initialBytes } of reports) {
      expect(rate).toBeCloseTo(Number(sentBytes) / (Number(atNs - beganNs) / 1e9), 3);
      expect(expectedDowntimeMs).toBeCloseTo((Number(initialBytes) * 1000) / rate, 3);
    }
  });

  it('does not take a rate that is not known for one that fits', () => {
    const { clock, p } = make(1, {}, { latencyMs: 1 });
    const [one] = p.source;
    let asked = 0;
    // It was quiet, and nothing else was to be sent: nobody knows how long this takes.
    if (one !== undefined) one.channels.asked = () => { if ((asked += 1) === 2) one.driver.preCopy.dirty(0x1000); };
    watch(p.receive());
    const source = watch(p.migrate());
    clock.flush();
    const reports = source.events.flatMap((event) => ('round' in event ? [event.round] : []));
    expect(reports.map(({ dirtyBytes, rate, expectedDowntimeMs }) => [dirtyBytes, rate, expectedDowntimeMs])).toEqual([[0x1000n, 0, Infinity], [0n, 0, 0]]);
    expect(source.phases.at(-1)).toBe('moved');
  });

  it('tells of bytes that flow a few times a second, and how fast, on both sides', () => {
    // 1 KiB, and the credit for more, on its way at a time.
    const { clock, p } = make(1, { migration: 1 }, { latencyMs: 100 });
    const destination = watch(p.receive({ windowBytes: 0x400 }));
    const source = watch(p.migrate());
    clock.flush();
    expect(source.phases.at(-1)).toBe('moved');
    for (const { events } of [source, destination]) {
      const flowing = events.flatMap((event) => (event.phase === 'transfer' && 'rate' in event ? [event] : []));
      expect(flowing.length).toBeGreaterThan(1);
      for (const [n, { atNs }] of flowing.entries()) if (n > 0) expect(atNs - (flowing[n - 1]?.atNs ?? 0n)).toBeGreaterThanOrEqual(200_000_000n);
      const [first, last] = [flowing[0], flowing.at(-1)];
      expect(first?.rate).toBe(0);
      expect(last?.rate).toBeCloseTo(Number(last?.devices[0]?.bytes) / (Number((last?.atNs ?? 0n) - (first?.atNs ?? 0n)) / 1e9), 3);
    }
  });

  it('measures how long nothing ran: from the request to stop until the confirmation, and at the destination from the last byte', () => {
    const { clock, p } = make(2, {}, { latencyMs: 3 });
    for (const { driver } of [...p.source, ...p.destination]) driver.faults.arcLatencyUs = 2000;
    let stoppedNs = 0n;
    p.source[0]?.device.state.pipe(first(({ going }) => going === 'stop-copy')).subscribe({ next: () => (stoppedNs = clock.nowNs()), error: (error: unknown) => { throw error; } });
    const destination = watch(p.receive());
    const source = watch(p.migrate());
    clock.flush();
    const at = ({ events }: Watched, phase: string): bigint => events.find((event) => event.phase === phase)?.atNs ?? 0n;
    const downtimeNs = ({ events }: Watched): bigint => (events.at(-1) as Moved).downtimeNs;
    expect(stoppedNs).toBeGreaterThan(0n);
    // The confirmation is what `release` begins with; the last byte was 3 ms on its way.
    expect(downtimeNs(source)).toBe(at(source, 'release') - stoppedNs);
    expect(downtimeNs(destination)).toBe(at(destination, 'moved') - at(source, 'prepare') - 3_000_000n);
  });

  it('ends where its policy gives up, completes, or says nothing', () => {
    const policies: readonly (readonly [OperatorFunction<RoundReport, RoundVerdict>, string])[] = [[map(() => 'give-up'), 'VFIO_E_ABORTED'], [() => EMPTY, 'VFIO_E_ABORTED'], [() => NEVER, 'VFIO_E_DEADLINE']];
    for (const [policy, code] of policies) {
      const { clock, p } = make(2);
      watch(p.receive());
      const source = watch(p.migrate({ policy, deadlines: { 'pre-copy': 100 } }));
      clock.flush();
      expectRolledBack(p, source, code);
    }
  });
});

describe('what fails before the decision ends with the source running', () => {
  it.each(['check', 'pre-copy', 'stop', 'transfer', 'prepare'])('aborted in phase %s', (phase) => {
    for (const how of ['abort', 'signal', 'unsubscribe', 'cut', 'destination'] as const) {
      const { clock, p } = make(2, {}, { latencyMs: 1 });
      const [abort, giveUp, controller] = [new Subject<void>(), new Subject<void>(), new AbortController()];
      const destination = watch(p.receive({ abort: giveUp }));
      let acted = false;
      const act = (event: MigrationEvent): void => {
        if (acted || event.phase !== phase) return;
        acted = true;
        // As the event would be answered: in another turn.
        clock.scheduler.schedule(() => {
          if (how === 'abort') abort.next();
          else if (how === 'signal') controller.abort();
          else if (how === 'unsubscribe') source.unsubscribe();
          else if (how === 'cut') p.transport.cut();
          else giveUp.next();
        });
      };
      const source: Watched = watch(p.migrate({ abort, signal: controller.signal, deadlines: { check: 1000 } }).pipe(tap(act)));
      clock.flush();
      expect(acted).toBe(true);
      expect(states(p.source)).toEqual(['running', 'running']);
      if (how !== 'unsubscribe') expectRolledBack(p, source, how === 'abort' || how === 'signal' ? 'VFIO_E_ABORTED' : how === 'cut' ? 'VFIO_E_LINK' : 'VFIO_E_PEER');
      if (phase !== 'check' || how !== 'cut') expect(destination.error).toMatchObject({ code: how === 'cut' ? 'VFIO_E_LINK' : how === 'destination' ? 'VFIO_E_ABORTED' : 'VFIO_E_PEER' });
      expect(p.sourceJournal.entries.map(({ record }) => record)).not.toContain('decided');
    }
  });

  it.each(['pre-copy', 'pre-copy-p2p', 'stop-copy'] as const)('a source device that cannot go to %s', (arc) => {
    const { clock, p } = make(3);
    watch(p.receive());
    p.source[1]?.driver.faults.failArc(arc, 'EIO');
    const source = watch(p.migrate());
    clock.flush();
    expectRolledBack(p, source, 'VFIO_E_IO');
    expect(source.error).toMatchObject({ device: 'vf1', operation: expect.stringContaining(arc) as string });
  });

  it.each(['resuming', 'stop'] as const)('a destination device that cannot go to %s, and the source hears which', (arc) => {
    const { clock, p } = make(3);
    const destination = watch(p.receive());
    p.destination[2]?.driver.faults.failArc(arc, 'EIO');
    const source = watch(p.migrate());
    clock.flush();
    expectRolledBack(p, source, 'VFIO_E_PEER');
    expect(source.error).toMatchObject({ message: expect.stringContaining('to2') as string });
    expect(destination.error).toMatchObject({ code: 'VFIO_E_IO', device: 'to2' });
  });

  it.each([1, 2, 3])('%i of three devices that fail, at any arc of either side: the error names one of them, the arc and the side', (k) => {
    for (const arc of ['pre-copy', 'pre-copy-p2p', 'stop-copy'] as const) {
      const { clock, p } = make(3);
      const destination = watch(p.receive());
      for (const { driver } of p.source.slice(3 - k)) driver.faults.failArc(arc, 'EIO');
      const source = watch(p.migrate());
      clock.flush();
      expectRolledBack(p, source, 'VFIO_E_IO');
      expect(source.error).toMatchObject({ device: `vf${3 - k}`, operation: `device_state ${arc} at the source` });
      expect(destination.error).toMatchObject({ code: 'VFIO_E_PEER', message: expect.stringContaining(`device_state ${arc} at the source`) as string });
      expect([...p.source, ...p.destination].map(({ channels }) => channels.open)).toEqual([0, 0, 0, 0, 0, 0]);
    }
    for (const arc of ['resuming', 'stop'] as const) {
      const { clock, p } = make(3);
      const destination = watch(p.receive().pipe(tap(({ phase }) => { if (phase === 'transfer') for (const { driver } of p.destination.slice(3 - k)) driver.faults.failArc('stop', 'EIO'); })));
      if (arc === 'resuming') for (const { driver } of p.destination.slice(3 - k)) driver.faults.failArc(arc, 'EIO');
      const source = watch(p.migrate());
      clock.flush();
      expectRolledBack(p, source, 'VFIO_E_PEER');
      expect(destination.error).toMatchObject({ code: 'VFIO_E_IO', device: `to${3 - k}`, operation: `device_state ${arc} at the destination` });
      expect(source.error).toMatchObject({ message: expect.stringContaining(`to${3 - k}: device_state ${arc} at the destination`) as string });
      expect([...p.source, ...p.destination].map(({ channels }) => channels.open)).toEqual([0, 0, 0, 0, 0, 0]);
    }
  });

  it('a destination of another kind, or without the device', () => {
    const { clock, p } = make(1);
    watch(p.receive({ devices: [{ name: 'x', destination: (p.destination[0] as Opened).device }] }));
    const source = watch(p.migrate());
    clock.flush();
    expectRolledBack(p, source, 'VFIO_E_PEER');
    expect(source.error).toMatchObject({ message: expect.stringContaining('VFIO_E_INCOMPATIBLE') as string });
  });

  it('a destination whose device is of another kind: nothing was asked of either', () => {
    const { clock, p } = make(2);
    const [other] = opened(clock, 1, { regions: [{ index: 0, size: 0x2000 }] }, 'other', () => { clock.flush(); });
    const destination = watch(p.receive({ devices: [p.destination[0], other].map((one, n) => ({ name: `d${n}`, destination: (one as Opened).device })) }));
    const source = watch(p.migrate());
    clock.flush();
    expectRolledBack(p, source, 'VFIO_E_PEER');
    expect(source.error).toMatchObject({ message: expect.stringMatching(/d1.*the regions differ.*VFIO_E_INCOMPATIBLE/) as string });
    expect(destination.error).toMatchObject({ code: 'VFIO_E_INCOMPATIBLE' });
    expect([...p.source, ...p.destination].flatMap(({ driver }) => driver.trace.filter(({ event }) => event === 'state'))).toEqual([]);
  });

  it('a source that names a device twice', () => {
    const { clock, p } = make(2);
    const destination = watch(p.receive());
    const source = watch(p.migrate({ devices: p.source.map(({ device }) => ({ source: device, destination: 'd0' })) }));
    clock.flush();
    expectRolledBack(p, source, 'VFIO_E_PEER');
    expect(destination.error).toMatchObject({ code: 'VFIO_E_INCOMPATIBLE', message: expect.stringContaining('twice') as string });
    expect(p.destination[0]?.driver.trace.filter(({ event }) => event === 'state')).toEqual([]);
  });

  it('a peer that stalls: the phase is named', () => {
    const { clock, p } = make(1);
    const [one] = p.destination;
    if (one !== undefined) one.driver.faults.stallMs = 3_600_000;
    watch(p.receive({ deadlines: { prepare: 900_000 } }));
    const source = watch(p.migrate({ deadlines: { check: 500 } }));
    clock.flush();
    expectRolledBack(p, source, 'VFIO_E_DEADLINE');
    expect(source.error).toMatchObject({ message: expect.stringContaining('phase check') as string });
  });

  it('a device that cannot come back is reset, and the error says which', () => {
    const { clock, p } = make(2);
    watch(p.receive());
    p.source[0]?.driver.faults.failArc('running-p2p', 'EIO', 9);
    p.source[1]?.driver.faults.failArc('stop-copy', 'EIO');
    const source = watch(p.migrate());
    clock.flush();
    expectRolledBack(p, source, 'VFIO_E_IO');
    expect(source.error).toMatchObject({ message: expect.stringContaining('vf0 was reset') as string });
  });
});

describe('what is lost after the decision is in doubt', () => {
  function cutAt(phase: 'commit', side: 'source' | 'destination'): { readonly clock: VirtualClock; readonly p: Pair; readonly source: Watched; readonly destination: Watched } {
    const { clock, p } = make(2, {}, { latencyMs: 1 });
    const cut = tap((event: MigrationEvent) => {
      if (event.phase === phase) clock.scheduler.schedule(() => { p.transport.cut(); }, 0.5);
    });
    const destination = watch(side === 'destination' ? p.receive().pipe(cut) : p.receive());
    const source = watch(side === 'source' ? p.migrate().pipe(cut) : p.migrate());
    clock.flush();
    return { clock, p, source, destination };
  }

  function resolved(one: Watched): Resolution[] {
    const said: Resolution[] = [];
    const last = one.events.at(-1);
    expect(last).toMatchObject({ phase: 'in-doubt', decision: 'source' });
    (last as InDoubt).resolve().subscribe({ next: (resolution) => said.push(resolution), error: (error: unknown) => { throw error; } });
    return said;
  }

  it('COMMIT: both sides say so, nobody runs, and one connection ends it', () => {
    const { clock, p, source, destination } = cutAt('commit', 'source');
    expect([...states(p.source), ...states(p.destination)]).toEqual(['stop-copy', 'stop-copy', 'stop', 'stop']);
    const [atDestination, atSource] = [resolved(destination), resolved(source)];
    clock.flush();
    expect([atSource, atDestination]).toEqual([['moved'], ['moved']]);
    expect(states(p.destination)).toEqual(['running', 'running']);
    expect(p.destination.map(contents)).toEqual(p.source.map(contents));
  });

  it('PREPARED: the source runs, and tells the destination when they meet', () => {
    const { p, source, destination } = cutAt('commit', 'destination');
    expectRolledBack(p, source, 'VFIO_E_LINK');
    expect(destination.events.at(-1)).toMatchObject({ phase: 'in-doubt' });
  });

  it.each([1, 2, 3])('%i of three devices that cannot be started: given back where none has left STOP, in doubt where one has', (k) => {
    for (const arc of ['running-p2p', 'running'] as const) {
      const { clock, p } = make(3);
      const fail = tap(({ phase }: MigrationEvent) => { if (phase === 'commit') for (const { driver } of p.destination.slice(3 - k)) driver.faults.failArc(arc, 'EIO'); });
      const destination = watch(p.receive().pipe(fail));
      const source = watch(p.migrate());
      clock.flush();
      if (arc === 'running-p2p' && k === 3) {
        expectRolledBack(p, source, 'VFIO_E_PEER');
        expect(destination.error).toMatchObject({ code: 'VFIO_E_IO', operation: 'device_state running-p2p at the destination' });
        continue;
      }
      expect(destination.events.at(-1)).toMatchObject({ phase: 'in-doubt', because: { code: 'VFIO_E_IO', operation: `device_state ${arc} at the destination`, device: `to${3 - k}` } });
      expect([source.events.at(-1)?.phase, states(p.source)]).toEqual(['in-doubt', ['stop-copy', 'stop-copy', 'stop-copy']]);
      // What failed once works the next time.
      const said = [resolved(destination), resolved(source)];
      clock.flush();
      expect([said, states(p.destination)]).toEqual([[['moved'], ['moved']], ['running', 'running', 'running']]);
    }
  });

  it('a destination that cannot run gives the devices back', () => {
    const { clock, p } = make(2);
    const fail = tap(({ phase }: MigrationEvent) => {
      if (phase === 'commit') for (const { driver } of p.destination) driver.faults.failArc('running-p2p', 'EIO');
    });
    const destination = watch(p.receive().pipe(fail));
    const source = watch(p.migrate());
    clock.flush();
    expectRolledBack(p, source, 'VFIO_E_PEER');
    expect(destination.error).toMatchObject({ code: 'VFIO_E_IO' });
    expect(p.sourceJournal.entries.map(({ record }) => record)).toEqual(['begun', 'decided', 'taken-back']);
    expect(p.destinationJournal.entries.map(({ record }) => record)).toEqual(['begun', 'prepared', 'running', 'discarded']);
  });
});
