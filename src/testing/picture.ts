import { byFrame } from './difference.js';
import { formatFrames, type FrameUnit } from './frames.js';
import type { Shown } from './shown.js';

/** A line of a diagram before it is drawn. */
export interface Line {
  readonly title: string;
  readonly events: readonly Shown[];
}

/** Lines on one time axis. */
export interface Picture {
  readonly lines: readonly string[];
  /** Where a frame that has an event stands, in columns from the left. */
  columnOf(frame: number): number;
}

/** Of a long run, so many frames with events are drawn before and after the first difference. */
const neighbours = { before: 16, after: 8 };

/** Longer runs in which nothing happens are written as a duration. */
const longestDashes = 15;

/** The events of each frame as one text: `a`, `<revoke0>`, and several as `<q0,q1>`. */
export function cells(events: readonly Shown[]): ReadonlyMap<number, string> {
  return new Map(
    [...byFrame(events)].map(([frame, here]) => [frame, here.length === 1 ? here.map(({ text }) => text).join() : `<${here.map(({ text }) => unbracketed(text)).join(',')}>`]),
  );
}

function unbracketed(text: string): string {
  return text.replace(/^(\[?)<(.*)>$/, '$1$2');
}

/** The lines with only the events around a frame, where they have too many to be read; `left` says so. */
export function around(lines: readonly Line[], frame: number): { readonly lines: readonly Line[]; readonly left: string } {
  const frames = [...new Set(lines.flatMap(({ events }) => events.map((event) => event.frame)))].sort((a, b) => a - b);
  const at = frames.indexOf(frame);
  if (frames.length <= 2 * (neighbours.before + neighbours.after)) return { lines, left: '' };
  const kept = new Set(frames.slice(Math.max(0, at - neighbours.before), at + neighbours.after + 1));
  return {
    lines: lines.map(({ title, events }) => ({ title, events: events.filter((event) => kept.has(event.frame)) })),
    left: ` (around the first difference, ${kept.size} of ${frames.length} frames with events)`,
  };
}

/**
 * Draws lines under each other, equal frames in equal columns: what is narrower than its column is padded with blanks, which
 * take no time, so that each line is a marble string that can be copied into a test.
 */
export function drawLines(lines: readonly Line[], unit: FrameUnit): Picture {
  const rows = lines.map(({ events }) => cells(events));
  const frames = [...new Set(rows.flatMap((row) => [...row.keys()]))].sort((a, b) => a - b);
  const titleWidth = Math.max(0, ...lines.map(({ title }) => title.length));
  const texts = lines.map(({ title }) => (titleWidth === 0 ? '' : `${title.padEnd(titleWidth)}  `));
  const columns = new Map<number, number>();
  let width = texts[0]?.length ?? 0;
  let next = 0;
  const append = (text: (row: ReadonlyMap<number, string>) => string): void => {
    const added = rows.map(text);
    const widest = Math.max(...added.map((one) => one.length));
    for (const [index, one] of added.entries()) texts[index] = `${texts[index] ?? ''}${one.padEnd(widest)}`;
    width += widest;
  };
  for (const frame of frames) {
    const gap = frame - next;
    if (gap > 0) append(() => (gap <= longestDashes ? '-'.repeat(gap) : ` ${formatFrames(gap, unit)} `));
    columns.set(frame, width);
    append((row) => row.get(frame) ?? '-');
    next = frame + 1;
  }
  return { lines: texts.map((text) => text.trimEnd()), columnOf: (frame) => columns.get(frame) ?? width };
}
