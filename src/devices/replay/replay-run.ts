import { isDeepStrictEqual } from 'node:util';
import { Observable, ReplaySubject, type Subscription } from 'rxjs';
import { timerMs, type Clock } from '../../clock.js';
import { VfioError } from '../../errors.js';
import type { Call, ReleaseReport } from '../port.js';
import { codecsOf, type AnswerOf, type ArgsOf, type CallName } from '../trace/calls.js';
import type { Outcome, TraceEntry } from '../trace/entry.js';
import { lineNumber, type Trace } from '../trace/reader.js';
import { errorOf } from '../trace/values.js';

/** Where a run left its recording: the `cause` of VFIO_E_DEPARTED. */
export interface Departure {
  /** Of the trace's file, from 1. */
  readonly line: number;
  readonly expected: string;
  readonly actual: string;
}

type CallEntry = Extract<TraceEntry, { kind: 'call' }>;
type Output = Extract<TraceEntry, { kind: 'answer' | 'released' }>;

const keptReports = 1024;
/** What may be let go of again and again, also behind the release. */
const releases: readonly CallName[] = ['irq.close', 'data.close', 'dma.free'];

/**
 * One run of a recording: what the code under test does must be what the recording has next, and gets what came then. What
 * answered inside subscribe() does so again; all else comes in a turn of its own, not before its time.
 */
export class ReplayRun {
  readonly clock: Clock;
  readonly released: Observable<ReleaseReport>;
  readonly #reports = new ReplaySubject<ReleaseReport>(keptReports);
  readonly #trace: Trace;
  readonly #startNs: bigint;
  /** The entry that comes next. */
  #next = 0;
  #closing = false;
  #departure: VfioError | undefined;
  #due: Subscription | undefined;
  readonly #waiting = new Map<number, (outcome: Outcome | VfioError) => void>();

  constructor(trace: Trace, clock: Clock) {
    this.#trace = trace;
    this.clock = clock;
    this.#startNs = clock.nowNs();
    this.released = this.#reports.asObservable();
  }

  /** The first call that the recording does not have there. */
  get departure(): VfioError | undefined {
    return this.#departure;
  }

  /** Why the run is not the recorded one, or not all of it; undefined where it is. */
  get unfinished(): VfioError | undefined {
    return this.#departure ?? (this.#entry === undefined ? undefined : this.#departed('nothing more'));
  }

  call<K extends CallName, T>(name: K, args: ArgsOf<K>, made: (answer: AnswerOf<K>, call: number) => T): Call<T> {
    return new Observable<T>((subscriber) => {
      const settle = (outcome: Outcome | VfioError, call: number): void => {
        let value: T;
        try {
          value = valueOf(outcome, call, made);
        } catch (error) {
          subscriber.error(error);
          return;
        }
        subscriber.next(value);
        subscriber.complete();
      };
      if (this.#over && releases.includes(name)) {
        subscriber.next(undefined as T);
        subscriber.complete();
        return;
      }
      const entry = this.#match(name, args);
      if (entry instanceof VfioError) {
        subscriber.error(entry);
        return;
      }
      const { call, outcome } = entry;
      if (outcome === undefined) {
        subscriber.add(() => this.#detach(call));
        this.#waiting.set(call, (came) => settle(came, call));
        this.#outputsInside(call);
      } else settle(outcome, call);
      this.#await();
    });
  }

  /** A call that answers by returning. */
  callNow<K extends CallName, T>(name: K, args: ArgsOf<K>, made: (answer: AnswerOf<K>, call: number) => T): T {
    let returned: Outcome | VfioError | undefined;
    const entry = this.#match(name, args);
    if (entry instanceof VfioError) throw entry;
    const { call } = entry;
    if (entry.outcome === undefined) {
      this.#waiting.set(call, (outcome) => (returned = outcome));
      this.#outputsInside(call);
      this.#waiting.delete(call);
    } else returned = entry.outcome;
    this.#await();
    if (returned === undefined) throw this.#depart(`${name} returned`);
    return valueOf(returned, call, made);
  }

  close(keepViews: boolean): void {
    this.#closing = true;
    try {
      // A recording that was cut off has no close of its own.
      if (this.#entry !== undefined) this.callNow('close', { keepViews }, () => undefined);
    } catch (error) {
      this.#reports.next({ what: 'the replay has left its recording', error });
      this.#reports.complete();
    }
    this.#await();
  }

  /** A time of the trace, on the clock of this run. */
  timeNs(atNs: bigint): bigint {
    return this.#startNs + atNs - this.#trace.header.atNs;
  }

  /** undefined: the recording ends here, or has a gap. */
  get #entry(): TraceEntry | undefined {
    const entry = this.#trace.entries[this.#next];
    return entry?.kind === 'end' || entry?.kind === 'dropped' ? undefined : entry;
  }

  /** It was closed, and all of the recording has been: as any port then says. */
  get #over(): boolean {
    return this.#closing && this.#departure === undefined && this.#entry === undefined;
  }

  #match<K extends CallName>(name: K, args: ArgsOf<K>): CallEntry | VfioError {
    if (this.#departure !== undefined) return this.#departure;
    const entry = this.#entry;
    if (this.#over) return this.#closed(name);
    if (entry?.kind !== 'call' || entry.name !== name || !isDeepStrictEqual(entry.args, args)) return this.#depart(callInWords(name, args));
    this.#next += 1;
    return entry;
  }

  #detach(call: number): void {
    if (!this.#waiting.delete(call) || this.#departure !== undefined) return;
    const entry = this.#entry;
    if (entry?.kind === 'detach' && entry.call === call) {
      this.#next += 1;
      this.#await();
    } else if (entry !== undefined) this.#depart(`nobody waits for call ${call} any more`);
  }

  /** What came before this call had returned. */
  #outputsInside(call: number): void {
    for (let entry = this.#entry; entry !== undefined && isOutput(entry) && entry.inside === call; entry = this.#entry) this.#deliver(entry);
  }

  /** Sees to it that what comes next by itself comes at its time. */
  #await(): void {
    if (this.#due !== undefined || this.#departure !== undefined) return;
    const entry = this.#entry;
    if (entry === undefined) {
      if (!this.#closing) return;
      this.#reports.complete();
      if (this.#waiting.size > 0) this.#settleAll((call) => this.#closed(call));
      return;
    }
    if (!isOutput(entry) || entry.inside !== undefined) return;
    const delayNs = this.timeNs(entry.atNs) - this.clock.nowNs();
    // Whole microseconds, upwards: no virtual clock is finer.
    const delayMs = delayNs > 0n ? Number((delayNs + 999n) / 1_000n) / 1_000 : 0;
    this.#due = this.clock.scheduler.schedule(() => {
      this.#due = undefined;
      if (this.#departure === undefined) this.#deliver(entry);
      this.#await();
    }, timerMs(delayMs));
  }

  #deliver(entry: Output): void {
    this.#next += 1;
    if (entry.kind === 'answer') {
      const waiting = this.#waiting.get(entry.call);
      this.#waiting.delete(entry.call);
      waiting?.(entry.outcome);
    } else if (entry.what === undefined) this.#reports.complete();
    else this.#reports.next({ what: entry.what, ...(entry.error === undefined ? {} : { error: errorOf(entry.error) }) });
  }

  #depart(actual: string): VfioError {
    const departure = (this.#departure ??= this.#departed(actual));
    this.#due?.unsubscribe();
    this.#settleAll(() => departure);
    return departure;
  }

  /** What waits would wait for ever. In a turn of its own: the code under test is in the middle of something. */
  #settleAll(error: (call: string) => VfioError): void {
    this.clock.scheduler.schedule(() => {
      const waiting = [...this.#waiting];
      this.#waiting.clear();
      for (const [call, settle] of waiting) settle(error(`call ${call}`));
      if (this.#closing) this.#reports.complete();
    });
  }

  /** A recording ends with the release, and has no calls behind that. */
  #closed(operation: string): VfioError {
    return new VfioError('VFIO_E_CLOSED', 'the device is closed: open it again', { operation, device: this.#trace.header.device });
  }

  #departed(actual: string): VfioError {
    const { header, incomplete } = this.#trace;
    const line = lineNumber(this.#next);
    const entry = this.#trace.entries[this.#next];
    const expected = entry === undefined ? `nothing: the recording ends here${incomplete === undefined ? '' : `, incomplete (${incomplete.message})`}` : inWords(entry);
    const early = entry !== undefined && isOutput(entry) && entry.inside === undefined ? `; that comes by itself, at ${entry.atNs - header.atNs} ns of the recording, and the code under test is earlier` : '';
    const cause: Departure = { line, expected, actual };
    return new VfioError('VFIO_E_DEPARTED', `line ${line}: expected ${expected}; actual ${actual}${early}`, { operation: 'replay', device: header.device, cause });
  }
}

function valueOf<K extends CallName, T>(outcome: Outcome | VfioError, call: number, made: (answer: AnswerOf<K>, call: number) => T): T {
  if (outcome instanceof VfioError) throw outcome;
  if ('error' in outcome) throw errorOf(outcome.error);
  return made(outcome.value, call);
}

function isOutput(entry: TraceEntry): entry is Output {
  return entry.kind === 'answer' || entry.kind === 'released';
}

function inWords(entry: TraceEntry): string {
  switch (entry.kind) {
    case 'call':
      return callInWords(entry.name, entry.args);
    case 'answer':
      return `the answer of ${entry.name} (call ${entry.call})`;
    case 'detach':
      return `that nobody waits for call ${entry.call} any more`;
    case 'released':
      return `released: ${entry.what ?? 'all'}`;
    case 'dropped':
      return `nothing: ${entry.lines} lines of the recording are missing here`;
    case 'end':
      return 'nothing: the recording ends here';
  }
}

/** `irq.ack {"irq":[9,0],"count":"1"}` */
function callInWords<K extends CallName>(name: K, args: ArgsOf<K>): string {
  const text = JSON.stringify(codecsOf(name).args.encode(args));
  return text === '{}' ? name : `${name} ${text}`;
}
