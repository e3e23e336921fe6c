import { catchError, concat, concatMap, defer, forkJoin, ignoreElements, map, merge, NEVER, observeOn, of, Subject, Subscription, take, tap, type Observable, type Subscriber } from 'rxjs';
import type { Clock } from '../clock.js';
import { disregard } from '../devices/call.js';
import type { VfioDevice } from '../devices/device.js';
import { VfioError } from '../errors.js';
import { resumeState } from '../streams/resume-state.js';
import type { Connection, Transport } from '../transport/transport.js';
import { mostDataBytes } from '../wire/frame.js';
import { destinationStep, type DestinationAct, type DestinationEvent, type DestinationPhase, type DestinationRecord } from '../wire/handover-destination.js';
import { commonVersion, incompatible, requireSameKind, type Hello } from '../wire/hello.js';
import type { Message } from '../wire/message.js';
import { Conversation } from './conversation.js';
import { deviceKind } from './device-kind.js';
import { allAtRest, allRun, discardAll, onTheWay, within } from './device-states.js';
import { Handover } from './handover.js';
import { Loader } from './loader.js';
import { Outcome } from './outcome.js';
import { defaultDeadlines, type Deadlines, type DeviceProgress, type MigrationEvent, type Phase, type ReceivePlan } from './plan.js';

const progressNs = 200_000_000n;

/** More in flight helps nobody, bytes. */
const defaultWindowBytes = 16 << 20;

const operation = 'receive';

/** One migration from the destination's side; like `SourceRun` it outlives its subscriber. */
export class DestinationRun {
  readonly #plan: ReceivePlan;
  readonly #clock: Clock;
  readonly #deadlines: Deadlines;
  readonly #outcome: Outcome;
  readonly #talk: Conversation;
  readonly #handover = new Handover<DestinationPhase, DestinationEvent, DestinationAct>('loading', destinationStep, (act) => { this.#perform(act); });
  /** All that leads to `loaded`. */
  readonly #work = new Subscription();
  /** Completes when every byte has been written to its device. */
  readonly #written = new Subject<never>();
  #migration = '';
  /** In the order of the hello. */
  #devices: readonly VfioDevice[] = [];
  #loaders: readonly Loader[] = [];
  #phase: Phase = 'check';
  #failure: VfioError | undefined;
  #lastByteNs = 0n;
  #toldNs = 0n;
  /** The subscriber has had its last word. */
  #over = false;

  constructor(plan: ReceivePlan, out: Subscriber<MigrationEvent>) {
    const [first] = plan.devices;
    if (first === undefined) throw new VfioError('VFIO_E_RANGE', 'one device at least has to be there to be loaded', { operation });
    this.#plan = plan;
    this.#clock = first.destination.clock;
    this.#deadlines = { ...defaultDeadlines, ...plan.deadlines };
    this.#outcome = new Outcome(out);
    this.#talk = new Conversation(this.#clock, { hear: (message) => this.#hear(message), lost: (error) => this.#lost(error), fail: (error) => this.#fail(error) });
  }

  start(): void {
    const moved = merge(
      defer(() => merge(...this.#loaders.map(({ load }) => load))).pipe(tap(this.#written)),
      concat(this.#inPhase('pre-copy', () => this.#talk.hears('switch-over')), this.#inPhase('transfer', () => this.#switchOver())),
    );
    const work = this.#plan.transport.open(this.#clock).pipe(
      concatMap((connection) => concat(this.#inPhase('check', () => this.#greet(connection)), moved, this.#inPhase('prepare', () => this.#prepare()))),
    );
    const fail = (error: unknown): void => this.#fail(error);
    this.#work.add((this.#plan.abort ?? NEVER).pipe(take(1)).subscribe({ next: () => this.abort(), error: fail }));
    this.#work.add(work.subscribe({ error: fail, complete: () => this.#handover.post('loaded') }));
  }

  /** The caller wants it no longer: before COMMIT this always helps. */
  abort(): void {
    if (this.#over) return;
    this.#blame(new VfioError('VFIO_E_ABORTED', 'the caller gave the migration up', { operation }));
    this.#handover.post('give-up');
  }

  #fail(error: unknown): void {
    this.#blame(error);
    this.#handover.post('failed');
  }

  #lost(error: unknown): void {
    this.#blame(error);
    this.#handover.post('lost');
  }

  /** The first failure is the reason of what follows. */
  #blame(error: unknown): void {
    this.#failure ??= VfioError.is(error) ? error : new VfioError('VFIO_E_ABORTED', `it failed: ${String(error)}`, { operation, cause: error });
  }

  // ── before it is prepared ──────────────────────────────────────────────────────────────────────────────────────────

  #inPhase(phase: Phase, work: () => Observable<unknown>): Observable<never> {
    return defer(() => {
      this.#enter(phase);
      return within(defer(work), this.#deadlines[phase], this.#clock, () => this.#late(phase));
    });
  }

  #late(phase: Phase): VfioError {
    return new VfioError('VFIO_E_DEADLINE', `the destination's phase ${phase} was not over within ${this.#deadlines[phase]} ms`, { operation });
  }

  /** Every device is of the same kind as its source, and takes state. */
  #greet(connection: Connection): Observable<never> {
    return this.#talk.listen(connection).pipe(
      concatMap((hello) => {
        const version = commonVersion(hello.versions);
        if (hello.purpose !== 'migrate') throw incompatible('the source came to resolve a migration, and this side waits for one to begin');
        this.#migration = hello.migration;
        this.#devices = hello.devices.map(({ destination }) => this.#deviceNamed(destination));
        if (this.#devices.length === 0 || new Set(this.#devices).size < this.#devices.length) throw incompatible('the source names no device, or one of them twice');
        const fit = forkJoin(this.#devices.map((device, place) => deviceKind(device, device.name).pipe(tap((own) => this.#requireFit(hello, place, own)))));
        const resuming = forkJoin(this.#devices.map((device) => resumeState(device, { deadlineMs: this.#deadlines.stop }).pipe(onTheWay('destination', 'resuming'))));
        const windowBytes = Math.max(1, Math.floor((this.#plan.windowBytes ?? defaultWindowBytes) / this.#devices.length));
        const ready = resuming.pipe(
          tap((sessions) => {
            this.#loaders = sessions.map((session, place) => new Loader(session, place, this.#talk.link, windowBytes));
            this.#talk.say({ type: 'welcome', welcome: { version, migration: hello.migration, windowBytes, chunkBytes: Math.min(mostDataBytes, windowBytes) } });
          }),
        );
        return concat(fit, this.#record('begun'), ready).pipe(ignoreElements());
      }),
    );
  }

  #requireFit(hello: Hello, place: number, own: Hello['devices'][number]): void {
    const source = hello.devices[place];
    if (source !== undefined) requireSameKind(source, own);
  }

  #deviceNamed(name: string): VfioDevice {
    const found = this.#plan.devices.find((device) => device.name === name);
    if (found === undefined) throw incompatible(`there is no device of this name here: ${this.#plan.devices.map((device) => device.name).join(', ')}`, name);
    return found.destination;
  }

  #switchOver(): Observable<never> {
    this.#talk.say({ type: 'switch-over-ok' });
    return this.#written;
  }

  /** All devices load what they got, and judge it: stopped, and nothing runs. */
  #prepare(): Observable<unknown> {
    return forkJoin(this.#loaders.map(({ resuming }) => resuming.end({ deadlineMs: this.#deadlines.prepare }).pipe(onTheWay('destination', 'stop'))));
  }

  #hear(message: Message): void {
    switch (message.type) {
      case 'data':
        this.#loaders[message.device]?.take(message.bytes);
        this.#lastByteNs = this.#clock.nowNs();
        if (this.#lastByteNs - this.#toldNs >= progressNs) this.#tell();
        return;
      case 'end': this.#loaders[message.device]?.end(message.bytes, message.crc); return;
      case 'commit': this.#handover.post('commit'); return;
      case 'abort':
        this.#blame(new VfioError('VFIO_E_PEER', `the source gave it up: ${message.reason.message}`, { operation, cause: message.reason }));
        this.#handover.post('abort');
    }
  }

  // ── what the handover asks for ─────────────────────────────────────────────────────────────────────────────────────

  #perform(act: DestinationAct): void {
    switch (act.act) {
      case 'record':
        this.#record(act.record).subscribe({
          error: (error: unknown) => {
            this.#blame(error);
            this.#handover.post('not-recorded');
          },
          complete: () => this.#handover.post('recorded'),
        });
        return;
      case 'send': this.#say(act.message); return;
      case 'run': this.#run(); return;
      case 'discard': this.#discard(); return;
      case 'doubt': this.#doubt(); return;
    }
  }

  #record(record: DestinationRecord): Observable<never> {
    return this.#plan.journal.write({ migration: this.#migration, devices: this.#devices.map(({ name }) => name), side: 'destination', record }).pipe(ignoreElements());
  }

  #say(message: 'prepared' | 'confirmed' | 'never-ran' | 'abort'): void {
    if (message === 'prepared') {
      this.#enter('commit');
      this.#talk.after(this.#deadlines.commit, () => this.#fail(this.#late('commit')));
    }
    this.#talk.say(message === 'abort' ? { type: 'abort', reason: this.#why() } : { type: message });
    if (message === 'confirmed') this.#moved();
  }

  #run(): void {
    this.#enter('release');
    // A device that has left STOP has run; where none has, the source may have them back.
    const stand = (): boolean => this.#devices.every(({ currentState }) => currentState.state === 'stop' && currentState.going === undefined);
    const failed = (error: unknown): Observable<DestinationEvent> => {
      this.#blame(error);
      return concat(allAtRest(this.#devices, this.#deadlines.release), defer(() => of<DestinationEvent>(stand() ? 'run-failed' : 'run-broke')));
    };
    concat(allRun(this.#devices, this.#deadlines.release), of<DestinationEvent>('ran')).pipe(catchError(failed)).subscribe({
      next: (event) => this.#handover.post(event),
      error: (error: unknown) => this.#blame(error),
    });
  }

  #moved(): void {
    this.#finish();
    const atNs = this.#clock.nowNs();
    this.#outcome.moved({ phase: 'moved', atNs, devices: this.#progress(), downtimeNs: atNs - this.#lastByteNs });
  }

  #discard(): void {
    this.#work.unsubscribe();
    this.#enter('roll-back');
    for (const { resuming } of this.#loaders) disregard(resuming.close());
    // A turn later: what is to be said to the source goes first.
    discardAll(this.#devices, this.#deadlines['roll-back']).pipe(observeOn(this.#clock.scheduler)).subscribe({
      error: (error: unknown) => this.#discarded(error),
      complete: () => this.#discarded(),
    });
  }

  #discarded(error?: unknown): void {
    if (error !== undefined) this.#blame(error);
    this.#tell();
    this.#finish();
    this.#outcome.notMoved(this.#why());
  }

  #doubt(): void {
    this.#finish();
    this.#outcome.doubt({ atNs: this.#clock.nowNs(), devices: this.#progress(), because: this.#why() }, (transport = this.#plan.transport) => this.#ask(transport));
  }

  /** Waits for the source, which holds the decision. */
  #ask(transport: Transport): Observable<unknown> {
    return defer(() => {
      this.#failure = undefined;
      return transport.open(this.#clock).pipe(
        concatMap((connection) => this.#talk.listen(connection)),
        map((hello) => {
          const version = commonVersion(hello.versions);
          if (hello.purpose !== 'resolve' || hello.migration !== this.#migration) throw incompatible('the source came about another migration');
          this.#talk.say({ type: 'welcome', welcome: { version, migration: hello.migration, windowBytes: 1, chunkBytes: 1 } });
          this.#handover.post('connected');
        }),
        tap({ error: () => this.#talk.hangUp() }),
      );
    });
  }

  // ── small things ───────────────────────────────────────────────────────────────────────────────────────────────────

  #finish(): void {
    this.#over = true;
    this.#work.unsubscribe();
    this.#talk.hangUp();
  }

  #why(): VfioError {
    return this.#failure ?? new VfioError('VFIO_E_ABORTED', 'it was given up', { operation });
  }

  #enter(phase: Phase): void {
    this.#phase = phase;
    this.#tell();
  }

  #tell(): void {
    this.#toldNs = this.#clock.nowNs();
    this.#outcome.tell({ phase: this.#phase, atNs: this.#toldNs, devices: this.#progress() });
  }

  #progress(): readonly DeviceProgress[] {
    return this.#devices.map((device, place) => ({ device: device.name, state: device.currentState.state, bytes: this.#loaders[place]?.bytes ?? 0n, remaining: 0n }));
  }
}
