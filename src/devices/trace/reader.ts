import { VfioError, type VfioErrorCode } from '../../errors.js';
import { readEntry, readHeader, type TraceEntry, type TraceHeader } from './entry.js';
import { traceError } from './values.js';

/** How much of a trace is read. What lies beyond is left, and said. */
export interface TraceLimits {
  /** Default 64 MiB. */
  readonly maxBytes?: number;
  /** Entries; default 500,000. */
  readonly maxLines?: number;
  /** Bytes of one line; default 1 MiB. */
  readonly maxLineBytes?: number;
}

/** A recorded run, or as much of it as could be read. */
export interface Trace {
  readonly header: TraceHeader;
  /** In the order in which they happened. Entry n is line n + 2. */
  readonly entries: readonly TraceEntry[];
  /** Why the run goes on behind the last entry: the trace was cut off (VFIO_E_TRACE), is damaged there, or passes a limit (VFIO_E_LIMIT). */
  readonly incomplete?: VfioError;
}

export const traceDefaults = { maxBytes: 64 * 2 ** 20, maxLines: 500_000, maxLineBytes: 2 ** 20 } as const;

/** The line of an entry, as an editor counts. */
export function lineNumber(entry: number): number {
  return entry + 2;
}

const newline = 0x0a;

/**
 * Reads a trace. One that was cut off, at whatever byte, is damaged or too long gives what stands before that, and says in
 * `incomplete` what is wrong and where. Throws only where not even the header can be read: VFIO_E_TRACE, VFIO_E_TRACE_VERSION, VFIO_E_LIMIT.
 *
 * @param name how messages call it: a file's path
 */
export function readTrace(source: string | Uint8Array, limits: TraceLimits = {}, name?: string): Trace {
  const { maxBytes, maxLines, maxLineBytes } = { ...traceDefaults, ...limits };
  const whole = typeof source === 'string' ? Buffer.from(source) : source;
  const bytes = whole.subarray(0, maxBytes);
  const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const entries: TraceEntry[] = [];
  const order = new Order();
  let header: TraceHeader | undefined;

  const problem = (line: number, code: VfioErrorCode, what: string, cause?: unknown): VfioError => {
    const read = header === undefined ? 'nothing can be read' : entries.length === 1 ? 'the entry before it was read' : `the ${entries.length} entries before it were read`;
    return new VfioError(code, `line ${line}: ${what}; ${read}`, { operation: 'read trace', device: name, cause });
  };
  const stop = (error: VfioError): Trace => {
    if (header === undefined) throw error;
    return { header, entries, incomplete: error };
  };

  for (let start = 0, line = 1; start < bytes.length; line += 1) {
    const found = bytes.indexOf(newline, start);
    const end = found < 0 ? bytes.length : found;
    if (end - start > maxLineBytes) return stop(problem(line, 'VFIO_E_LIMIT', `longer than ${maxLineBytes} bytes`));
    if (found < 0 && whole.length > maxBytes) break;
    if (entries.length >= maxLines) return stop(problem(line, 'VFIO_E_LIMIT', `the trace has more than ${maxLines} entries`));
    if (order.ended) return stop(problem(line, 'VFIO_E_TRACE', 'there is something behind the end of the recording'));
    try {
      const words = text.decode(bytes.subarray(start, end));
      if (header === undefined) {
        header = readHeader(words);
        order.begin(header.atNs);
      } else {
        const entry = readEntry(words);
        order.check(entry);
        entries.push(entry);
      }
    } catch (error) {
      const { code, message } = traceError(error);
      if (header === undefined) throw problem(line, code ?? 'VFIO_E_TRACE', message, error);
      return stop(problem(line, 'VFIO_E_TRACE', found < 0 ? 'cut off within the line' : `damaged: ${message}`, error));
    }
    start = end + 1;
  }
  const next = lineNumber(entries.length);
  if (whole.length > maxBytes) return stop(problem(next, 'VFIO_E_LIMIT', `the trace has more than ${maxBytes} bytes`));
  if (header === undefined) throw problem(1, 'VFIO_E_TRACE', 'empty');
  if (!order.ended) return stop(problem(next, 'VFIO_E_TRACE', 'cut off: the recording has no end'));
  return { header, entries };
}

/** What holds from one line to the next: time and call numbers go up, and only what was called is answered. */
class Order {
  ended = false;
  #atNs = 0n;
  #calls = 0;
  /** Behind a gap it is not known which calls were made. */
  #gap = false;
  readonly #open = new Map<number, string>();

  begin(atNs: bigint): void {
    this.#atNs = atNs;
  }

  check(entry: TraceEntry): void {
    if (entry.atNs < this.#atNs) throw new Error(`time goes back, from ${this.#atNs} to ${entry.atNs}`);
    this.#atNs = entry.atNs;
    switch (entry.kind) {
      case 'call':
        if (this.#gap ? entry.call <= this.#calls : entry.call !== this.#calls + 1) throw new Error(`call ${entry.call} follows call ${this.#calls}`);
        this.#calls = entry.call;
        if (entry.outcome === undefined) this.#open.set(entry.call, entry.name);
        break;
      case 'answer':
        this.#close(entry.call, entry.name);
        break;
      case 'detach':
        this.#close(entry.call);
        break;
      case 'dropped':
        this.#gap = true;
        break;
      case 'end':
        this.ended = true;
        break;
      case 'released':
    }
  }

  #close(call: number, name = this.#open.get(call)): void {
    const open = this.#open.get(call);
    if (!this.#gap && (open === undefined || open !== name)) throw new Error(`no ${name ?? 'call'} ${call} is waiting for an answer`);
    this.#open.delete(call);
  }
}
