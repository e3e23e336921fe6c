import { frameInWords, frameNumber, type FrameUnit } from './frames.js';
import type { Shown } from './shown.js';

/** The first frame in which two lines differ, and how. */
export interface Difference {
  readonly frame: number;
  readonly words: string;
  /** The events that differ, as they are drawn. */
  readonly texts: readonly string[];
}

/** undefined: the lines are the same. Order counts within a frame too. */
export function firstDifference(expected: readonly Shown[], actual: readonly Shown[], unit: FrameUnit): Difference | undefined {
  const [allWanted, allCame] = [byFrame(expected), byFrame(actual)];
  const frames = [...new Set([...allWanted.keys(), ...allCame.keys()])].sort((a, b) => a - b);
  for (const frame of frames) {
    const wanted = allWanted.get(frame) ?? [];
    const came = allCame.get(frame) ?? [];
    const index = Array.from({ length: Math.max(wanted.length, came.length) }).findIndex((_, i) => wanted[i]?.text !== came[i]?.text);
    if (index < 0) continue;
    const [want, have] = [wanted[index]?.text, came[index]?.text];
    return {
      frame,
      words: `${frameInWords(frame, unit)}: ${inWords(want, have, expected, actual, unit)}`,
      texts: [want, have].filter((text) => text !== undefined),
    };
  }
  return undefined;
}

export function byFrame(events: readonly Shown[]): ReadonlyMap<number, readonly Shown[]> {
  const frames = new Map<number, Shown[]>();
  for (const event of events) {
    const here = frames.get(event.frame);
    if (here === undefined) frames.set(event.frame, [event]);
    else here.push(event);
  }
  return frames;
}

function inWords(want: string | undefined, have: string | undefined, expected: readonly Shown[], actual: readonly Shown[], unit: FrameUnit): string {
  if (want !== undefined && have !== undefined) return `expected ${inMessage(want)}, ${inMessage(have)} came`;
  const nowhere = expected.length === 0 ? ' at all' : '';
  if (want === undefined && have !== undefined) {
    const due = displaced(have, expected, actual);
    return `nothing${nowhere} expected, ${inMessage(have)} came${due === undefined ? '' : ` (it was expected at ${frameNumber(due, unit)})`}`;
  }
  const late = displaced(want ?? '', actual, expected);
  return `expected ${inMessage(want ?? '')}, nothing came${late === undefined ? '' : ` (it came at ${frameNumber(late, unit)})`}`;
}

/** Where the same event stands in the other line, if it stands there without a partner: later, since all before is the same. */
function displaced(text: string, there: readonly Shown[], here: readonly Shown[]): number | undefined {
  return there.find((one) => one.text === text && !here.some((other) => other.text === text && other.frame === one.frame))?.frame;
}

function inMessage(text: string): string {
  return /^[\w?]$/.test(text) ? `<${text}>` : text;
}
