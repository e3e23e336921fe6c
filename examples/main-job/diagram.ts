import { renderDiagram, type RenderOptions } from 'vfio-rx/testing';
import type { Lane, PortEvent } from 'vfio-rx';
import type { TraceLine } from './witness.js';

/** How many panels a round may take, and all rounds at most, one below the other. */
const panels = { round: 3, run: 6 };

/** Of a whole run: what was demanded, what went and came, and the answer. */
const lanes: readonly Lane[] = ['signal', 'unmap', 'map', 'ack', 'state'];

/**
 * The first time into the saving group and back, fine enough to see the order, then the whole run.
 *
 * What a kernel's driver did is not seen at the port; its own trace has it, on the same clock.
 */
export function runDiagrams(events: readonly PortEvent[], trace: readonly TraceLine[], rounds: number, options: RenderOptions): string {
  const device = events[0]?.device ?? '';
  const all = events.some(({ lane }) => lane === 'signal') ? events : inOrder([...events, ...driverLanes(device, trace)]);
  const round = renderDiagram(firstRound(all), { ...options, panels: panels.round, legend: false });
  const run = renderDiagram(all, { ...options, panels: Math.min(rounds + 1, panels.run), lanes });
  return `The first round:\n${round}\nThe whole run:\n${run}`;
}

/** From the first write of device_state until the mappings are back after the second. */
function firstRound(events: readonly PortEvent[]): readonly PortEvent[] {
  const begins = events.flatMap(({ lane, phase, atNs }) => (lane === 'state' && phase === 'begin' ? [atNs] : []));
  const [from = 0n, , until] = begins;
  // The driver changes the layout just before the write is seen to begin in virtual time, just after it in real time.
  return events.filter(({ atNs }) => atNs >= from && (until === undefined || atNs < until));
}

/** A layout with fewer areas than before was revoked, one with more was restored. */
function driverLanes(device: string, trace: readonly TraceLine[]): readonly PortEvent[] {
  const areas = new Map<string, number>();
  return trace.flatMap(({ event, atNs, fields }): readonly PortEvent[] => {
    if (event === 'signal') return [{ device, atNs, lane: 'signal', label: fields['add'] ?? '1' }];
    if (event !== 'layout') return [];
    const region = fields['region'] ?? '';
    const count = Number(fields['areas'] ?? fields['mmap']);
    const revoked = count < (areas.get(region) ?? Infinity);
    areas.set(region, count);
    return [{ device, atNs, lane: 'driver', label: `${revoked ? 'revoke' : 'restore'}${region}`, region: Number(region) }];
  });
}

function inOrder(events: readonly PortEvent[]): readonly PortEvent[] {
  return [...events].sort((a, b) => (a.atNs < b.atNs ? -1 : a.atNs > b.atNs ? 1 : 0));
}
