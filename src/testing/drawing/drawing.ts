import type { PortEvent } from '../../diagnostics.js';
import type { Trace } from '../../devices/trace/reader.js';
import type { DrawnDevice } from './drawn.js';
import { eventDevices } from './event-lanes.js';
import { traceDevice } from './trace-lanes.js';

/** A run, ready to be drawn: whatever draws it, it draws this. */
export interface Drawing {
  /** From the first event to the last, ns. */
  readonly lengthNs: number;
  readonly devices: readonly DrawnDevice[];
  /** What a reader must know: events are missing, the recording was cut off. */
  readonly notes: readonly string[];
}

/** What `recordLanes` gives. */
export interface RecordedLanes {
  readonly events: readonly PortEvent[];
  readonly dropped?: number;
}

/** What can be drawn: one trace, those of several devices of one machine (they share a clock), or a recording of lanes. */
export type Drawable = Trace | readonly Trace[] | RecordedLanes;

export function drawingOf(run: Drawable): Drawing {
  if ('events' in run) {
    const { events, dropped = 0 } = run;
    const [first, last] = ends(events.map(({ atNs }) => atNs));
    return {
      lengthNs: Number(last - first),
      devices: eventDevices(events, (atNs) => Number(atNs - first), Number(last - first)),
      notes: dropped > 0 ? [`${dropped} earlier events were dropped`] : [],
    };
  }
  const traces = 'header' in run ? [run] : run;
  const [first, last] = ends(traces.flatMap(({ entries }) => [entries[0], entries.at(-1)].flatMap((entry) => (entry === undefined ? [] : [entry.atNs]))));
  return {
    lengthNs: Number(last - first),
    devices: traces.map((trace) => traceDevice(trace, (atNs) => Number(atNs - first), Number(last - first))),
    notes: traces.flatMap(({ header, entries, incomplete }) => {
      const dropped = entries.reduce((sum, entry) => sum + (entry.kind === 'dropped' ? entry.lines : 0), 0);
      return [...(dropped > 0 ? [`${header.device}: ${dropped} lines were dropped while recording`] : []), ...(incomplete === undefined ? [] : [incomplete.message])];
    }),
  };
}

function ends(times: readonly bigint[]): readonly [bigint, bigint] {
  let [first, last] = [times[0] ?? 0n, times[0] ?? 0n];
  for (const atNs of times) {
    if (atNs < first) first = atNs;
    if (atNs > last) last = atNs;
  }
  return [first, last];
}

/** `1.25ms`: at most three decimals, in the unit that reads best. */
export function formatNs(ns: number): string {
  const [divisor, unit] = ns >= 1e9 ? [1e9, 's'] : ns >= 1e6 ? [1e6, 'ms'] : ns >= 1e3 ? [1e3, 'us'] : [1, 'ns'];
  return `${Number((ns / divisor).toFixed(3))}${unit}`;
}
