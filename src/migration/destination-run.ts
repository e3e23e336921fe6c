import { catchError, concat, concatMap, defer, EMPTY, forkJoin, ignoreElements, map, merge, NEVER, observeOn, of, Subject, Subscription, take, tap, type Observable, type Subscriber } from 'rxjs';
import type { Clock } from '../clock.js';
import { disregard } from '../devices/call.js';
import type { VfioDevice } from '../devices/device.js';
import type { Call } from '../devices/port.js';
import { all, steps, type Steps } from '../devices/steps.js';
import { VfioError } from '../errors.js';
import { resumeState, type ResumingState } from '../streams/resume-state.js';
import type { Connection, Transport } from '../transport/transport.js';
import { mostDataBytes } from '../wire/frame.js';
import { destinationStep, type DestinationAct, type DestinationEvent, type DestinationPhase, type DestinationRecord } from '../wire/handover-destination.js';
import { commonVersion, incompatible, requireSameKind, type Hello } from '../wire/hello.js';
import type { Message } from '../wire/message.js';
import { claim } from './claim.js';
import { Conversation } from './conversation.js';
import { Course } from './course.js';
import { deviceKind } from './device-kind.js';
import { allAtRest, allRun, callOnTheWay, discardAll, onTheWay, requireAllIn, withLeft } from './device-states.js';
import { Handover } from './handover.js';
import type { JournalEntry } from './journal.js';
import { Loader } from './loader.js';
import { failedError, signsOf } from './signs.js';
import type { DeviceProgress, MigrationEvent, ReceivePlan } from './plan.js';

/** More in flight helps nobody, bytes. */
const defaultWindowBytes = 16 << 20;

const operation = 'receive';

/** One migration from the destination's side; like `SourceRun` it outlives its subscriber. */
export class DestinationRun {
  readonly #plan: ReceivePlan;
  readonly #clock: Clock;
  readonly #course: Course;
  readonly #talk: Conversation;
  readonly #handover = new Handover<DestinationPhase, DestinationEvent, DestinationAct>('loading', destinationStep, (act) => { this.#perform(act); });
  /** All that leads to `loaded`. */
  readonly #work = new Subscription();
  /** Completes when every byte has been written to its device. */
  readonly #written = new Subject<never>();
  /** Completes when every device has loaded what it got. */
  readonly #loaded = new Subject<never>();
  #migration = '';
  /** In the order of the hello; none before they are taken: then they are somebody else's, and not touched. */
  #devices: readonly VfioDevice[] = [];
  /** Those that were told to take state, and are not as they were found: all, or none. */
  #touched: readonly VfioDevice[] = [];
  #letGo = (): void => undefined;
  /** As they come: where one device fails, the others' are closed all the same. */
  readonly #sessions: ResumingState[] = [];
  #loaders: readonly Loader[] = [];
  #lastByteNs = 0n;
  /** The subscriber has had its last word. */
  #over = false;

  constructor(plan: ReceivePlan, out: Subscriber<MigrationEvent>) {
    const [first] = plan.devices;
    if (first === undefined) throw new VfioError('VFIO_E_RANGE', 'one device at least has to be there to be loaded', { operation });
    this.#plan = plan;
    this.#clock = first.destination.clock;
    this.#course = new Course({ side: 'destination', clock: this.#clock, deadlines: plan.deadlines, journal: plan.journal, progress: () => this.#progress(), devices: plan.devices.map(({ destination }) => destination) }, out);
    this.#talk = new Conversation(this.#clock, { hear: (message) => this.#hear(message), lost: (error) => this.#lost(error), fail: (error) => this.#fail(error) });
  }

  start(): void {
    const moved = merge(
      defer(() => this.#load()).pipe(tap({ complete: () => this.#loaded.complete() })),
      concat(
        this.#course.inPhase('pre-copy', () => this.#talk.hears('switch-over')),
        this.#course.inPhase('transfer', () => this.#switchOver()),
        this.#course.inPhase('prepare', () => this.#loaded),
      ),
    );
    // What is said to be prepared is so: a device may have stopped long before the last one.
    const stopped = defer(() => {
      requireAllIn(this.#devices, 'stop', operation);
      return EMPTY;
    });
    const work = this.#plan.transport.open(this.#clock).pipe(
      concatMap((connection) => concat(this.#course.inPhase('check', () => this.#greet(connection)), moved, stopped)),
    );
    const fail = (error: unknown): void => this.#fail(error);
    this.#work.add((this.#plan.abort ?? NEVER).pipe(take(1)).subscribe({ next: () => this.abort(), error: (error: unknown) => this.#giveUp(this.#course.typed(error)) }));
    // It may have been given up already.
    if (!this.#work.closed) this.#work.add(work.subscribe({ error: fail, complete: () => this.#handover.post('loaded') }));
  }

  /** The caller wants it no longer: before COMMIT this always helps. */
  abort(): void {
    this.#giveUp(this.#course.error('VFIO_E_ABORTED', 'the caller gave the migration up'));
  }

  #giveUp(why: VfioError): void {
    const begun = this.#handover.phase === 'starting' || this.#handover.phase === 'running';
    if (this.#over || begun) return;
    this.#course.blame(why);
    this.#handover.post('give-up');
  }

  #fail(error: unknown): void {
    this.#course.blame(error);
    this.#handover.post('failed');
  }

  #lost(error: unknown): void {
    this.#course.blame(error);
    this.#handover.post('lost');
  }

  // ── before it is prepared ──────────────────────────────────────────────────────────────────────────────────────────

  /** Every device is of the same kind as its source, and takes state. */
  #greet(connection: Connection): Observable<never> {
    return this.#talk.listen(connection).pipe(
      concatMap((hello) => {
        const version = commonVersion(hello.versions);
        if (hello.purpose !== 'migrate') throw incompatible('the source came to resolve a migration, and this side waits for one to begin');
        this.#migration = hello.migration;
        const devices = hello.devices.map(({ destination }) => this.#deviceNamed(destination));
        if (devices.length === 0 || new Set(devices).size < devices.length) throw incompatible('the source names no device, or one of them twice');
        const fit = forkJoin(devices.map((device, place) => deviceKind(device, device.name).pipe(tap((own) => this.#requireFit(hello, place, own)))));
        const taken = defer(() => {
          const held = new Subscription(claim(devices, operation));
          this.#letGo = () => held.unsubscribe();
          this.#devices = devices;
          held.add(signsOf(devices, {
            failed: (device) => this.#giveUp(failedError(operation, device)),
            asked: ({ name }) => this.#giveUp(new VfioError('VFIO_E_ABORTED', 'the kernel asks for the device back (REQ): it can take none', { operation, device: name })),
          }));
          return this.#course.write(this.#entry('begun'));
        });
        const resuming = defer(() => forkJoin((this.#touched = devices).map((device) => resumeState(device, { deadlineMs: this.#course.deadlines.stop }).pipe(onTheWay('destination', 'resuming'), tap((session) => this.#sessions.push(session))))));
        const windowBytes = Math.max(1, Math.floor((this.#plan.windowBytes ?? defaultWindowBytes) / devices.length));
        const ready = resuming.pipe(
          tap((sessions) => {
            this.#loaders = sessions.map((session, place) => new Loader(session, place, this.#talk.link, windowBytes));
            this.#talk.say({ type: 'welcome', welcome: { version, migration: hello.migration, windowBytes, chunkBytes: Math.min(mostDataBytes, windowBytes) } });
          }),
        );
        return concat(fit, this.#course.requireFree(), taken, ready).pipe(ignoreElements());
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

  /** A device that has all its bytes loads them and judges them (it is stopped then, and does not run) while others still wait for theirs. */
  #load(): Call<unknown> {
    const deadlineMs = this.#course.deadlines.prepare;
    const written = this.#written;
    let writing = this.#loaders.length;
    return all(this.#loaders, (loader) =>
      steps(function* (): Steps<void> {
        yield loader.load();
        writing -= 1;
        if (writing === 0) written.complete();
        yield callOnTheWay('destination', 'stop', loader.resuming.end({ deadlineMs }));
      }),
    );
  }

  #hear(message: Message): void {
    switch (message.type) {
      case 'data':
        this.#loaders[message.device]?.take(message.bytes, message.crc);
        this.#lastByteNs = this.#clock.nowNs();
        this.#course.flowed(this.#lastByteNs);
        return;
      case 'end': this.#loaders[message.device]?.end(message.bytes, message.crc); return;
      case 'commit': this.#handover.post('commit'); return;
      case 'abort':
        this.#course.blame(this.#course.error('VFIO_E_PEER', `the source gave it up: ${message.reason.message}`, message.reason));
        this.#handover.post('abort');
    }
  }

  // ── what the handover asks for ─────────────────────────────────────────────────────────────────────────────────────

  #perform(act: DestinationAct): void {
    switch (act.act) {
      case 'record':
        this.#course.record(this.#entry(act.record), (event) => this.#handover.post(event));
        return;
      case 'send': this.#say(act.message); return;
      case 'run': this.#run(); return;
      case 'discard': this.#discard(); return;
      case 'doubt': this.#doubt(); return;
    }
  }

  #entry(record: DestinationRecord): JournalEntry {
    return { migration: this.#migration, devices: this.#devices.map(({ name }) => name), side: 'destination', record };
  }

  #say(message: 'prepared' | 'confirmed' | 'never-ran' | 'abort'): void {
    if (message === 'prepared') {
      this.#course.enter('commit');
      // Once COMMIT has come, what follows from it has a time of its own.
      this.#talk.after(this.#course.deadlines.commit, () => { if (this.#handover.phase === 'prepared') this.#fail(this.#course.late('commit')); });
    }
    this.#talk.say(message === 'abort' ? { type: 'abort', reason: this.#course.why } : { type: message });
    if (message === 'confirmed') this.#moved();
  }

  #run(): void {
    this.#course.enter('release');
    // A device that has left STOP has run; where none has, the source may have them back.
    const stand = (): boolean => this.#devices.every(({ currentState }) => currentState.state === 'stop' && currentState.going === undefined);
    const failed = (error: unknown): Observable<DestinationEvent> => {
      this.#course.blame(error);
      return concat(allAtRest(this.#devices, this.#course.deadlines.release), defer(() => of<DestinationEvent>(stand() ? 'run-failed' : 'run-broke')));
    };
    concat(allRun(this.#devices, this.#course.deadlines.release), of<DestinationEvent>('ran')).pipe(catchError(failed)).subscribe({
      next: (event) => this.#handover.post(event),
      error: (error: unknown) => this.#course.blame(error),
    });
  }

  #moved(): void {
    this.#finish();
    this.#letGo();
    this.#course.moved(this.#clock.nowNs() - this.#lastByteNs);
  }

  #discard(): void {
    this.#work.unsubscribe();
    this.#course.enter('roll-back');
    for (const session of this.#sessions) disregard(session.close());
    // A turn later: what is to be said to the source goes first.
    discardAll(this.#touched, this.#course.deadlines['roll-back']).pipe(observeOn(this.#clock.scheduler)).subscribe({
      error: (error: unknown) => this.#discarded(error),
      complete: () => this.#discarded(),
    });
  }

  #discarded(error?: unknown): void {
    if (error !== undefined) this.#course.blame(error);
    this.#course.tell();
    this.#finish();
    this.#letGo();
    this.#course.notMoved(withLeft(this.#course.why, this.#touched));
  }

  #doubt(): void {
    this.#finish();
    const giveUp = defer(() => {
      const { phase } = this.#handover;
      if (phase !== 'prepared' && phase !== 'cornered') throw this.#course.error('VFIO_E_IN_DOUBT', 'devices of it have run: only the source can end it');
      this.#course.blame(this.#course.error('VFIO_E_ABORTED', 'the caller gave the migration up'));
      this.#handover.post('give-up');
      return EMPTY;
    });
    this.#course.doubt({ ask: (transport = this.#plan.transport) => this.#ask(transport), giveUp });
  }

  /** Waits for the source, which holds the decision, as long as it takes; once it is there it has its time. */
  #ask(transport: Transport): Observable<unknown> {
    const bounded = defer(() => {
      this.#talk.after(this.#course.deadlines.commit, () => this.#fail(this.#course.late('commit')));
      return EMPTY;
    });
    const met = transport.open(this.#clock).pipe(
      concatMap((connection) => merge(this.#talk.listen(connection), bounded)),
      map((hello) => {
        const version = commonVersion(hello.versions);
        if (hello.purpose !== 'resolve' || hello.migration !== this.#migration) throw incompatible('the source came about another migration');
        this.#talk.say({ type: 'welcome', welcome: { version, migration: hello.migration, windowBytes: 1, chunkBytes: 1 } });
        this.#handover.post('connected');
      }),
    );
    return this.#talk.attempt(met);
  }

  // ── small things ───────────────────────────────────────────────────────────────────────────────────────────────────

  #finish(): void {
    this.#over = true;
    this.#work.unsubscribe();
    this.#talk.hangUp();
  }

  #progress(): readonly DeviceProgress[] {
    return this.#devices.map((device, place) => ({ device: device.name, state: device.currentState.state, bytes: this.#loaders[place]?.bytes ?? 0n, remaining: 0n }));
  }
}
