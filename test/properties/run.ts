import { concatMap, defer, finalize, map, noop, Observable, of, tap, timer, type MonoTypeOperatorFunction, type SchedulerLike, type Subscription } from 'rxjs';
import { disregard } from '../../src/devices/call.js';
import type { VfioDevice } from '../../src/devices/device.js';
import type { Area, DevicePort, State } from '../../src/devices/port.js';
import { subtractAreas } from '../../src/devices/protocol/areas.js';
import { changesNothing } from '../../src/devices/protocol/layout-diff.js';
import { isSaving } from '../../src/devices/protocol/migration-states.js';
import type { AppliedRemap } from '../../src/devices/remap-batch.js';
import type { SoftwareVendorDriver } from '../../src/devices/software/driver-face.js';
import { shapeOf, type DeviceShape } from '../../src/devices/software/options.js';
import { VfioError } from '../../src/errors.js';
import { altered, alteredIrq, openedNow } from '../support/devices.js';
import { trueCast, type Cast } from './cast.js';
import { Guest } from './guest.js';
import { Log, type AreasOf, type History, type Seen, type Unmapped } from './history.js';
import { runClock, type RunClock } from './rest.js';
import { ackKind, hasIrq } from './rows.js';
import { declaredRegions, deviceOptions, type Act, type Schedule } from './schedule.js';

/** What a caller's deadline is where it brings none: the driver's waits, and this (README). */
const marginMs = 5_000;
/** How long closing waits for holders. */
const closeBudgetMs = 100;
/** The longest way through the states. */
const mostArcs = 6;
/** A user that subscribes again does so until the faults are used up. */
const mostReturns = 6;

/** Plays a schedule to its end, in virtual time. Throws where that never comes to rest, or where something throws that must not. */
export function play(schedule: Schedule, cast: Cast = trueCast): History {
  return new Run(schedule, cast).play();
}

class Run {
  readonly #schedule: Schedule;
  readonly #cast: Cast;
  readonly #clock: RunClock = runClock();
  readonly #shape: DeviceShape;
  readonly #declared: readonly number[];
  readonly #device: VfioDevice;
  readonly #driver: SoftwareVendorDriver;
  readonly #log: Log;
  readonly #guests: Guest[] = [];
  readonly #callers: Subscription[] = [];
  #pipeline: Subscription | undefined;
  /** A batch of the pipeline that is alive has ended; where there is no irq, one ever has. */
  #served = false;
  /** What the latest batch about a region could not map of it. */
  readonly #reported = new Map<number, readonly Unmapped[]>();
  /** The number of the batch that is under way. */
  #batch: number | undefined;
  #stateCalls = 0;
  /** Callers who have no answer yet, and those whose write has reached the port. */
  readonly #unanswered = new Set<number>();
  readonly #written = new Set<number>();
  #removed = false;
  #nextId = 0;
  #closed = false;
  /** What opening asks is no part of the run. */
  #opened = false;

  constructor(schedule: Schedule, cast: Cast) {
    this.#schedule = schedule;
    this.#cast = cast;
    const options = deviceOptions(schedule.device);
    this.#shape = shapeOf(options);
    this.#declared = declaredRegions(schedule.device);
    // The wire is between the driver and the part that the cast plays: what passes there has really been said.
    const { device, driver } = openedNow(this.#clock, options, (port) => altered(altered(altered(port, cast.driver), (inner) => this.#wire(inner)), cast.port));
    this.#device = device;
    this.#driver = driver;
    this.#log = new Log(driver, () => this.#clock.nowNs());
    this.#opened = true;
    driver.faults.signalDelayUs = schedule.device.signalDelayUs;
    driver.faults.arcLatencyUs = schedule.device.arcLatencyUs;
    schedule.misbehaviour.begin(driver.faults);
  }

  play(): History {
    // The pipeline maps what may be signalled; the rest is the user's to map, once.
    for (const index of this.#device.regions.keys()) {
      if (!this.#declared.includes(index)) this.#device.mapRegion(index).subscribe();
    }
    if (this.#schedule.subscribesAtOnce) this.#subscribe();
    let atUs = 0;
    for (const { afterUs, act } of this.#schedule.acts) {
      atUs += afterUs;
      this.#clock.scheduler.schedule(() => {
        this.#look();
        this.#perform(act);
      }, atUs / 1_000);
    }
    this.#clock.toRest();
    this.#look(true);
    let laterUs = 0;
    for (const { afterUs, act } of this.#schedule.afterRest) {
      laterUs += afterUs;
      this.#clock.scheduler.schedule(() => { this.#perform(act); }, laterUs / 1_000);
    }
    this.#clock.toRest();
    this.#look(true);
    this.#end();
    this.#look(true);
    const { opens, vmas, irqs, waiters, violationList: violations } = this.#driver;
    this.#log.add({ what: 'at rest', held: { opens, vmas, irqs, waiters }, violations });
    return this.#log.history;
  }

  #end(): void {
    const { ending } = this.#schedule;
    if (ending === 'close') this.#close();
    if (ending === 'subscribe again') this.#subscribeAgain();
    if (ending === 'anew, then close') {
      this.#pipeline?.unsubscribe();
      this.#subscribeAgain();
      this.#look(true, true);
      this.#close();
    }
    this.#clock.toRest();
  }

  /** Until the faults are used up. */
  #subscribeAgain(): void {
    for (let n = 0; n < mostReturns && this.#pipeline === undefined; n += 1) {
      this.#subscribe();
      this.#clock.toRest();
    }
  }

  #perform(act: Act): void {
    const region = 'region' in act ? (this.#declared[act.region % this.#declared.length] ?? 0) : 0;
    const { faults } = this.#driver;
    switch (act.do) {
      case 'transition': this.#transition(act.to, act.deadlineMs); break;
      case 'detach': this.#callers.pop()?.unsubscribe(); break;
      case 'revoke': this.#driver.revoke(region); break;
      case 'restore': this.#driver.restore(region); break;
      case 'flicker': this.#driver.revoke(region); this.#driver.restore(region); break;
      case 'touch': this.#touch(region); break;
      case 'hold': this.#hold(region, act.letsGoAfterUs); break;
      case 'fail query': faults.failQuery(region, 'EIO', act.times); break;
      case 'fail map': faults.failMap(region, 'ENOMEM', act.times); break;
      case 'fail arc': faults.failArc(act.to, 'EIO'); break;
      case 'ignore acks': faults.ignoreAcks = act.on; break;
      case 'subscribe': this.#subscribe(); break;
      case 'unsubscribe': this.#pipeline?.unsubscribe(); break;
      // At the port a reset comes in the middle of a write, too; where layouts follow the state it is the user's to prepare.
      case 'reset': (hasIrq(this.#schedule.device.row) ? this.#device.port : this.#device).reset().subscribe({ error: noop }); break;
      case 'remove': this.#remove(); break;
      case 'close': this.#close(); break;
    }
  }

  #subscribe(): void {
    if (this.#pipeline !== undefined) return;
    const device = this.#device;
    const { scheduler } = this.#clock;
    const late = <T>(step: number): MonoTypeOperatorFunction<T> => lateBy(this.#schedule.lateUs[step] ?? [], scheduler);
    let code = 'unsubscribed';
    const ended = (): void => {
      // Without an irq the device goes on by itself; but a batch that was cut off maps nothing (and its transition says so: VFIO_E_CANCELED).
      if (hasIrq(this.#schedule.device.row) || this.#batch !== undefined) this.#served = false;
      this.#pipeline = undefined;
      this.#batch = undefined;
      this.#log.add({ what: 'pipeline ended', code, irqs: this.#driver.irqs, waiters: this.#driver.waiters });
    };
    const cast = this.#cast;
    const signals = cast.remapIrq(device, this.#schedule.device.row.wishes).pipe(tap(({ batch }) => { this.#batch = batch; }));
    const applied = signals.pipe(
      late(0), cast.decode(device),
      late(1), cast.requery(device),
      late(2), cast.diff(device),
      late(3), cast.apply(device),
    ).pipe(tap((batch) => { this.#applied(batch); }));
    const subscription = applied.pipe(late(4), cast.acknowledge(device), finalize(ended)).subscribe({
      next: ({ acked }) => {
        this.#served = true;
        // Its end comes right after this, and may begin the next one.
        this.#batch = undefined;
        this.#log.add({ what: 'batch done', acked });
      },
      error: (error: unknown) => { code = codeOf(error); },
      complete: () => { code = 'complete'; },
    });
    if (!subscription.closed) this.#pipeline = subscription;
  }

  #applied({ channel, candidates, sumRead, doubtful, diffs, notMapped }: AppliedRemap): void {
    if (hasIrq(this.#schedule.device.row)) for (const { index } of diffs) this.#reported.set(index, notMapped.filter((one) => one.index === index));
    const earns = sumRead > 0n && (!doubtful || !diffs.every(changesNothing));
    this.#log.add({ what: 'batch applied', page: channel.page, candidates: [...candidates], earns });
  }

  /** Without an irq no batch reports: what cannot be mapped after a write of device_state is told on the warning channel. */
  #mapped(index: number, area: Area, done: boolean): void {
    if (hasIrq(this.#schedule.device.row)) return;
    const others = (this.#reported.get(index) ?? []).filter((one) => one.area.offset !== area.offset);
    this.#reported.set(index, done ? others : [...others, { index, area }]);
  }

  #remove(): void {
    this.#removed = true;
    this.#log.add({ what: 'removed' });
    this.#driver.remove();
  }

  #transition(target: State | 'over', deadlineMs: number | undefined): void {
    const { state } = this.#device.currentState;
    const to = target === 'over' ? (isSaving(state) ? 'running' : 'stop-copy') : target;
    const id = this.#nextId++;
    const { row, ackTimeoutMs, maxWaits } = this.#schedule.device;
    // A driver without the present irq does not say how long it waits.
    const longestWaitMs = ackKind(row) === 'bare' || !hasIrq(row) ? 0 : maxWaits * ackTimeoutMs;
    this.#log.add({ what: 'transition asked', id, deadlineMs: deadlineMs ?? longestWaitMs + marginMs });
    this.#unanswered.add(id);
    let answered = false;
    const answer = (code: string): void => {
      answered = true;
      this.#unanswered.delete(id);
      this.#log.add({ what: 'transition answered', id, code, written: this.#written.has(id), layout: this.#driver.layout });
    };
    const caller = this.#cast.transition(this.#device, to, deadlineMs === undefined ? {} : { deadlineMs }).subscribe({
      next: ({ data }) => { disregard(data?.close()); },
      error: (error: unknown) => { answer(codeOf(error)); },
      complete: () => { answer('done'); },
    });
    caller.add(() => {
      this.#unanswered.delete(id);
      if (!answered) this.#log.add({ what: 'transition detached', id });
    });
    this.#callers.push(caller);
  }

  /** A store through the accessor; where the area is trapped and cannot be reached at once it says so. */
  #touch(region: number): void {
    try {
      this.#device.region(region).write32(0, 7);
    } catch (error) {
      if (!VfioError.is(error) || (error.code !== 'VFIO_E_WOULD_BLOCK' && error.code !== 'VFIO_E_CLOSED' && error.code !== 'VFIO_E_NO_DEVICE')) throw error;
    }
  }

  #hold(region: number, letsGoAfterUs: number): void {
    const guest = new Guest(this.#clock.scheduler, letsGoAfterUs);
    const { size } = this.#device.region(region);
    this.#guests.push(guest);
    this.#device.region(region).hold([{ offset: 0, size }], this.#cast.holder(guest)).subscribe({ error: noop });
  }

  #close(): void {
    const before = this.#driver.waiters;
    if (!this.#closed) this.#device.released.subscribe({ error: noop, complete: () => { this.#log.add({ what: 'released' }); } });
    void this.#device.close();
    if (this.#closed) return;
    this.#closed = true;
    const { arcLatencyUs, ackTimeoutMs, maxWaits } = this.#schedule.device;
    const timeoutMs = this.#stateCalls > 0 ? maxWaits * ackTimeoutMs + this.#driver.faults.stallMs : 0;
    const boundMs = (this.#guests.length > 0 ? closeBudgetMs : 0) + (this.#stateCalls > 0 ? (mostArcs * arcLatencyUs) / 1_000 : 0);
    this.#log.add({ what: 'closing', blocked: before, stillBlocked: this.#driver.waiters, boundMs, timeoutMs });
  }

  /** Guests touch what they have; and if all is quiet, what is mapped must be right now. */
  #look(atRest = false, anew = false): void {
    for (const guest of this.#guests) guest.touch();
    // While time passes only a driver that is told sums can say that it has back what it sent.
    const level = atRest || (ackKind(this.#schedule.device.row) === 'value' && this.#driver.pages.every(({ sent, acked }) => sent === acked));
    if (!level || this.#driver.waiters > 0 || this.#stateCalls > 0 || this.#batch !== undefined || !this.#served || this.#closed || this.#removed) return;
    this.#log.add({ what: 'quiet', layout: this.#driver.layout, reported: [...this.#reported.values()].flat(), anew });
  }

  #heard(seen: Seen): void {
    if (this.#opened) this.#log.add(seen);
  }

  #wire(port: DevicePort): Partial<DevicePort> {
    return {
      regionInfo: (index) => port.regionInfo(index).pipe(tap(() => { this.#heard({ what: 'query answered', region: index }); })),
      irq: (line, options) => {
        const page = this.#shape.remap?.pages.find(({ irqIndex }) => irqIndex === line.index)?.page ?? 0;
        return port.irq(line, options).pipe(
          map((handle) => alteredIrq(handle, {
            next: () => handle.next().pipe(tap(({ count }) => { this.#heard({ what: 'irq read', page, count }); })),
            readNow: () => handle.readNow().pipe(tap((count) => { if (count !== undefined) this.#heard({ what: 'irq read', page, count }); })),
          })),
        );
      },
      map: (region, area) => port.map(region, area).pipe(tap({
        next: () => { this.#mapped(region, area, true); },
        error: () => { this.#mapped(region, area, false); },
      })),
      getState: () => this.#counted(port.getState()),
      setState: (to) => defer(() => {
        const writer = [...this.#unanswered].at(-1);
        if (writer !== undefined) this.#written.add(writer);
        return this.#counted(port.setState(to), () => { this.#begins(to, writer); });
      }),
      reset: () => this.#counted(port.reset()),
    };
  }

  /** A call on the state lane, counted until it returns, whoever still listens. */
  #counted<T>(call: Observable<T>, begins?: () => void): Observable<T> {
    return new Observable<T>((subscriber) => {
      this.#stateCalls += 1;
      // In the turn in which the call reaches the driver, just before it.
      if (begins !== undefined) this.#clock.scheduler.schedule(begins);
      const returned = (): void => {
        this.#stateCalls -= 1;
        if (begins !== undefined) this.#log.add({ what: 'write returns' });
      };
      call.pipe(tap({ next: returned, error: returned })).subscribe(subscriber);
    });
  }

  #begins(to: State, id: number | undefined): void {
    const { pages, irqs, state } = this.#driver;
    const revokes = this.#revokes(to);
    this.#log.add({
      what: 'write begins',
      id,
      revokes,
      needsIrq: [...revokes.values()].some((areas) => areas.length > 0),
      enters: isSaving(to) && !isSaving(state),
      complete: pages.every(({ complete }) => complete),
      irqs,
    });
  }

  #revokes(to: State): AreasOf {
    const group = (index: number) => {
      const region = this.#shape.regions.get(index);
      return (isSaving(to) ? region?.savingAreas : region?.areas) ?? [];
    };
    return new Map([...this.#driver.layout].map(([index, offered]) => [index, subtractAreas(offered, group(index))]));
  }
}

function lateBy<T>(us: readonly number[], scheduler: SchedulerLike): MonoTypeOperatorFunction<T> {
  if (us.every((one) => one === 0)) return (source) => source;
  return concatMap((value, batch) => {
    const late = us[batch % us.length] ?? 0;
    return late === 0 ? of(value) : timer(late / 1_000, scheduler).pipe(map(() => value));
  });
}

/** Anything but an error of this library is one of the code under test. */
function codeOf(error: unknown): string {
  if (VfioError.is(error)) return error.code;
  throw error;
}
