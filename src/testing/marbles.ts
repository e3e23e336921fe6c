import { Subscription, type Observable } from 'rxjs';
import type { Clock } from '../clock.js';
import type { PortEvent } from '../diagnostics.js';
import type { Lanes } from './device-lanes.js';
import { lanesCheck, releasedCheck, type NamedDevice, type ReleasableDevice } from './expect-device.js';
import { observableCheck, recordObservable, subscriptionCheck, type Check } from './expect-observable.js';
import { FrameScheduler } from './frame-scheduler.js';
import { framesIn, type FrameUnit } from './frames.js';
import { callSite, MarbleError, type CallSite } from './marble-error.js';
import { parseMarbles } from './marble-parser.js';
import { noticingPromises } from './promise-guard.js';
import { recordLanes, type LaneRecording } from './record-lanes.js';
import { cellSource, coldSource, hotSource, type Doing, type MarbleSource } from './sources.js';
import { testDevice, type TestDevice, type TestDeviceOptions } from './test-device.js';
import { VirtualClock } from './virtual-clock.js';

/** What a value of a marble test may be called. */
export type MarbleValues<T> = Readonly<Record<string, T>>;

/** An expectation of an observable. Without a call of `toBe` it asserts nothing, and fails the test. */
export interface ObservableExpectation {
  /** `error` is what `#` stands for; a plain object matches an error by the fields it has. */
  toBe(marbles: string, values?: MarbleValues<unknown>, error?: unknown): void;
}

/** An expectation of when a source was subscribed: one string a subscription; none: never. */
export interface SubscriptionExpectation {
  toBe(marbles: string | readonly string[]): void;
}

/** An expectation of what happened at a device's port. */
export interface DeviceExpectation {
  /** Compares the lanes that are given; a lane '' is one on which nothing happens. */
  toShow(lanes: Lanes): void;
}

/** And of its teardown. */
export interface ReleasableDeviceExpectation extends DeviceExpectation {
  /** It was closed, holds nothing, and no step of its teardown failed. */
  toBeReleased(): void;
}

/** What a marble test is written with. All of it may be taken apart: `({ cold, expect }) => ...`. */
export interface MarbleTest {
  /** Virtual; its scheduler counts milliseconds as rxjs does everywhere. */
  readonly clock: Clock;
  /** Begins when it is subscribed. */
  cold<T = string>(marbles: string, values?: MarbleValues<T>, error?: unknown): MarbleSource<T>;
  /** Emits at its frames whoever listens; `^` marks frame 0. */
  hot<T = string>(marbles: string, values?: MarbleValues<T>, error?: unknown): MarbleSource<T>;
  /** A current value, `initial` at first: who subscribes late gets the current one at once. */
  cell<T extends object | string | number | bigint | boolean>(initial: T, marbles: string, values?: MarbleValues<T>): Observable<T>;
  /**
   * An open software device on virtual time, closed when the test has ended. What opening it asks is not on its lanes.
   * Throws what `openDevice` fails with.
   */
  device(options?: TestDeviceOptions): TestDevice;
  /** Calls the action of a name when its frame comes. */
  at(marbles: string, actions: Readonly<Record<string, () => void>>): void;
  /** Blocks the event loop: now for `'50ms'`, or at its frame for `'--<50ms>'`. What falls due meanwhile runs late. */
  stall(when: string): void;
  /** Runs a last check when virtual time has come to rest; counts as an expectation. */
  atEnd(check: () => void): void;
  expect<T>(actual: Observable<T>, subscription?: string): ObservableExpectation;
  expectSubscriptions(source: MarbleSource<unknown>): SubscriptionExpectation;
  expectDevice(device: ReleasableDevice): ReleasableDeviceExpectation;
  expectDevice(device: NamedDevice): DeviceExpectation;
}

/** How a marble test counts. */
export interface MarbleOptions {
  /** How long one frame is: a microsecond unless told. */
  readonly unit?: FrameUnit;
}

let running = false;

/**
 * Runs a test in virtual time, inside any test runner: it throws when an expectation does not hold, when one asserts nothing, and when
 * there is none at all. One frame is one microsecond, while rxjs's operators keep their milliseconds.
 *
 * ```ts
 * it('gives up after 5 ms', () => {
 *   marbles((t) => {
 *     const answer$ = t.cold('-a 20ms b').pipe(timeout({ each: 5, scheduler: t.clock.scheduler }));
 *     t.expect(answer$).toBe('-a 4999us #', undefined, { name: 'TimeoutError' });
 *   });
 * });
 * ```
 *
 * The notation is in docs/marbles.md.
 */
export function marbles(body: (t: MarbleTest) => void, { unit = 'us' }: MarbleOptions = {}): void {
  if (running) throw new Error('marbles() inside marbles(): one virtual time at once');
  running = true;
  const run = new Run(unit, callSite(marbles));
  try {
    run.perform(body);
  } finally {
    running = false;
    run.end();
  }
}

class Run {
  readonly #scheduler: FrameScheduler;
  readonly #clock: VirtualClock;
  readonly #called: CallSite;
  readonly #recording: LaneRecording = recordLanes(undefined, { capacity: 100_000 });
  readonly #doings: Doing[] = [];
  readonly #checks: Check[] = [];
  /** Expectations of which it is not known yet what they assert. */
  readonly #open = new Map<object, MarbleError>();
  readonly #held = new Subscription();
  /** Where in the recording the lanes of a device begin. */
  readonly #since = new Map<string, number>();

  constructor(unit: FrameUnit, called: CallSite) {
    this.#scheduler = new FrameScheduler(unit);
    this.#clock = new VirtualClock(this.#scheduler);
    this.#called = called;
  }

  perform(body: (t: MarbleTest) => void): void {
    const waitedFor: CallSite[] = [];
    const refuse = (cause?: unknown): void => {
      const [first] = waitedFor;
      if (first !== undefined) throw new MarbleError('somebody waits for a Promise in virtual time, where none ever goes on: use an Observable, with t.clock.scheduler for time', first, undefined, cause);
    };
    try {
      noticingPromises(() => this.#scheduler.run(() => {
        try {
          this.#play(body);
        } finally {
          this.#held.unsubscribe();
        }
      }), (at) => waitedFor.push(at));
    } catch (error) {
      refuse(error);
      throw error;
    }
    refuse();
  }

  /** From the body to the last check. */
  #play(body: (t: MarbleTest) => void): void {
    const maybeAsync: (t: MarbleTest) => unknown = body;
    this.#refusePromise(maybeAsync(this.#test()));
    for (const asserted of this.#open.values()) throw asserted;
    if (this.#checks.length === 0) throw new MarbleError('the test expects nothing: call t.expect(...).toBe(...), t.expectDevice(...).toShow(...) or t.atEnd(...)', this.#called);
    for (const doing of this.#doings) doing();
    this.#scheduler.flush();
    for (const check of this.#checks) check();
  }

  end(): void {
    this.#recording.stop();
  }

  /** Promises run after the test has ended: an await in a body would assert nothing. */
  #refusePromise(returned: unknown): void {
    if (typeof returned !== 'object' || returned === null || !('then' in returned)) return;
    // When virtual time is over: to wait for it here would be what it is refused for.
    queueMicrotask(() => void Promise.resolve(returned).catch(() => undefined));
    throw new MarbleError('the body of marbles() returned a Promise: Promises do not run in virtual time, write the body without async and await', this.#called);
  }

  /** An expectation that asserts nothing until `#assert`. */
  #expectation(called: (...args: never[]) => unknown, what: string): object {
    const key = {};
    this.#open.set(key, new MarbleError(`${what} asserts nothing: ${what.startsWith('t.expectDevice') ? 'call .toShow(lanes) on it' : 'call .toBe(marbles) on it'}`, callSite(called)));
    return key;
  }

  #assert(key: object, check: Check): void {
    this.#open.delete(key);
    this.#checks.push(check);
  }

  #test(): MarbleTest {
    const scheduler = this.#scheduler;
    const doLater = <T>([made, doing]: [T, Doing]): T => {
      this.#doings.push(doing);
      return made;
    };

    const expect = <T>(actual: Observable<T>, subscription?: string): ObservableExpectation => {
      const key = this.#expectation(expect, 't.expect(...)');
      const { came, subscribed } = recordObservable(scheduler, actual, subscription);
      this.#held.add(subscribed);
      const toBe: ObservableExpectation['toBe'] = (text, values, error = 'error') =>
        this.#assert(key, observableCheck(scheduler, came, text, values, error, callSite(toBe)));
      return { toBe };
    };

    const expectSubscriptions = (source: MarbleSource<unknown>): SubscriptionExpectation => {
      const key = this.#expectation(expectSubscriptions, 't.expectSubscriptions(...)');
      const toBe: SubscriptionExpectation['toBe'] = (text) =>
        this.#assert(key, subscriptionCheck(scheduler, source.subscriptions, typeof text === 'string' ? [text] : text, callSite(toBe)));
      return { toBe };
    };

    const expectDevice = (device: NamedDevice | ReleasableDevice): ReleasableDeviceExpectation => {
      const key = this.#expectation(expectDevice, 't.expectDevice(...)');
      const toShow = (lanes: Lanes): void => this.#assert(key, lanesCheck(scheduler, device, () => this.#events(device.name), lanes, callSite(toShow)));
      const toBeReleased = (): void => {
        if (!('released' in device)) throw new Error(`${device.name} has no \`released\``);
        this.#assert(key, releasedCheck(device, callSite(toBeReleased)));
      };
      return { toShow, toBeReleased };
    };

    const at: MarbleTest['at'] = (text, actions) => {
      const marks = parseMarbles(text, 'values', scheduler.unit);
      for (const { name } of marks) if (!Object.hasOwn(actions, name)) throw new Error(`t.at("${text}") names <${name}>, and there is no such action`);
      this.#doings.push(() => {
        for (const { frame, name } of marks) scheduler.atFrame(frame, () => actions[name]?.());
      });
    };

    const stall = (when: string): void => {
      const frames = framesIn(when, scheduler.unit);
      if (frames !== undefined) {
        this.#clock.stall(frames);
        return;
      }
      const names = new Set(parseMarbles(when, 'values', scheduler.unit).map(({ name }) => name));
      at(when, Object.fromEntries([...names].map((name) => [name, () => this.#stallFor(name)])));
    };

    const device = (options: TestDeviceOptions = {}): TestDevice => {
      const opened = doLater(testDevice(scheduler, this.#clock, options, stall));
      this.#since.set(opened.name, this.#recording.events.length);
      this.#held.add(() => void opened.close());
      return opened;
    };

    return {
      clock: this.#clock,
      cold: (text, values, error = 'error') => coldSource(scheduler, text, values, error),
      hot: (text, values, error = 'error') => doLater(hotSource(scheduler, text, values, error)),
      cell: (initial, text, values) => doLater(cellSource(scheduler, initial, text, values)),
      device,
      at,
      stall,
      atEnd: (check) => this.#checks.push(check),
      expect,
      expectSubscriptions,
      expectDevice,
    };
  }

  #events(device: string): readonly PortEvent[] {
    return this.#recording.events.slice(this.#since.get(device) ?? 0);
  }

  #stallFor(duration: string): void {
    const frames = framesIn(duration, this.#scheduler.unit);
    if (frames === undefined) throw new Error(`<${duration}> is no duration: t.stall('50ms') or t.stall('--<50ms>')`);
    this.#clock.stall(frames);
  }
}
