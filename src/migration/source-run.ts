import { catchError, concat, concatMap, defer, EMPTY, forkJoin, from, ignoreElements, merge, mergeMap, NEVER, Subscription, take, tap, type Observable, type Subscriber } from 'rxjs';
import type { Clock } from '../clock.js';
import { disregard } from '../devices/call.js';
import type { VfioDevice } from '../devices/device.js';
import { hasState } from '../devices/protocol/migration-states.js';
import { VfioError } from '../errors.js';
import { fitDowntime } from './fit-downtime.js';
import { bringBack, type Recovered } from '../operators/recover-devices.js';
import { savedState } from '../streams/saved-state.js';
import type { Transport } from '../transport/transport.js';
import { sourceStep, type SourceAct, type SourceEvent, type SourcePhase, type SourceRecord } from '../wire/handover-source.js';
import { streamError } from '../wire/frame.js';
import type { Message } from '../wire/message.js';
import { claim } from './claim.js';
import { Conversation } from './conversation.js';
import { Course } from './course.js';
import { deviceKind } from './device-kind.js';
import { allReach, hasP2p, onTheWay, requireAllIn } from './device-states.js';
import { Handover } from './handover.js';
import type { JournalEntry } from './journal.js';
import type { DeviceProgress, MigrationEvent, MigrationPlan } from './plan.js';
import { rounds } from './rounds.js';
import { Saver } from './saver.js';
import { failedError, signsOf } from './signs.js';

const operation = 'migrate';

/**
 * One migration from the source's side. It outlives its subscriber: who unsubscribes aborts, and the source runs again all the same.
 */
export class SourceRun {
  readonly #plan: MigrationPlan;
  readonly #name: string;
  readonly #clock: Clock;
  readonly #devices: readonly VfioDevice[];
  readonly #course: Course;
  readonly #talk: Conversation;
  readonly #handover = new Handover<SourcePhase, SourceEvent, SourceAct>('moving', sourceStep, (act) => { this.#perform(act); });
  /** All that leads to `prepared`. */
  readonly #work = new Subscription();
  #savers: readonly Saver[] = [];
  /** Gives the devices back; undefined where they were never taken: then they are somebody else's, and not touched. */
  #letGo: (() => void) | undefined;
  /** The kernel wants these back. */
  readonly #asked = new Set<VfioDevice>();
  #stoppedNs = 0n;

  constructor(plan: MigrationPlan, out: Subscriber<MigrationEvent>, name: string) {
    const [first] = plan.devices;
    if (first === undefined) throw new VfioError('VFIO_E_RANGE', 'a migration moves one device at least', { operation });
    this.#plan = plan;
    this.#name = name;
    this.#clock = first.source.clock;
    this.#devices = plan.devices.map(({ source }) => source);
    this.#course = new Course({ side: 'source', clock: this.#clock, deadlines: plan.deadlines, journal: plan.journal, progress: () => this.#progress(), devices: this.#devices }, out);
    this.#talk = new Conversation(this.#clock, { hear: (message) => this.#hear(message), lost: (error) => this.#lost(error), fail: (error) => this.#fail(error) });
  }

  start(): void {
    const course = this.#course;
    const work = concat(
      course.inPhase('check', () => concat(this.#take(), course.requireFree(), course.write(this.#entry('begun')), this.#greet())),
      course.inPhase('pre-copy', () => this.#preCopy()),
      course.inPhase('stop', () => this.#stop()),
      course.inPhase('transfer', () => merge(...this.#savers.map((saver) => saver.rest()))),
      course.inPhase('prepare', () => NEVER),
    );
    const fail = (error: unknown): void => this.#fail(error);
    this.#work.add((this.#plan.abort ?? NEVER).pipe(take(1)).subscribe({ next: () => this.abort(), error: (error: unknown) => this.#giveUp(this.#course.typed(error)) }));
    // It may have been given up already.
    if (!this.#work.closed) this.#work.add(work.subscribe({ error: fail }));
  }

  /** The caller wants it no longer: heard before the decision only. */
  abort(): void {
    this.#giveUp(this.#course.error('VFIO_E_ABORTED', 'the caller gave the migration up'));
  }

  #giveUp(why: VfioError): void {
    if (this.#handover.phase === 'moving' || this.#handover.phase === 'deciding') this.#fail(why);
  }

  #fail(error: unknown): void {
    this.#course.blame(error);
    this.#handover.post('failed');
  }

  #lost(error: unknown): void {
    this.#course.blame(error);
    this.#handover.post('lost');
  }

  // ── before the decision ────────────────────────────────────────────────────────────────────────────────────────────

  /** The devices are ones that can be moved together, and nobody else moves them. */
  #take(): Observable<never> {
    return defer(() => {
      const alone = this.#devices.filter((device) => !hasP2p(device));
      if (this.#devices.length > 1 && alone.length > 0 && this.#plan.noPeerToPeer !== true) {
        const names = alone.map(({ name }) => name).join(', ');
        throw new VfioError('VFIO_E_UNSUPPORTED', `${names} cannot be stopped together with others (no P2P states): say noPeerToPeer where they do no DMA to one another`, { operation });
      }
      const other = this.#devices.find(({ currentState }) => currentState.state !== 'running' || currentState.going !== undefined);
      if (other !== undefined) throw new VfioError('VFIO_E_BUSY', `the device is in ${other.currentState.state}: only one that runs is migrated`, { operation, device: other.name });
      const held = new Subscription(claim(this.#devices, operation));
      this.#letGo = () => held.unsubscribe();
      held.add(signsOf(this.#devices, {
        failed: (device) => this.#giveUp(failedError(operation, device)),
        asked: (device) => this.#asked.add(device),
      }));
      return EMPTY;
    });
  }

  #greet(): Observable<never> {
    return forkJoin(this.#plan.devices.map(({ source, destination }) => deviceKind(source, destination))).pipe(
      concatMap((devices) => this.#talk.connect(this.#plan.transport, { migration: this.#name, purpose: 'migrate', devices })),
      tap((welcome) => (this.#savers = this.#devices.map((device, place) => new Saver(device, place, this.#talk.link, welcome, () => this.#course.flowed(this.#clock.nowNs()))))),
      ignoreElements(),
    );
  }

  #preCopy(): Observable<never> {
    const savers = this.#savers.filter(({ device }) => hasState(device.migration?.flags ?? 0, 'pre-copy'));
    if (savers.length === 0) return EMPTY;
    const { policy, downtimeLimitMs = 300, roundPauseMs: pauseMs = 10 } = this.#plan;
    return concat(
      this.#begin(savers, 'pre-copy'),
      rounds({ savers, clock: this.#clock, policy: policy ?? fitDowntime({ downtimeLimitMs }), pauseMs, hurried: () => this.#asked.size > 0, told: (report) => this.#course.tell(report) }),
    );
  }

  #begin(savers: readonly Saver[], state: 'pre-copy' | 'stop-copy'): Observable<never> {
    const deadlineMs = this.#course.deadlines.stop;
    return from(savers).pipe(mergeMap((saver) => savedState(saver.device, { from: state, deadlineMs }).pipe(onTheWay('source', state), tap((saved) => (saver.saved = saved)))), ignoreElements());
  }

  /** The destination agrees; then no device reaches another any more; then none runs. */
  #stop(): Observable<never> {
    const deadlineMs = this.#course.deadlines.stop;
    const agreed = merge(this.#talk.hears('switch-over-ok'), this.#talk.link.send({ type: 'switch-over' })).pipe(ignoreElements());
    const quiesced = defer(() => {
      const careful = this.#devices.length > 1 ? this.#devices.filter(hasP2p) : [];
      const saving = careful.filter(({ currentState }) => currentState.state === 'pre-copy');
      const others = careful.filter(({ currentState }) => currentState.state !== 'pre-copy');
      return merge(allReach('source', saving, 'pre-copy-p2p', deadlineMs), allReach('source', others, 'running-p2p', deadlineMs));
    });
    const stopped = defer(() => {
      this.#stoppedNs = this.#clock.nowNs();
      const saving = this.#savers.filter(({ saved }) => saved !== undefined).map(({ device }) => device);
      return merge(allReach('source', saving, 'stop-copy', deadlineMs), this.#begin(this.#savers.filter(({ saved }) => saved === undefined), 'stop-copy'));
    });
    return concat(agreed, quiesced, stopped);
  }

  #hear(message: Message): void {
    switch (message.type) {
      case 'credit': this.#savers[message.device]?.give(message.bytes); return;
      case 'abort': throw this.#course.error('VFIO_E_PEER', `the destination gave it up: ${message.reason.message}`, message.reason);
      case 'never-ran':
        this.#course.blame(this.#course.error('VFIO_E_PEER', 'the destination says that it never ran, and never will'));
        this.#handover.post('never-ran');
        return;
      case 'prepared':
        if (this.#handover.phase === 'moving') this.#requireStill();
        this.#handover.post('prepared');
        return;
      case 'confirmed': this.#handover.post('confirmed');
    }
  }

  /** Before it decides: the destination was sent everything, and what it was sent is still so. */
  #requireStill(): void {
    if (!this.#savers.every(({ ended }) => ended)) throw streamError('the destination says that it is prepared, and has not been sent everything');
    requireAllIn(this.#devices, 'stop-copy', operation);
  }

  // ── what the handover asks for ─────────────────────────────────────────────────────────────────────────────────────

  #perform(act: SourceAct): void {
    switch (act.act) {
      case 'record':
        if (act.record === 'decided') this.#commit();
        this.#course.record(this.#entry(act.record), (event) => this.#handover.post(event));
        return;
      case 'send': this.#talk.say(act.message === 'commit' ? { type: 'commit' } : { type: 'abort', reason: this.#course.why }); return;
      case 'run': this.#rollBack(); return;
      case 'release': this.#release(); return;
      case 'doubt': this.#doubt(); return;
    }
  }

  #entry(record: SourceRecord): JournalEntry {
    return { migration: this.#name, devices: this.#devices.map(({ name }) => name), side: 'source', record };
  }

  #commit(): void {
    this.#work.unsubscribe();
    this.#course.enter('commit');
    this.#boundCommit();
  }

  #boundCommit(): void {
    this.#talk.after(this.#course.deadlines.commit, () => this.#fail(this.#course.late('commit')));
  }

  #rollBack(): void {
    this.#work.unsubscribe();
    this.#course.enter('roll-back');
    this.#talk.hangUp();
    this.#closeSessions();
    if (this.#letGo === undefined) {
      this.#course.notMoved(this.#course.why);
      return;
    }
    const back = (recovered: readonly Recovered[]): void => {
      this.#course.tell();
      const { why } = this.#course;
      const notes = recovered.flatMap(({ device, by }) => (by === 'reset' ? [`${device} was reset`] : by === 'nothing' ? [`${device} did not come back`] : []));
      this.#letGo?.();
      this.#course.notMoved(notes.length === 0 ? why : new VfioError(why.code, `${why.message}; ${notes.join(', ')}`, { operation, device: why.device, cause: why }));
    };
    bringBack(this.#devices, { deadlineMs: this.#course.deadlines['roll-back'] }).subscribe({ next: back, error: (error: unknown) => this.#course.notMoved(this.#course.typed(error)) });
  }

  #release(): void {
    const downtimeNs = this.#clock.nowNs() - this.#stoppedNs;
    this.#course.enter('release');
    this.#talk.hangUp();
    this.#closeSessions();
    // Whatever becomes of this, they are the destination's: what failed to stop is told by its own state.
    const tried = catchError(() => EMPTY);
    const done = (): void => {
      this.#letGo?.();
      this.#course.moved(downtimeNs);
      for (const device of this.#asked) void device.close();
    };
    concat(this.#course.within('release', this.#course.write(this.#entry('moved'))).pipe(tried), allReach('source', this.#devices, 'stop', this.#course.deadlines.release)).subscribe({ error: done, complete: done });
  }

  #doubt(): void {
    this.#talk.hangUp();
    this.#course.doubt({ ask: (transport = this.#plan.transport) => this.#ask(transport) });
  }

  /** Over a new connection; what comes of it, the handover says. */
  #ask(transport: Transport): Observable<unknown> {
    const connected = this.#talk.connect(transport, { migration: this.#name, purpose: 'resolve', devices: [] }).pipe(
      tap(() => {
        this.#boundCommit();
        this.#handover.post('connected');
      }),
    );
    return this.#talk.attempt(this.#course.within('check', connected));
  }

  // ── small things ───────────────────────────────────────────────────────────────────────────────────────────────────

  #closeSessions(): void {
    for (const { saved } of this.#savers) disregard(saved?.close());
  }

  #progress(): readonly DeviceProgress[] {
    return this.#devices.map((device, place) => ({ device: device.name, state: device.currentState.state, bytes: this.#savers[place]?.bytes ?? 0n, remaining: this.#savers[place]?.remaining ?? 0n }));
  }
}
