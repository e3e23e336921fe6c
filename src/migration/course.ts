import { concatMap, defer, EMPTY, ignoreElements, take, timer, type Observable, type Subscriber } from 'rxjs';
import { timerMs, type Clock } from '../clock.js';
import type { VfioDevice } from '../devices/device.js';
import { VfioError } from '../errors.js';
import { atOnce } from './at-once.js';
import type { RoundReport } from './fit-downtime.js';
import { within, type Side } from './device-states.js';
import type { Journal, JournalEntry } from './journal.js';
import { Outcome, type WaysOut } from './outcome.js';
import { defaultDeadlines, type Deadlines, type DeviceProgress, type MigrationEvent, type MigrationProgress, type Phase } from './plan.js';

/** How often progress is told while bytes flow, ns. */
const progressNs = 200_000_000n;

/** What a course needs of the side that goes it. */
export interface CourseParts {
  readonly side: Side;
  readonly clock: Clock;
  readonly deadlines: Partial<Deadlines> | undefined;
  readonly journal: Journal;
  readonly progress: () => readonly DeviceProgress[];
  readonly devices: readonly VfioDevice[];
}

/** The way of one side through a migration: the phase that it is in, the first thing that failed, and what it tells and writes down. */
export class Course {
  readonly deadlines: Deadlines;
  readonly #parts: CourseParts;
  readonly #operation: string;
  readonly #outcome: Outcome;
  #phase: Phase = 'check';
  #failure: VfioError | undefined;
  #toldNs = 0n;
  #flowsSinceNs: bigint | undefined;

  constructor(parts: CourseParts, out: Subscriber<MigrationEvent>) {
    this.#parts = parts;
    this.#operation = parts.side === 'source' ? 'migrate' : 'receive';
    this.deadlines = { ...defaultDeadlines, ...parts.deadlines };
    this.#outcome = new Outcome(out);
  }

  get phase(): Phase {
    return this.#phase;
  }

  enter(phase: Phase): void {
    this.#phase = phase;
    this.tell();
  }

  /** Work that makes a phase; it has the phase's time. */
  inPhase(phase: Phase, work: () => Observable<unknown>): Observable<never> {
    return defer(() => {
      this.enter(phase);
      return this.within(phase, defer(work));
    });
  }

  within(phase: Phase, work: Observable<unknown>): Observable<never> {
    return within(work, this.deadlines[phase], this.#parts.clock, () => this.late(phase));
  }

  late(phase: Phase): VfioError {
    return this.error('VFIO_E_DEADLINE', `the ${this.#parts.side}'s phase ${phase} was not over within ${this.deadlines[phase]} ms`);
  }

  error(code: VfioError['code'], what: string, cause?: unknown): VfioError {
    return new VfioError(code, what, { operation: this.#operation, cause });
  }

  // ── why it fails ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** The first failure is the reason of what follows. */
  blame(error: unknown): void {
    this.#failure ??= this.typed(error);
  }

  typed(error: unknown): VfioError {
    return VfioError.is(error) ? error : this.error('VFIO_E_ABORTED', `it failed: ${String(error)}`, error);
  }

  get why(): VfioError {
    return this.#failure ?? this.error('VFIO_E_ABORTED', 'it was given up');
  }

  // ── what is told ───────────────────────────────────────────────────────────────────────────────────────────────────

  tell(round?: RoundReport): void {
    const now = this.#now();
    const rate = this.#rate(now);
    this.#toldNs = now.atNs;
    const most = this.#phase === 'check' ? atOnce(this.#parts.devices) : undefined;
    this.#outcome.tell({ phase: this.#phase, ...now, rate, ...(round === undefined ? {} : { round }), ...(most === undefined ? {} : { atOnce: most }) });
  }

  /** What flows, flows since the event before the first that knew of it. */
  #rate({ atNs, devices }: Pick<MigrationProgress, 'atNs' | 'devices'>): number {
    const bytes = devices.reduce((sum, device) => sum + device.bytes, 0n);
    if (bytes > 0n) this.#flowsSinceNs ??= this.#toldNs;
    const tookNs = this.#flowsSinceNs === undefined ? 0n : atNs - this.#flowsSinceNs;
    return tookNs > 0n ? (Number(bytes) * 1e9) / Number(tookNs) : 0;
  }

  /** Bytes have moved: that is told now and then. */
  flowed(atNs: bigint): void {
    if (atNs - this.#toldNs >= progressNs) this.tell();
  }

  moved(downtimeNs: bigint): void {
    this.#outcome.moved({ phase: 'moved', ...this.#now(), downtimeNs });
  }

  notMoved(error: VfioError): void {
    this.#outcome.notMoved(error);
  }

  /** What is tried to end the doubt has a reason of its own if it fails. */
  doubt({ ask, giveUp }: WaysOut): void {
    const anew = (way: () => Observable<unknown>): Observable<unknown> =>
      defer(() => {
        this.#failure = undefined;
        return way();
      });
    this.#outcome.doubt({ ...this.#now(), because: this.why }, { ask: (transport) => anew(() => ask(transport)), ...(giveUp === undefined ? {} : { giveUp: anew(() => giveUp) }) });
  }

  #now(): { readonly atNs: bigint; readonly devices: readonly DeviceProgress[] } {
    return { atNs: this.#parts.clock.nowNs(), devices: this.#parts.progress() };
  }

  // ── what is written down ───────────────────────────────────────────────────────────────────────────────────────────

  write(entry: JournalEntry): Observable<never> {
    return this.#parts.journal.write(entry).pipe(ignoreElements());
  }

  /** Writes what the handover wants on the disk, and says what became of it: `failed`, twice at most, while the disk does not answer. */
  record(entry: JournalEntry, post: (event: 'recorded' | 'not-recorded' | 'failed') => void): void {
    const { clock, journal } = this.#parts;
    const waitMs = timerMs(this.deadlines.commit);
    const late = timer(waitMs, waitMs, clock.scheduler).pipe(take(2)).subscribe({
      next: () => {
        this.blame(new VfioError('VFIO_E_JOURNAL', `it has not answered within ${this.deadlines.commit} ms: what stands there is not known`, { operation: this.#operation, device: journal.name }));
        post('failed');
      },
      error: () => undefined,
    });
    const done = (event: 'recorded' | 'not-recorded') => (): void => {
      late.unsubscribe();
      post(event);
    };
    this.write(entry).subscribe({
      error: (error: unknown) => {
        this.blame(error);
        done('not-recorded')();
      },
      complete: done('recorded'),
    });
  }

  /** Fails with VFIO_E_JOURNAL where another migration is not over: a new one would take away what ends it. */
  requireFree(): Observable<never> {
    const { journal } = this.#parts;
    return journal.read().pipe(
      concatMap((last) => {
        if (last?.record !== 'decided' && last?.record !== 'prepared') return EMPTY;
        throw new VfioError('VFIO_E_JOURNAL', `the migration ${last.migration} stands there as ${last.record}, and is not over: resolve it, or take another journal`, { operation: this.#operation, device: journal.name });
      }),
    );
  }
}
