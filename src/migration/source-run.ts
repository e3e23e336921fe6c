import { concat, concatMap, defer, EMPTY, forkJoin, from, ignoreElements, merge, mergeMap, NEVER, Subscription, take, tap, type Observable, type Subscriber } from 'rxjs';
import type { Clock } from '../clock.js';
import { disregard } from '../devices/call.js';
import type { VfioDevice } from '../devices/device.js';
import { hasState } from '../devices/protocol/migration-states.js';
import { VfioError } from '../errors.js';
import { fitDowntime, type RoundReport } from './fit-downtime.js';
import { savedState } from '../streams/saved-state.js';
import type { Transport } from '../transport/transport.js';
import { sourceStep, type SourceAct, type SourceEvent, type SourcePhase, type SourceRecord } from '../wire/handover-source.js';
import type { Message } from '../wire/message.js';
import { Conversation } from './conversation.js';
import { deviceKind } from './device-kind.js';
import { allBack, allReach, hasP2p, onTheWay, within, type Recovered } from './device-states.js';
import { Handover } from './handover.js';
import { Outcome } from './outcome.js';
import { defaultDeadlines, type Deadlines, type DeviceProgress, type MigrationEvent, type MigrationPlan, type Phase } from './plan.js';
import { rounds } from './rounds.js';
import { Saver } from './saver.js';

/** How often progress is told while bytes flow, ns. */
const progressNs = 200_000_000n;

const operation = 'migrate';

/**
 * One migration from the source's side. It outlives its subscriber: who unsubscribes aborts, and the source runs again all the same.
 */
export class SourceRun {
  readonly #plan: MigrationPlan;
  readonly #name: string;
  readonly #clock: Clock;
  readonly #devices: readonly VfioDevice[];
  readonly #deadlines: Deadlines;
  readonly #outcome: Outcome;
  readonly #talk: Conversation;
  readonly #handover = new Handover<SourcePhase, SourceEvent, SourceAct>('moving', sourceStep, (act) => { this.#perform(act); });
  /** All that leads to `prepared`. */
  readonly #work = new Subscription();
  #savers: readonly Saver[] = [];
  #phase: Phase = 'check';
  #failure: VfioError | undefined;
  #stoppedNs = 0n;
  #toldNs = 0n;

  constructor(plan: MigrationPlan, out: Subscriber<MigrationEvent>, name: string) {
    const [first] = plan.devices;
    if (first === undefined) throw new VfioError('VFIO_E_RANGE', 'a migration moves one device at least', { operation });
    this.#plan = plan;
    this.#name = name;
    this.#clock = first.source.clock;
    this.#devices = plan.devices.map(({ source }) => source);
    this.#deadlines = { ...defaultDeadlines, ...plan.deadlines };
    this.#outcome = new Outcome(out);
    this.#talk = new Conversation(this.#clock, { hear: (message) => this.#hear(message), lost: (error) => this.#lost(error), fail: (error) => this.#fail(error) });
  }

  start(): void {
    const work = concat(
      this.#inPhase('check', () => concat(this.#requireFit(), this.#record('begun'), this.#greet())),
      this.#inPhase('pre-copy', () => this.#preCopy()),
      this.#inPhase('stop', () => this.#stop()),
      this.#inPhase('transfer', () => merge(...this.#savers.map((saver) => saver.rest()))),
      this.#inPhase('prepare', () => NEVER),
    );
    const fail = (error: unknown): void => this.#fail(error);
    this.#work.add((this.#plan.abort ?? NEVER).pipe(take(1)).subscribe({ next: () => this.abort(), error: fail }));
    this.#work.add(work.subscribe({ error: fail }));
  }

  /** The caller wants it no longer: heard before the decision only. */
  abort(): void {
    if (this.#handover.phase === 'moving' || this.#handover.phase === 'deciding') this.#fail(new VfioError('VFIO_E_ABORTED', 'the caller gave the migration up', { operation }));
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
    this.#failure ??= asVfioError(error);
  }

  // ── before the decision ────────────────────────────────────────────────────────────────────────────────────────────

  #inPhase(phase: Phase, work: () => Observable<unknown>): Observable<never> {
    return defer(() => {
      this.#enter(phase);
      return within(defer(work), this.#deadlines[phase], this.#clock, () => this.#late(phase));
    });
  }

  #late(phase: Phase): VfioError {
    return new VfioError('VFIO_E_DEADLINE', `the source's phase ${phase} was not over within ${this.#deadlines[phase]} ms`, { operation });
  }

  #requireFit(): Observable<never> {
    return defer(() => {
      const alone = this.#devices.filter((device) => !hasP2p(device));
      if (this.#devices.length > 1 && alone.length > 0 && this.#plan.noPeerToPeer !== true) {
        const names = alone.map(({ name }) => name).join(', ');
        throw new VfioError('VFIO_E_UNSUPPORTED', `${names} cannot be stopped together with others (no P2P states): say noPeerToPeer where they do no DMA to one another`, { operation });
      }
      const other = this.#devices.find(({ currentState }) => currentState.state !== 'running' || currentState.going !== undefined);
      if (other !== undefined) throw new VfioError('VFIO_E_BUSY', `the device is in ${other.currentState.state}: only one that runs is migrated`, { operation, device: other.name });
      return EMPTY;
    });
  }

  #greet(): Observable<never> {
    return forkJoin(this.#plan.devices.map(({ source, destination }) => deviceKind(source, destination))).pipe(
      concatMap((devices) => this.#talk.connect(this.#plan.transport, { migration: this.#name, purpose: 'migrate', devices })),
      tap((welcome) => (this.#savers = this.#devices.map((device, place) => new Saver(device, place, this.#talk.link, welcome, () => this.#sent())))),
      ignoreElements(),
    );
  }

  #preCopy(): Observable<never> {
    const savers = this.#savers.filter(({ device }) => hasState(device.migration?.flags ?? 0, 'pre-copy'));
    if (savers.length === 0) return EMPTY;
    const { policy, downtimeLimitMs = 300, roundPauseMs: pauseMs = 10 } = this.#plan;
    return concat(
      this.#begin(savers, 'pre-copy'),
      rounds({ savers, clock: this.#clock, policy: policy ?? fitDowntime({ downtimeLimitMs }), pauseMs, told: (report) => this.#tell(report) }),
    );
  }

  #begin(savers: readonly Saver[], state: 'pre-copy' | 'stop-copy'): Observable<never> {
    const deadlineMs = this.#deadlines.stop;
    return from(savers).pipe(mergeMap((saver) => savedState(saver.device, { from: state, deadlineMs }).pipe(onTheWay('source', state), tap((saved) => (saver.saved = saved)))), ignoreElements());
  }

  /** The destination agrees; then no device reaches another any more; then none runs. */
  #stop(): Observable<never> {
    const deadlineMs = this.#deadlines.stop;
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
      case 'abort': throw new VfioError('VFIO_E_PEER', `the destination gave it up: ${message.reason.message}`, { operation, cause: message.reason });
      case 'never-ran':
        this.#blame(new VfioError('VFIO_E_PEER', 'the destination says that it never ran, and never will', { operation }));
        this.#handover.post('never-ran');
        return;
      case 'prepared': case 'confirmed': this.#handover.post(message.type);
    }
  }

  // ── what the handover asks for ─────────────────────────────────────────────────────────────────────────────────────

  #perform(act: SourceAct): void {
    switch (act.act) {
      case 'record':
        if (act.record === 'decided') this.#commit();
        this.#record(act.record).subscribe({
          error: (error: unknown) => {
            this.#blame(error);
            this.#handover.post('not-recorded');
          },
          complete: () => this.#handover.post('recorded'),
        });
        return;
      case 'send': this.#talk.say(act.message === 'commit' ? { type: 'commit' } : { type: 'abort', reason: this.#why() }); return;
      case 'run': this.#rollBack(); return;
      case 'release': this.#release(); return;
      case 'doubt': this.#doubt(); return;
    }
  }

  #record(record: SourceRecord): Observable<never> {
    return this.#plan.journal.write({ migration: this.#name, devices: this.#devices.map(({ name }) => name), side: 'source', record }).pipe(ignoreElements());
  }

  #commit(): void {
    this.#work.unsubscribe();
    this.#enter('commit');
    this.#boundCommit();
  }

  #boundCommit(): void {
    this.#talk.after(this.#deadlines.commit, () => this.#fail(this.#late('commit')));
  }

  #rollBack(): void {
    this.#work.unsubscribe();
    this.#enter('roll-back');
    this.#talk.hangUp();
    this.#closeSessions();
    const back = (recovered: readonly Recovered[]): void => {
      this.#tell();
      const why = this.#why();
      const notes = recovered.flatMap(({ device, how }) => (how === 'reset' ? [`${device} was reset`] : how === 'lost' ? [`${device} did not come back`] : []));
      this.#outcome.notMoved(notes.length === 0 ? why : new VfioError(why.code, `${why.message}; ${notes.join(', ')}`, { operation, device: why.device, cause: why }));
    };
    allBack(this.#devices, this.#deadlines['roll-back']).subscribe({ next: back, error: (error: unknown) => this.#outcome.notMoved(asVfioError(error)) });
  }

  #release(): void {
    const downtimeNs = this.#clock.nowNs() - this.#stoppedNs;
    this.#enter('release');
    this.#talk.hangUp();
    this.#closeSessions();
    // Whatever becomes of this, they are the destination's: what failed to stop is told by its own state.
    const done = (): void => this.#outcome.moved({ phase: 'moved', atNs: this.#clock.nowNs(), devices: this.#progress(), downtimeNs });
    concat(this.#record('moved'), allReach('source', this.#devices, 'stop', this.#deadlines.release)).subscribe({ error: done, complete: done });
  }

  #doubt(): void {
    this.#talk.hangUp();
    this.#outcome.doubt({ atNs: this.#clock.nowNs(), devices: this.#progress(), because: this.#why() }, (transport = this.#plan.transport) => this.#ask(transport));
  }

  /** Over a new connection; what comes of it, the handover says. */
  #ask(transport: Transport): Observable<unknown> {
    return defer(() => {
      this.#failure = undefined;
      const connected = this.#talk.connect(transport, { migration: this.#name, purpose: 'resolve', devices: [] }).pipe(
        tap(() => {
          this.#boundCommit();
          this.#handover.post('connected');
        }),
      );
      return within(connected, this.#deadlines.check, this.#clock, () => this.#late('check')).pipe(tap({ error: () => this.#talk.hangUp() }));
    });
  }

  // ── small things ───────────────────────────────────────────────────────────────────────────────────────────────────

  #why(): VfioError {
    return this.#failure ?? new VfioError('VFIO_E_ABORTED', 'it was given up', { operation });
  }

  #closeSessions(): void {
    for (const { saved } of this.#savers) disregard(saved?.close());
  }

  #enter(phase: Phase): void {
    this.#phase = phase;
    this.#tell();
  }

  #sent(): void {
    if (this.#clock.nowNs() - this.#toldNs >= progressNs) this.#tell();
  }

  #tell(round?: RoundReport): void {
    this.#toldNs = this.#clock.nowNs();
    this.#outcome.tell({ phase: this.#phase, atNs: this.#toldNs, devices: this.#progress(), ...(round === undefined ? {} : { round }) });
  }

  #progress(): readonly DeviceProgress[] {
    return this.#devices.map((device, place) => ({ device: device.name, state: device.currentState.state, bytes: this.#savers[place]?.bytes ?? 0n, remaining: this.#savers[place]?.remaining ?? 0n }));
  }
}

function asVfioError(error: unknown): VfioError {
  return VfioError.is(error) ? error : new VfioError('VFIO_E_ABORTED', `it failed: ${String(error)}`, { operation, cause: error });
}
