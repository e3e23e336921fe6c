import { concatMap, finalize, map, noop, Observable, of, tap, timer, type MonoTypeOperatorFunction, type SchedulerLike, type Subscription } from 'rxjs';
import { disregard } from '../../src/devices/call.js';
import type { VfioDevice } from '../../src/devices/device.js';
import type { DevicePort, State } from '../../src/devices/port.js';
import { subtractAreas } from '../../src/devices/protocol/areas.js';
import { isSaving } from '../../src/devices/protocol/migration-states.js';
import type { Remap } from '../../src/devices/remap-batch.js';
import type { SoftwareVendorDriver } from '../../src/devices/software/driver-face.js';
import { shapeOf, type DeviceShape } from '../../src/devices/software/options.js';
import { VfioError } from '../../src/errors.js';
import { altered, alteredIrq, openedNow } from '../support/devices.js';
import { trueCast, type Cast } from './cast.js';
import { Guest } from './guest.js';
import { Log, type AreasOf, type History, type Seen } from './history.js';
import { runClock, type RunClock } from './rest.js';
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
  /** The latest batch of the pipeline that is alive. */
  #latest: Remap | undefined;
  #stateCalls = 0;
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
  }

  play(): History {
    // The pipeline maps what may be signalled; the rest is the user's to map, once.
    for (const index of this.#device.regions.keys()) {
      if (!this.#declared.includes(index)) this.#device.mapRegion(index).subscribe();
    }
    this.#subscribe();
    let atUs = 0;
    for (const { afterUs, act } of this.#schedule.acts) {
      atUs += afterUs;
      this.#clock.scheduler.schedule(() => {
        this.#look();
        this.#perform(act);
      }, atUs / 1_000);
    }
    this.#clock.toRest();
    this.#look();
    this.#end();
    this.#look();
    const { opens, vmas, irqs, waiters, violationList: violations } = this.#driver;
    this.#log.add({ what: 'at rest', held: { opens, vmas, irqs, waiters }, violations });
    return this.#log.history;
  }

  #end(): void {
    const { ending } = this.#schedule;
    if (ending === 'close') this.#close();
    if (ending === 'subscribe again') {
      for (let n = 0; n < mostReturns && this.#pipeline === undefined; n += 1) {
        this.#subscribe();
        this.#clock.toRest();
      }
    }
    this.#clock.toRest();
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
      case 'reset': this.#device.port.reset().subscribe({ error: noop }); break;
      case 'remove': this.#driver.remove(); break;
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
      this.#pipeline = undefined;
      this.#latest = undefined;
      this.#log.add({ what: 'pipeline ended', code, irqs: this.#driver.irqs, waiters: this.#driver.waiters });
    };
    const cast = this.#cast;
    const applied = cast.remapIrq(device).pipe(
      late(0), cast.decode(device),
      late(1), cast.requery(device),
      late(2), cast.diff(device),
      late(3), cast.apply(device),
    );
    const subscription = applied.pipe(late(4), cast.acknowledge(device), finalize(ended)).subscribe({
      next: (remap) => {
        this.#latest = remap;
        this.#log.add({ what: 'batch done', acked: remap.acked });
      },
      error: (error: unknown) => { code = codeOf(error); },
      complete: () => { code = 'complete'; },
    });
    if (!subscription.closed) this.#pipeline = subscription;
  }

  #transition(target: State | 'over', deadlineMs: number | undefined): void {
    const { state } = this.#device.currentState;
    const to = target === 'over' ? (isSaving(state) ? 'running' : 'stop-copy') : target;
    const id = this.#nextId++;
    const { ackTimeoutMs, maxWaits } = this.#schedule.device;
    this.#log.add({ what: 'transition asked', id, deadlineMs: deadlineMs ?? maxWaits * ackTimeoutMs + marginMs });
    let answered = false;
    const answer = (code: string): void => {
      answered = true;
      this.#log.add({ what: 'transition answered', id, code });
    };
    const caller = this.#cast.transition(this.#device, to, deadlineMs === undefined ? {} : { deadlineMs }).subscribe({
      next: ({ data }) => { disregard(data?.close()); },
      error: (error: unknown) => { answer(codeOf(error)); },
      complete: () => { answer('done'); },
    });
    caller.add(() => {
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
    const { arcLatencyUs } = this.#schedule.device;
    const boundMs = (this.#guests.length > 0 ? closeBudgetMs : 0) + (this.#stateCalls > 0 ? (mostArcs * arcLatencyUs) / 1_000 : 0);
    this.#log.add({ what: 'closing', blocked: before, stillBlocked: this.#driver.waiters, boundMs });
  }

  /** Guests touch what they have; and if all is quiet, what is mapped must be right now. */
  #look(): void {
    for (const guest of this.#guests) guest.touch();
    const level = this.#driver.sent === this.#driver.acked && this.#driver.waiters === 0;
    if (level && this.#stateCalls === 0 && !this.#closed && this.#latest !== undefined) {
      this.#log.add({ what: 'quiet', layout: this.#driver.layout, reported: this.#latest.notMapped });
    }
  }

  #heard(seen: Seen): void {
    if (this.#opened) this.#log.add(seen);
  }

  #wire(port: DevicePort): Partial<DevicePort> {
    return {
      regionInfo: (index) => port.regionInfo(index).pipe(tap(() => { this.#heard({ what: 'query answered', region: index }); })),
      irq: (line, options) => port.irq(line, options).pipe(
        map((handle) => alteredIrq(handle, {
          next: () => handle.next().pipe(tap(({ count }) => { this.#heard({ what: 'irq read', count }); })),
          readNow: () => handle.readNow().pipe(tap((count) => { if (count !== undefined) this.#heard({ what: 'irq read', count }); })),
        })),
      ),
      setState: (to) => this.#counted(port.setState(to), () => this.#revokes(to)),
      reset: () => this.#counted(port.reset()),
    };
  }

  /** A call on the state lane, counted until it returns, whoever still listens. */
  #counted<T>(call: Observable<T>, revokes?: () => AreasOf): Observable<T> {
    return new Observable<T>((subscriber) => {
      this.#stateCalls += 1;
      // In the turn in which the call reaches the driver, just before it.
      if (revokes !== undefined) this.#clock.scheduler.schedule(() => { this.#log.add({ what: 'write begins', revokes: revokes() }); });
      const returned = (): void => {
        this.#stateCalls -= 1;
        if (revokes !== undefined) this.#log.add({ what: 'write returns' });
      };
      call.pipe(tap({ next: returned, error: returned })).subscribe(subscriber);
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
