import type { Trace } from '../devices/trace/reader.js';
import type { RunPlan } from './served-run.js';

/** Later than it was in the recording, ns: times of a replay are whole microseconds, rounded up. Nothing comes in between. */
const marginNs = 10_000n;

/**
 * The plan by which `servedRun` does again what it did in a recording: the states that its driver was asked for (an arc that there is
 * not never came so far), and when it was closed.
 */
export function planOf({ header, entries }: Trace): RunPlan {
  const states = entries.flatMap((entry) => (entry.kind === 'call' && entry.name === 'setState' ? [entry.args.to] : []));
  const last = entries.find((entry) => entry.kind === 'call' && entry.name === 'close') ?? entries.at(-1);
  const forMs = Number(((last?.atNs ?? header.atNs) - header.atNs + marginNs) / 1000n) / 1000;
  return { ...(states.length > 0 ? { states } : {}), forMs };
}
