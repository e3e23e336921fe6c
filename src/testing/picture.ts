import { byFrame } from './difference.js';
import { formatUs, usPerFrame, type FrameUnit } from './frames.js';
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
const defaultLongestDashes = 15;

/** The events of each frame as one text: `a`, `<revoke0>`, and several as `<q0,q1>`. */
export function cells(events: readonly Shown[]): ReadonlyMap<number, string> {
  return new Map([...byFrame(events)].map(([frame, here]) => [frame, listed(here.map(({ text }) => text))]));
}

/** Several events of one column; of more than `most` the first are named and the rest counted: `<q0,q1,+6>`. */
export function listed(texts: readonly string[], most = Infinity): string {
  if (texts.length === 1) return texts.join();
  const named = texts.length > most ? [...texts.slice(0, most - 1), `+${texts.length - most + 1}`] : texts;
  return `<${named.map(unbracketed).join(',')}>`;
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

/** A column of a diagram, or a gap between two: one text a line, all as wide as `width` when padded. */
export interface Segment {
  readonly frame: number | undefined;
  readonly texts: readonly string[];
  readonly width: number;
}

/** The columns of lines that share a time axis; a gap longer than `longestDashes` is written as a duration. */
export function segmentsOf(rows: readonly ReadonlyMap<number, string>[], usPerFrame: number, longestDashes = defaultLongestDashes): readonly Segment[] {
  const frames = [...new Set(rows.flatMap((row) => [...row.keys()]))].sort((a, b) => a - b);
  const segments: Segment[] = [];
  const add = (frame: number | undefined, texts: readonly string[]): void => {
    segments.push({ frame, texts, width: Math.max(...texts.map((text) => text.length)) });
  };
  let next = 0;
  for (const frame of frames) {
    const gap = frame - next;
    if (gap > 0) {
      const text = gap <= longestDashes ? '-'.repeat(gap) : ` ${formatUs(gap * usPerFrame)} `;
      add(undefined, rows.map(() => text));
    }
    add(frame, rows.map((row) => row.get(frame) ?? '-'));
    next = frame + 1;
  }
  return segments;
}

/**
 * Draws lines under each other, equal frames in equal columns: what is narrower than its column is padded with blanks, which
 * take no time, so that each line is a marble string that can be copied into a test.
 */
export function drawLines(lines: readonly Line[], unit: FrameUnit): Picture {
  const titleWidth = Math.max(0, ...lines.map(({ title }) => title.length));
  const segments = segmentsOf(lines.map(({ events }) => cells(events)), usPerFrame(unit));
  const columns = new Map<number, number>();
  let width = titleWidth + 2;
  for (const segment of segments) {
    if (segment.frame !== undefined) columns.set(segment.frame, width);
    width += segment.width;
  }
  const drawn = lines.map(({ title }, row) => `${title.padEnd(titleWidth)}  ${segments.map((segment) => (segment.texts[row] ?? '').padEnd(segment.width)).join('')}`.trimEnd());
  return { lines: drawn, columnOf: (frame) => columns.get(frame) ?? width };
}
