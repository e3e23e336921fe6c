import type { Lane, PortEvent } from '../diagnostics.js';
import type { FrameUnit } from './frames.js';
import { parseMarbles } from './marble-parser.js';
import { bracketed, type Shown } from './shown.js';

/** All lanes of a device, in the order in which a remap passes through them. */
export const laneOrder: readonly Lane[] = ['driver', 'signal', 'query', 'unmap', 'map', 'ack', 'state'];

/** One marble string a lane; `docs/marbles.md` has the notation. */
export type Lanes = Partial<Readonly<Record<Lane, string>>>;

/** The states that have a short form on the lane `state`. */
export const shortStates: Readonly<Record<string, string>> = {
  e: 'error',
  s: 'stop',
  r: 'running',
  c: 'stop-copy',
  p: 'pre-copy',
  R: 'running-p2p',
  P: 'pre-copy-p2p',
};

const regionLanes: Partial<Readonly<Record<Lane, string>>> = { query: 'q', unmap: 'u', map: 'm' };

/** The full name of what a lane's short form stands for: on `query`, `3` is `q3` and `q` is `q0`. */
export function fullLabel(lane: Lane, label: string): string {
  if (lane === 'state') return shortStates[label] ?? label;
  if (lane === 'driver') return /^(?:revoke|restore)$/.test(label) ? `${label}0` : label;
  const letter = regionLanes[lane];
  if (letter === undefined) return label;
  if (label === letter) return `${letter}0`;
  return /^\d+$/.test(label) ? `${letter}${label}` : label;
}

/** A lane of an expectation. */
export function expectedLane(lane: Lane, marbles: string, unit: FrameUnit): readonly Shown[] {
  return parseMarbles(marbles, 'lane', unit).map(({ frame, kind, name, failed = false }) => ({
    frame,
    text: laneText(kind === 'begin' || kind === 'end' ? kind : undefined, fullLabel(lane, name), failed),
  }));
}

/** What stands in a diagram for one event of a port. */
export function eventText({ phase, label, error }: PortEvent): string {
  return laneText(phase, label, error !== undefined);
}

function laneText(phase: PortEvent['phase'], label: string, failed: boolean): string {
  if (phase === 'end') return failed ? ']#' : ']';
  return `${phase === 'begin' ? '[' : ''}${bracketed(failed ? `${label}#` : label)}`;
}
