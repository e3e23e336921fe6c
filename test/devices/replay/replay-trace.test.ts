import fc from 'fast-check';
import { concat, concatMap, defer, delay, EMPTY, ignoreElements, map, merge, of, takeUntil, tap, timer, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { Clock } from '../../../src/clock.js';
import type { VfioDevice } from '../../../src/devices/device.js';
import { openDevice, withDevice, type PortSource } from '../../../src/devices/open.js';
import type { DevicePort, State } from '../../../src/devices/port.js';
import { memoryTrace } from '../../../src/devices/replay/memory-trace.js';
import type { Departure } from '../../../src/devices/replay/replay-run.js';
import { recordPort } from '../../../src/devices/replay/record-port.js';
import { replayTrace, type TraceReplay } from '../../../src/devices/replay/replay-trace.js';
import { softwareDevice } from '../../../src/devices/software/software-device.js';
import type { Remap, RemapPlan, RemapSignal } from '../../../src/devices/remap-batch.js';
import { VfioError } from '../../../src/errors.js';
import { lineNumber, readTrace, type Trace } from '../../../src/devices/trace/reader.js';
import { acknowledge } from '../../../src/operators/acknowledge.js';
import { applyRemap } from '../../../src/operators/apply-remap.js';
import { decodeRegionBitmap } from '../../../src/operators/decode-region-bitmap.js';
import { diffRegions } from '../../../src/operators/diff-regions.js';
import { remapRegions } from '../../../src/operators/remap-regions.js';
import { requeryRegions } from '../../../src/operators/requery-regions.js';
import { remapIrq } from '../../../src/streams/remap-irq.js';
import { transition } from '../../../src/streams/transition.js';
import { codeOf, now, twoRegions } from '../../support/devices.js';
import { virtualClock } from '../../support/virtual-clock.js';

/** What a program does with a device, told as plain values. */
type Program = (device: VfioDevice) => Observable<unknown>;
type Pipeline = (device: VfioDevice, signals$: Observable<RemapSignal>) => Observable<Remap>;

const usual: Pipeline = (device, signals$) => signals$.pipe(remapRegions(device));
const told = ({ channel, ...remap }: Remap): unknown => ({ ...remap, profile: channel.profile });

/** Serves remaps for so long, and writes these states one after the other. */
function program(states: readonly State[], untilMs: number, pipeline: Pipeline = usual): Program {
  return (device) => {
    const { scheduler } = device.clock;
    const arcs$ = concat(...states.map((to) => defer(() => transition(device, to)).pipe(
      concatMap(({ data, ...arc }) => concat(of(arc), data === undefined ? EMPTY : concat(data.read(64), data.close().pipe(ignoreElements())))),
      delay(0, scheduler),
    )));
    return merge(pipeline(device, remapIrq(device)).pipe(map(told)), timer(1, scheduler).pipe(concatMap(() => arcs$))).pipe(takeUntil(timer(untilMs, scheduler)));
  };
}

interface Run {
  readonly came: readonly unknown[];
  readonly error: unknown;
}

function run(source: PortSource, what: Program, meanwhile: (clock: Clock) => void = () => undefined): Run {
  const clock = virtualClock();
  const came: unknown[] = [];
  const end: { error?: unknown } = {};
  withDevice(source, what, { clock }).subscribe({ next: (value) => came.push(value), error: (error: unknown) => (end.error = error) });
  meanwhile(clock);
  clock.flush();
  return { came, error: end.error };
}

function record(what: Program, script: (driver: ReturnType<typeof softwareDevice>['driver'], clock: Clock) => void = () => undefined): { readonly trace: Trace; readonly original: Run } {
  const sink = memoryTrace();
  const device = softwareDevice({ ...twoRegions, name: 'vf0' });
  const source: PortSource = { open: (clock) => openRecorded(device, clock, sink) };
  const original = run(source, what, (clock) => { script(device.driver, clock); });
  return { trace: readTrace(sink.text), original };
}

function openRecorded(device: PortSource, clock: Clock, sink: ReturnType<typeof memoryTrace>): ReturnType<PortSource['open']> {
  return device.open(clock).pipe(map((port) => recordPort(port, sink)));
}

const demanded = program(['pre-copy', 'stop-copy', 'running'], 20);

function departure(replay: TraceReplay): Departure | undefined {
  return replay.departure?.cause as Departure | undefined;
}

describe('replayTrace', () => {
  it('runs the recorded device again: same outputs, at the same times', () => {
    const { trace, original } = record(demanded);
    expect(trace.incomplete).toBeUndefined();
    expect(original.error).toBeUndefined();
    expect(original.came.length).toBeGreaterThan(6);
    const replay = replayTrace(trace);
    expect(run(replay, demanded)).toEqual(original);
    replay.expectFollowed();
    // And again, from the first line.
    expect(run(replay, demanded)).toEqual(original);
    replay.expectFollowed();
  });

  it('does so whatever the driver did', () => {
    const act = fc.record({ atUs: fc.nat(15_000), kind: fc.constantFrom('revoke', 'restore', 'failQuery', 'failMap', 'signal late', 'remove'), region: fc.nat(1) });
    const states = fc.subarray<State>(['pre-copy', 'stop-copy', 'stop', 'running'], { minLength: 0 });
    fc.assert(
      fc.property(fc.array(act, { maxLength: 12 }), states, (acts, path) => {
        const what = program(path, 20);
        const { trace, original } = record(what, (driver, { scheduler }) => {
          for (const { atUs, kind, region } of acts) {
            scheduler.schedule(() => {
              if (kind === 'revoke') driver.revoke(region);
              else if (kind === 'restore') driver.restore(region);
              else if (kind === 'failQuery') driver.faults.failQuery(region, 'EIO');
              else if (kind === 'failMap') driver.faults.failMap(region, 'ENOMEM');
              else if (kind === 'remove') { if (atUs > 14_000) driver.remove(); }
              else driver.faults.signalDelayUs = 20;
            }, atUs / 1000);
          }
        });
        const replay = replayTrace(trace);
        const again = run(replay, what);
        expect(replay.departure).toBeUndefined();
        replay.expectFollowed();
        expect(again).toEqual(original);
      }),
    );
  });

  it('names the first call that departs: an ack before its unmap', () => {
    const tooEarly: Pipeline = (device, signals$) => signals$.pipe(
      decodeRegionBitmap(), requeryRegions(device), diffRegions(device),
      concatMap((plan: RemapPlan) => plan.channel.ack(plan.sumRead).pipe(map(() => plan))),
      applyRemap(device), acknowledge(device),
    );
    const { trace } = record(demanded);
    const replay = replayTrace(trace);
    const { error } = run(replay, program(['pre-copy', 'stop-copy', 'running'], 20, tooEarly));
    const where = trace.entries.findIndex((entry) => entry.kind === 'call' && entry.name === 'unmap');
    expect(error).toMatchObject({ code: 'VFIO_E_DEPARTED', device: 'vf0' });
    expect(replay.departure).toBe(error);
    expect(departure(replay)).toEqual({
      line: lineNumber(where),
      expected: expect.stringMatching(/^unmap \{"mapping":\d+,"region":0,"offset":0,"size":8192\}$/) as string,
      actual: expect.stringMatching(/^irq.ack \{"irq":\[\d+,0\],"count":"1"\}$/) as string,
    });
    expect(() => { replay.expectFollowed(); }).toThrow(expect.objectContaining({ code: 'VFIO_E_DEPARTED' }) as Error);
  });

  const changes: readonly [string, Pipeline | readonly State[], RegExp, RegExp][] = [
    ['a region that is not asked again', (device, signals$) => signals$.pipe(decodeRegionBitmap(), map((batch) => (batch.because === 'signal' ? { ...batch, candidates: new Set([1]) } : batch)), requeryRegions(device), diffRegions(device), applyRemap(device), acknowledge(device)), /^regionInfo \{"index":0\}/, /^regionInfo \{"index":1\}/],
    ['a sum that was not read', (device, signals$) => signals$.pipe(decodeRegionBitmap(), requeryRegions(device), diffRegions(device), applyRemap(device), map((applied) => ({ ...applied, sumRead: 0n })), acknowledge(device)), /^irq.ack .*"count":"1"/, /./],
    ['another state', ['stop-copy', 'running'], /^setState \{"to":"pre-copy"\}/, /^setState \{"to":"stop-copy"\}/],
    ['one state less', ['pre-copy', 'stop-copy'], /^setState \{"to":"running"\}/, /./],
    ['one state more', ['pre-copy', 'stop-copy', 'running', 'stop'], /./, /^setState \{"to":"stop"\}/],
  ];
  for (const [what, change, expected, actual] of changes) {
    it(`names ${what}`, () => {
      const { trace } = record(demanded);
      const replay = replayTrace(trace);
      run(replay, typeof change === 'function' ? program(['pre-copy', 'stop-copy', 'running'], 20, change) : program(change, 20));
      expect(departure(replay)?.expected).toMatch(expected);
      expect(departure(replay)?.actual).toMatch(actual);
      expect(departure(replay)?.line).toBeGreaterThan(10);
    });
  }

  it('says when the code under test is earlier than the recording', () => {
    const late: Program = (device) => timer(5, device.clock.scheduler).pipe(concatMap(() => device.mapRegion(0)), concatMap(() => transition(device, 'stop')), ignoreElements());
    const hasty: Program = (device) => merge(transition(device, 'stop'), defer(() => device.port.regionInfo(1))).pipe(ignoreElements());
    const { trace } = record(late);
    const replay = replayTrace(trace);
    run(replay, hasty);
    expect(departure(replay)).toMatchObject({ expected: 'regionInfo {"index":0}', actual: 'setState {"to":"stop"}' });

    const both: Program = (device) => concat(device.port.setState('stop'), defer(() => device.port.info())).pipe(ignoreElements());
    const hastier: Program = (device) => merge(device.port.setState('stop'), device.port.info()).pipe(ignoreElements());
    const second = replayTrace(record(both).trace);
    const { error } = run(second, hastier);
    expect(error).toMatchObject({ message: expect.stringMatching(/expected the answer of setState \(call \d+\); actual info; that comes by itself, at \d+ ns of the recording/) as string });
  });

  it('says how far a recording goes that was cut off', () => {
    const { trace, original } = record(demanded);
    for (const length of [0, 5, 20, trace.entries.length - 3]) {
      const replay = replayTrace({ ...trace, entries: trace.entries.slice(0, length) });
      const { came } = run(replay, demanded);
      expect(came).toEqual(original.came.slice(0, came.length));
      expect(departure(replay)?.line ?? lineNumber(length)).toBe(lineNumber(length));
    }
    const gap: Trace = { ...trace, entries: [...trace.entries.slice(0, 20), { kind: 'dropped', atNs: trace.entries[19]?.atNs ?? 0n, lines: 7 }, ...trace.entries.slice(27)] };
    const replay = replayTrace(gap);
    run(replay, demanded);
    expect(departure(replay)).toMatchObject({ line: lineNumber(20), expected: 'nothing: 7 lines of the recording are missing here' });
  });

  it('goes on where the code under test stops, and says so', () => {
    const { trace } = record(demanded);
    const replay = replayTrace(trace);
    expect(() => { replay.expectFollowed(); }).toThrow('it was not opened');
    const port = now(replay.open(virtualClock()));
    now(port.info());
    expect(() => { replay.expectFollowed(); }).toThrow(/line 3: expected regionInfo \{"index":0\}; actual nothing more/);
  });

  it('fails all that waits, and releases the device, once it has departed', () => {
    const { trace } = record(demanded);
    const clock = virtualClock();
    const events: string[] = [];
    const port = now(replayTrace(trace).open(clock));
    for (let index = 0; index < 3; index += 1) port.info().subscribe({ error: () => events.push('failed') });
    port.released.subscribe({ next: ({ what }) => events.push(what), error: () => events.push('error'), complete: () => events.push('released') });
    port.close();
    port.close();
    clock.flush();
    expect(events).toEqual(['failed', 'failed', 'the replay has left its recording', 'released']);
  });

  /** What a port's user sees of an irq that is closed while somebody waits for it. */
  const closedWhileWaiting = (port: DevicePort): readonly string[] => {
    const events: string[] = [];
    const irq = now(port.irq({ index: 5 }));
    irq.next().subscribe({ error: (error: unknown) => events.push(`next: ${VfioError.is(error) ? error.code : ''}`) });
    irq.close().subscribe({ next: () => events.push('closed'), error: () => events.push('failed') });
    events.push('returned');
    return events;
  };

  it('answers inside a call what was answered inside it, in the same order', () => {
    const sink = memoryTrace();
    const original = closedWhileWaiting(recordPort(now(softwareDevice(twoRegions).open(virtualClock())), sink));
    expect(original).toEqual(['next: VFIO_E_CLOSED', 'closed', 'returned']);
    const replay = replayTrace(readTrace(sink.text));
    expect(closedWhileWaiting(now(replay.open(virtualClock())))).toEqual(original);
    replay.expectFollowed();
  });

  it('fails what waits for an answer when another call departs', () => {
    const sink = memoryTrace();
    const clock = virtualClock();
    recordPort(now(softwareDevice(twoRegions).open(clock)), sink).getState().subscribe({ error: () => undefined });
    clock.flush();
    const again = virtualClock();
    const port = now(replayTrace(readTrace(sink.text)).open(again));
    const events: string[] = [];
    port.getState().subscribe({ error: (error: unknown) => events.push(VfioError.is(error) ? error.code : '') });
    expect(codeOf(() => now(port.info()))).toBe('VFIO_E_DEPARTED');
    expect(events).toEqual([]);
    again.flush();
    expect(events).toEqual(['VFIO_E_DEPARTED']);
  });

  it('releases the device where the recording was cut off before its end', () => {
    const sink = memoryTrace();
    now(recordPort(now(softwareDevice(twoRegions).open(virtualClock())), sink).info());
    const replay = replayTrace(readTrace(sink.text));
    const clock = virtualClock();
    const port = now(replay.open(clock));
    const events: string[] = [];
    port.released.subscribe({ error: () => events.push('failed'), complete: () => events.push('released') });
    now(port.info());
    port.close();
    clock.flush();
    expect(events).toEqual(['released']);
    replay.expectFollowed();
  });

  it('gives a hostile recording no more memory than it may have', () => {
    const { trace } = record((device) => device.mapRegion(0).pipe(tap(() => undefined)));
    const huge: Trace = { ...trace, entries: trace.entries.map((entry) => (entry.kind === 'call' && entry.name === 'map' ? { ...entry, args: { region: 0, offset: 0, size: 2 ** 52 } } : entry)) };
    const port = now(replayTrace({ ...huge, entries: huge.entries.filter((entry) => entry.kind === 'call' && entry.name === 'map') }).open(virtualClock()));
    expect(() => now(port.map(0, { offset: 0, size: 2 ** 52 }))).toThrow(expect.objectContaining({ code: 'VFIO_E_LIMIT' }) as Error);
  });

  it('opens in real time, too', async () => {
    const { trace } = record((device) => device.mapRegion(0));
    const replay = replayTrace(trace);
    await new Promise<void>((resolve, reject) => {
      openDevice(replay).pipe(concatMap((device) => concat(device.mapRegion(0).pipe(ignoreElements()), defer(() => device.close())))).subscribe({ complete: resolve, error: reject });
    });
    replay.expectFollowed();
  });
});
