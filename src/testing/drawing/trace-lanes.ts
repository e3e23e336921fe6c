import { codecsOf } from '../../devices/trace/calls.js';
import type { AnswerEntry, CallEntry, Outcome } from '../../devices/trace/entry.js';
import { errorOf } from '../../devices/trace/values.js';
import type { Trace } from '../../devices/trace/reader.js';
import type { Lane, PortEvent } from '../../diagnostics.js';
import { Lanes } from './lanes.js';
import type { DrawnDevice } from './drawn.js';

const order = ['irq', 'query', 'unmap', 'map', 'ack', 'state', 'bytes', 'dma', 'other', 'released'] as const;

/** A call as a picture shows it: where, and in how few signs. */
interface Sign {
  readonly lane: (typeof order)[number];
  readonly label: string;
}

/** What one call is in a picture. `irqOf` finds the index of an irq by the call that brought it. */
function signOf(call: CallEntry, irqOf: (call: number) => number): Sign {
  switch (call.name) {
    case 'regionInfo':
      return { lane: 'query', label: `q${call.args.index}` };
    case 'map':
      return { lane: 'map', label: `m${call.args.region}` };
    case 'unmap':
      return { lane: 'unmap', label: `u${call.args.region}` };
    case 'irq.next':
    case 'irq.readNow':
      return { lane: 'irq', label: `irq${irqOf(call.args.irq[0])}` };
    case 'irq.ack':
      return { lane: 'ack', label: `${call.args.count}` };
    case 'setState':
      return { lane: 'state', label: call.args.to };
    case 'reset':
    case 'getState':
    case 'lowPower':
      return { lane: 'state', label: call.name };
    case 'data.read':
      return { lane: 'bytes', label: 'read' };
    case 'data.write':
      return { lane: 'bytes', label: `write ${call.args.bytes.size}` };
    case 'access':
    case 'accessNow':
      return { lane: 'bytes', label: `${call.args.write === undefined ? 'r' : 'w'}${call.args.region}` };
    case 'dmaMap':
    case 'dmaUnmap':
    case 'allocateDma':
    case 'dmaLimits':
    case 'dma.free':
      return { lane: 'dma', label: call.name };
    default:
      return { lane: 'other', label: call.name };
  }
}

/** Values are cut, where one is long: a picture is no dump. */
const longestDetail = 300;

function detailOf(call: CallEntry, outcome: Outcome | undefined): string {
  const codecs = codecsOf(call.name);
  const args = JSON.stringify(codecs.args.encode(call.args));
  const ended = outcome === undefined ? 'no answer' : 'error' in outcome ? errorOf(outcome.error).message : JSON.stringify(codecs.answer.encode(outcome.value));
  const text = `${call.name}${args === '{}' ? '' : ` ${args}`}${ended === 'null' ? '' : ` -> ${ended}`}`;
  return text.length > longestDetail ? `${text.slice(0, longestDetail)}...` : text;
}

/** Each call of a trace with its end, in the order in which they ended; then what did not. */
function* endedCalls(trace: Trace): Generator<{ readonly call: CallEntry; readonly outcome: Outcome | undefined; readonly endNs: bigint | undefined }> {
  const open = new Map<number, CallEntry>();
  for (const entry of trace.entries) {
    if (entry.kind === 'call') {
      if (entry.outcome === undefined) open.set(entry.call, entry);
      else yield { call: entry, outcome: entry.outcome, endNs: entry.atNs };
    } else if (entry.kind === 'answer' || entry.kind === 'detach') {
      const call = open.get(entry.call);
      open.delete(entry.call);
      if (call !== undefined) yield { call, outcome: (entry as Partial<AnswerEntry>).outcome, endNs: entry.atNs };
    }
  }
  for (const call of open.values()) yield { call, outcome: undefined, endNs: undefined };
}

/** Irq indexes by the call that registered them. */
function irqFinder(trace: Trace): (call: number) => number {
  const indexes = new Map<number, number>();
  for (const entry of trace.entries) if (entry.kind === 'call' && (entry.name === 'irq' || entry.name === 'irqs')) indexes.set(entry.call, entry.args.index);
  return (call) => indexes.get(call) ?? -1;
}

export function traceDevice(trace: Trace, timeOf: (atNs: bigint) => number, lengthNs: number): DrawnDevice {
  const lanes = new Lanes(order, lengthNs);
  const irqOf = irqFinder(trace);
  for (const { call, outcome, endNs } of endedCalls(trace)) {
    const failed = outcome !== undefined && 'error' in outcome;
    const { lane, label } = signOf(call, irqOf);
    const at = timeOf(call.atNs);
    const end = endNs === undefined ? lengthNs : timeOf(endNs);
    // An armed irq is no event; its signal is.
    if (lane === 'irq') {
      if (outcome === undefined || failed || outcome.value === undefined) continue;
      const { value } = outcome as { readonly value: bigint | { readonly count: bigint } };
      lanes.add(lane, { atNs: end, label: `${label}+${typeof value === 'bigint' ? value : value.count}`, detail: detailOf(call, outcome) });
      continue;
    }
    lanes.add(lane, { atNs: at, ...(end > at ? { endNs: end } : {}), label, detail: detailOf(call, outcome), ...(failed ? { failed } : {}) });
    if (failed || outcome === undefined) continue;
    if (call.name === 'map') lanes.map(call.args.region, call.args, at);
    if (call.name === 'unmap') lanes.unmap(call.args.region, call.args, at);
  }
  for (const entry of trace.entries) {
    if (entry.kind !== 'released') continue;
    const failure = entry.error === undefined ? {} : { failed: true };
    const what = entry.what ?? 'all released';
    lanes.add('released', { atNs: timeOf(entry.atNs), label: what, detail: entry.error === undefined ? what : `${what}: ${errorOf(entry.error).message}`, ...failure });
  }
  return { name: trace.header.device, lanes: lanes.finish() };
}

/**
 * A trace as the events of a device's lanes, for `renderDiagram`. On the lane `signal` stands what the user read from the
 * remap irq, or from any other.
 */
export function traceEvents(trace: Trace): readonly PortEvent[] {
  const { device } = trace.header;
  const irqOf = irqFinder(trace);
  const lanesOf: Partial<Readonly<Record<Sign['lane'], Lane>>> = { query: 'query', unmap: 'unmap', map: 'map', ack: 'ack' };
  const events: PortEvent[] = [];
  for (const { call, outcome, endNs } of endedCalls(trace)) {
    const failed = outcome !== undefined && 'error' in outcome;
    const error = failed ? { error: errorOf(outcome.error) } : {};
    if (call.name === 'setState') {
      events.push({ device, atNs: call.atNs, lane: 'state', label: call.args.to, phase: 'begin' });
      if (endNs !== undefined) events.push({ device, atNs: endNs, lane: 'state', label: call.args.to, phase: 'end', ...error });
      continue;
    }
    const { lane, label } = signOf(call, irqOf);
    const shown = lanesOf[lane];
    if (shown !== undefined) events.push({ device, atNs: call.atNs, lane: shown, label, ...error });
    if (lane === 'irq' && !failed && outcome?.value !== undefined && endNs !== undefined) {
      const { value } = outcome as { readonly value: bigint | { readonly count: bigint } };
      events.push({ device, atNs: endNs, lane: 'signal', label: `${typeof value === 'bigint' ? value : value.count}` });
    }
  }
  return events.sort((a, b) => (a.atNs < b.atNs ? -1 : a.atNs > b.atNs ? 1 : 0));
}
