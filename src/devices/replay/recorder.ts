import { Observable } from 'rxjs';
import type { Clock } from '../../clock.js';
import type { Call } from '../port.js';
import type { AnswerOf, ArgsOf, CallName } from '../trace/calls.js';
import { entryLine, headerLine, type Outcome, type TraceEntry, type TraceHeader } from '../trace/entry.js';
import { traceDefaults } from '../trace/reader.js';
import { traceError, type KeptBytes } from '../trace/values.js';

/** Where the lines of a recording go. Called inside the calls that are recorded, so it neither blocks nor throws. */
export interface TraceSink {
  /** Takes one line, without its newline. False: there is no room, the line is lost. */
  write(line: string): boolean;
  /** The device is released, nothing follows. */
  end(): void;
  /** Called before the first line of a device that is being opened: what the lines would take the place of stays until `open()`; where that never comes, for good. */
  hold?(): { open(): void };
  /** How much is kept, where `recordPort` is not told. */
  readonly recording?: RecordingOptions;
}

/** How much a recording keeps. */
export interface RecordingOptions {
  /** Of the bytes of one access, read or write; 64 unless told, 500,000 at most: a longer line is not read. With 0 only their number is kept. */
  readonly dataBytes?: number;
  /** Lines; 500,000 unless told, as many as are read by default. What is beyond is counted. */
  readonly maxLines?: number;
  /** Bytes; 64 MiB unless told. */
  readonly maxBytes?: number;
}

/** In hexadecimal and with what stands around it, this fits into a line that is read by default. */
export const mostDataBytes = 500_000;

/** Room that is kept for the last two lines: how much was dropped, and the end. */
const reservedLines = 2;
const reservedBytes = 256;

/**
 * Writes what crosses a port, in the order in which it crossed. A line that finds no room is counted, and the next one that
 * finds some is preceded by that count.
 */
export class Recorder {
  readonly #sink: TraceSink;
  readonly #clock: Clock;
  readonly #dataBytes: number;
  #linesLeft: number;
  #bytesLeft: number;
  #calls = 0;
  /** Behind the end nothing is written; one that comes inside a call waits until that has returned. */
  #end: 'not yet' | 'due' | 'written' = 'not yet';
  #dropped = 0;
  /** The calls whose subscribe() has not returned, innermost last. */
  readonly #inside: number[] = [];
  /** A call that may yet be written together with its answer. Never older than the innermost subscribe(). */
  #held: Extract<TraceEntry, { kind: 'call' }> | undefined;

  constructor(sink: TraceSink, clock: Clock, header: Omit<TraceHeader, 'atNs' | 'dataBytes'>, { dataBytes = 64, maxLines = traceDefaults.maxLines, maxBytes = traceDefaults.maxBytes }: RecordingOptions) {
    this.#sink = sink;
    this.#clock = clock;
    this.#dataBytes = Math.min(dataBytes, mostDataBytes);
    this.#linesLeft = maxLines - reservedLines;
    this.#bytesLeft = maxBytes - reservedBytes;
    this.#put(headerLine({ ...header, atNs: clock.nowNs(), dataBytes: this.#dataBytes }));
  }

  keep(bytes: Uint8Array): KeptBytes {
    return keepBytes(bytes, this.#dataBytes);
  }

  /**
   * The same call, told. `took` says what stands in the trace for its value, and what the caller gets in its stead: that of
   * which calls can be made is wrapped, too.
   */
  call<K extends CallName, T>(name: K, args: ArgsOf<K>, real: Call<T>, took: (value: T, call: number) => readonly [AnswerOf<K>, T]): Call<T> {
    return new Observable<T>((subscriber) => {
      const call = this.#begin(name, args);
      let waiting = true;
      const ended = (outcome: Outcome<K>): void => {
        waiting = false;
        this.#answer(name, call, outcome);
      };
      subscriber.add(() => {
        if (waiting) this.#log({ kind: 'detach', atNs: this.#clock.nowNs(), call });
        waiting = false;
      });
      this.#during(call, () => {
        subscriber.add(
          real.subscribe({
            next: (value) => {
              const [answer, passed] = took(value, call);
              ended({ value: answer });
              subscriber.next(passed);
            },
            error: (error: unknown) => {
              if (waiting) ended({ error: traceError(error) });
              subscriber.error(error);
            },
            complete: () => subscriber.complete(),
          }),
        );
      });
    });
  }

  /** A call that answers by returning. */
  callNow<K extends CallName, T>(name: K, args: ArgsOf<K>, real: () => T, took: (value: T) => AnswerOf<K>): T {
    const call = this.#begin(name, args);
    return this.#during(call, () => {
      try {
        const value = real();
        this.#answer(name, call, { value: took(value) });
        return value;
      } catch (error) {
        this.#answer(name, call, { error: traceError(error) });
        throw error;
      }
    });
  }

  released(what: string | undefined, error?: unknown): void {
    this.#log({ kind: 'released', atNs: this.#clock.nowNs(), what, ...this.#where(), ...(error === undefined ? {} : { error: traceError(error) }) });
  }

  end(): void {
    this.#end = 'due';
    if (this.#inside.length === 0) this.#writeEnd();
  }

  #writeEnd(): void {
    this.#flush();
    const atNs = this.#clock.nowNs();
    // For these there is room, unless the sink itself has none.
    this.#linesLeft += reservedLines;
    this.#bytesLeft += reservedBytes;
    this.#write({ kind: 'end', atNs });
    this.#end = 'written';
    this.#sink.end();
  }

  #begin<K extends CallName>(name: K, args: ArgsOf<K>): number {
    this.#flush();
    this.#calls += 1;
    this.#held = { kind: 'call', atNs: this.#clock.nowNs(), call: this.#calls, name, args } as Extract<TraceEntry, { kind: 'call' }>;
    return this.#calls;
  }

  #answer<K extends CallName>(name: K, call: number, outcome: Outcome<K>): void {
    const held = this.#held;
    if (held?.call === call) {
      this.#held = undefined;
      this.#write({ ...held, outcome } as TraceEntry);
      return;
    }
    this.#log({ kind: 'answer', atNs: this.#clock.nowNs(), call, name, ...this.#where(), outcome } as TraceEntry);
  }

  #during<T>(call: number, body: () => T): T {
    this.#inside.push(call);
    try {
      return body();
    } finally {
      this.#inside.pop();
      if (this.#held?.call === call) this.#flush();
      if (this.#end === 'due' && this.#inside.length === 0) this.#writeEnd();
    }
  }

  #where(): { readonly inside?: number } {
    const inside = this.#inside.at(-1);
    return inside === undefined ? {} : { inside };
  }

  #log(entry: TraceEntry): void {
    this.#flush();
    this.#write(entry);
  }

  #flush(): void {
    const held = this.#held;
    this.#held = undefined;
    if (held !== undefined) this.#write(held);
  }

  #write(entry: TraceEntry): void {
    if (this.#dropped > 0) {
      if (!this.#put(entryLine({ kind: 'dropped', atNs: entry.atNs, lines: this.#dropped }))) {
        this.#dropped += 1;
        return;
      }
      this.#dropped = 0;
    }
    if (!this.#put(entryLine(entry))) this.#dropped += 1;
  }

  #put(line: string): boolean {
    const bytes = Buffer.byteLength(line) + 1;
    if (this.#end === 'written' || this.#linesLeft < 1 || this.#bytesLeft < bytes || bytes > traceDefaults.maxLineBytes || !this.#sink.write(line)) return false;
    this.#linesLeft -= 1;
    this.#bytesLeft -= bytes;
    return true;
  }
}

/** What is kept of these bytes: a copy, since their owner may use them again. */
export function keepBytes(bytes: Uint8Array, most: number): KeptBytes {
  return { size: bytes.byteLength, kept: new Uint8Array(bytes.subarray(0, most)) };
}
