import { isLeft } from 'fp-ts/lib/Either.js';
import * as t from 'io-ts';
import { decodeOrThrow } from '../../codec.js';
import { VfioError } from '../../errors.js';
import { codecsOf, isCallName, type AnswerOf, type ArgsOf, type CallName } from './calls.js';
import { tracedError, u64, whole, type TracedError } from './values.js';

/** The version that this library writes, and the newest that it reads. */
export const traceVersion = 1;

/** The first line: whose port it was, and what the recorder kept. */
export interface TraceHeader {
  readonly device: string;
  /** When the recording began, on the clock of the port; every other time of a trace is on it. */
  readonly atNs: bigint;
  readonly pageSize: number;
  readonly remapInOneTurn: boolean;
  readonly syncAccess: boolean;
  /** Of the bytes of one access, read or write at most so many were kept. */
  readonly dataBytes: number;
}

/** How a call ended. */
export type Outcome<K extends CallName = CallName> = { readonly value: AnswerOf<K> } | { readonly error: TracedError };

interface Timed {
  readonly atNs: bigint;
}

/** `inside`: it came before this call had returned from its subscribe(). Else it came in a turn of its own. */
interface Output extends Timed {
  readonly inside?: number;
}

interface CallOf<K extends CallName> extends Timed {
  readonly kind: 'call';
  /** Counts up from 1. */
  readonly call: number;
  readonly name: K;
  readonly args: ArgsOf<K>;
  /** Where it ended inside its own subscribe(), with nothing else in between. */
  readonly outcome?: Outcome<K>;
}

interface AnswerOfCall<K extends CallName> extends Output {
  readonly kind: 'answer';
  readonly call: number;
  readonly name: K;
  readonly outcome: Outcome<K>;
}

/** Whoever made the call does not wait for its answer any more. */
export interface DetachEntry extends Timed {
  readonly kind: 'detach';
  readonly call: number;
}

/** A step of the teardown; `what` undefined: nothing is held any more. */
export interface ReleasedEntry extends Output {
  readonly kind: 'released';
  readonly what: string | undefined;
  readonly error?: TracedError;
}

/** So many lines are missing here: the recorder had no room for them. */
export interface DroppedEntry extends Timed {
  readonly kind: 'dropped';
  readonly lines: number;
}

/** The last line of a recording that came to its end. */
export interface EndEntry extends Timed {
  readonly kind: 'end';
}

export type CallEntry = { readonly [K in CallName]: CallOf<K> }[CallName];
export type AnswerEntry = { readonly [K in CallName]: AnswerOfCall<K> }[CallName];
export type TraceEntry = CallEntry | AnswerEntry | DetachEntry | ReleasedEntry | DroppedEntry | EndEntry;

const operation = 'read trace';

const header: t.Type<TraceHeader, unknown> = t.exact(
  t.type({ device: t.string, atNs: u64, pageSize: whole, remapInOneTurn: t.boolean, syncAccess: t.boolean, dataBytes: whole }),
);

export function headerLine(value: TraceHeader): string {
  return JSON.stringify({ 'vfio-rx-trace': traceVersion, ...(header.encode(value) as object) });
}

/** Throws VFIO_E_TRACE_VERSION for a newer one, VFIO_E_TRACE for what is none. */
export function readHeader(line: string): TraceHeader {
  const value = objectOf(line);
  const version = value?.['vfio-rx-trace'];
  if (!Number.isSafeInteger(version)) throw new VfioError('VFIO_E_TRACE', 'not the header of a trace, {"vfio-rx-trace":1,...}; vfio-rx record writes them', { operation });
  if (version !== traceVersion) {
    throw new VfioError('VFIO_E_TRACE_VERSION', `the trace has version ${String(version)}; this library reads version ${traceVersion}`, { operation });
  }
  return decodeOrThrow(header, value, 'VFIO_E_TRACE', `${operation}, header`);
}

/** One line of a trace, without its newline. */
export function entryLine(entry: TraceEntry): string {
  const at = String(entry.atNs);
  switch (entry.kind) {
    case 'call':
      return JSON.stringify({ at, call: entry.call, do: entry.name, with: codecsOf(entry.name).args.encode(entry.args), ...(entry.outcome === undefined ? {} : outcomeFields(entry.name, entry.outcome)) });
    case 'answer':
      return JSON.stringify({ at, answer: entry.call, do: entry.name, ...insideField(entry), ...outcomeFields(entry.name, entry.outcome) });
    case 'detach':
      return JSON.stringify({ at, detach: entry.call });
    case 'released':
      return JSON.stringify({ at, released: entry.what ?? null, ...insideField(entry), ...(entry.error === undefined ? {} : { fails: tracedError.encode(entry.error) }) });
    case 'dropped':
      return JSON.stringify({ at, dropped: entry.lines });
    case 'end':
      return JSON.stringify({ at, end: true });
  }
}

/** Throws VFIO_E_TRACE where the line is none. Fields that it does not know are left alone. */
export function readEntry(line: string): TraceEntry {
  const value = objectOf(line);
  if (value === undefined) throw fault('not an object in JSON');
  const { at, call, answer, detach, released, dropped, end, inside: within, fails } = value;
  const atNs = part(u64, at, 'at');
  const inside = within === undefined ? {} : { inside: part(whole, within, 'inside') };
  if (call !== undefined) {
    const name = nameOf(value);
    const args = part(codecsOf(name).args, value['with'], 'with');
    return { kind: 'call', atNs, call: part(whole, call, 'call'), name, args, ...('is' in value || 'fails' in value ? { outcome: outcomeOf(name, value) } : {}) } as CallEntry;
  }
  if (answer !== undefined) {
    const name = nameOf(value);
    return { kind: 'answer', atNs, call: part(whole, answer, 'answer'), name, ...inside, outcome: outcomeOf(name, value) } as AnswerEntry;
  }
  if (detach !== undefined) return { kind: 'detach', atNs, call: part(whole, detach, 'detach') };
  if (released !== undefined) {
    const what = released === null ? undefined : part(t.string, released, 'released');
    return { kind: 'released', atNs, what, ...inside, ...(fails === undefined ? {} : { error: part(tracedError, fails, 'fails') }) };
  }
  if (dropped !== undefined) return { kind: 'dropped', atNs, lines: part(whole, dropped, 'dropped') };
  if (end === true) return { kind: 'end', atNs };
  throw fault('none of call, answer, detach, released, dropped and end');
}

function insideField({ inside }: Output): object {
  return inside === undefined ? {} : { inside };
}

function outcomeFields(name: CallName, outcome: Outcome): object {
  return 'error' in outcome ? { fails: tracedError.encode(outcome.error) } : { is: codecsOf(name).answer.encode(outcome.value) };
}

function outcomeOf(name: CallName, value: Readonly<Record<string, unknown>>): Outcome {
  if ('fails' in value) return { error: part(tracedError, value['fails'], 'fails') };
  return { value: part(codecsOf(name).answer, value['is'], 'is') };
}

function nameOf(value: Readonly<Record<string, unknown>>): CallName {
  const { do: name } = value;
  if (!isCallName(name)) throw fault(`do: a port has no call ${shortened(name)}`);
  return name;
}

function part<A>(codec: t.Type<A, unknown>, value: unknown, key: string): A {
  const decoded = codec.decode(value);
  if (!isLeft(decoded)) return decoded.right;
  const [first] = decoded.left;
  const where = first?.context.map((one) => one.key).filter((one) => one !== '' && !/^\d+$/.test(one)).join('.') ?? '';
  throw fault(`${where === '' ? key : `${key}.${where}`}: ${first?.message ?? `expected ${first?.context.at(-1)?.type.name ?? codec.name}`}`);
}

function fault(what: string): VfioError {
  return new VfioError('VFIO_E_TRACE', what, { operation });
}

function objectOf(line: string): Readonly<Record<string, unknown>> | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Readonly<Record<string, unknown>>) : undefined;
}

function shortened(value: unknown): string {
  const text = typeof value === 'string' ? value : typeof value;
  return text.length > 40 ? `${text.slice(0, 40)}...` : text;
}
