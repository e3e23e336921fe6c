import { drawingOf, formatNs, type Drawable, type Drawing } from './drawing.js';
import type { DrawnLane, Mark } from './drawn.js';
import { isRegionLane } from './lanes.js';

/** How a picture is drawn. */
export interface SvgOptions {
  /** Pixels; 1200 unless told. */
  readonly width?: number;
}

const titleWidth = 120;
const margin = 10;
const rowHeight = 20;
const barHeight = 14;
/** What a sign of the font takes, pixels. */
const signWidth = 6.2;

/** Colours of lanes; one that has none is grey. */
export const laneColors: Readonly<Record<string, string>> = {
  driver: '#8e44ad', signal: '#b7950b', irq: '#b7950b', query: '#148f9e', unmap: '#c0392b', map: '#1e8449', ack: '#2155c4', state: '#34495e', bytes: '#a04000', dma: '#6c3483',
};
const regionColor = '#2e9e63';
const failedColor = '#e00000';

export function colorOf(lane: string): string {
  return laneColors[lane] ?? (isRegionLane(lane) ? regionColor : '#666666');
}

/**
 * Draws a run as SVG: the lanes of each device under each other on one time axis, bars where something lasts, what an event was as its
 * title. Its size is bounded by `width`, whatever the run: of more events than pixels each pixel says how many.
 *
 * The same run gives the same text.
 */
export function renderSvg(run: Drawable, { width = 1200 }: SvgOptions = {}): string {
  const drawing = drawingOf(run);
  const axis = axisOf(drawing, Math.max(100, width - titleWidth - 2 * margin));
  const parts: string[] = [];
  let y = margin + rowHeight;
  for (const device of drawing.devices) {
    parts.push(text(margin, y + 13, device.name, '#000000', 'bold'));
    y += rowHeight;
    for (const lane of device.lanes) {
      parts.push(text(margin + 8, y + 13, lane.name, colorOf(lane.name)), line(titleWidth, y + rowHeight / 2, titleWidth + axis.width, y + rowHeight / 2, '#dddddd'), ...laneParts(lane, axis, y + (rowHeight - barHeight) / 2));
      y += rowHeight;
    }
  }
  const height = y + margin + drawing.notes.length * rowHeight;
  const ticks = axis.ticks.flatMap((ns) => [line(axis.x(ns), margin + rowHeight - 4, axis.x(ns), y, '#eeeeee'), text(axis.x(ns) + 2, margin + 10, formatNs(ns), '#666666')]);
  const notes = drawing.notes.map((note, index) => text(margin, y + 14 + index * rowHeight, note, failedColor));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="monospace" font-size="10">`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    ...ticks,
    ...parts,
    ...notes,
    '</svg>',
    '',
  ].join('\n');
}

interface Axis {
  readonly width: number;
  x(ns: number): number;
  readonly ticks: readonly number[];
}

function axisOf({ lengthNs }: Drawing, width: number): Axis {
  const x = (ns: number): number => titleWidth + (lengthNs === 0 ? 0 : (ns / lengthNs) * width);
  const step = tickStep(lengthNs, width / 90);
  return { width, x, ticks: Array.from({ length: Math.floor(lengthNs / step) + 1 }, (_, index) => index * step) };
}

/** 1, 2, 5, 10, 20 ... ns, so that no more than so many fit. */
function tickStep(lengthNs: number, most: number): number {
  for (let decade = 1; ; decade *= 10) for (const step of [decade, 2 * decade, 5 * decade]) if (lengthNs / step <= most) return step;
}

function laneParts({ name, marks }: DrawnLane, axis: Axis, y: number): readonly string[] {
  return marks.length > axis.width ? crowded(name, marks, axis, y) : marks.map((mark, index) => markPart(name, mark, marks[index + 1], axis, y));
}

function markPart(lane: string, mark: Mark, next: Mark | undefined, axis: Axis, y: number): string {
  const x = axis.x(mark.atNs);
  const wide = Math.max(2, mark.endNs === undefined ? 0 : axis.x(mark.endNs) - x);
  const room = (next === undefined ? titleWidth + axis.width : axis.x(next.atNs)) - x - 3;
  const label = mark.label.length * signWidth <= room ? text(x + 3, y + 10, mark.label, mark.endNs === undefined || wide < 12 ? '#000000' : '#ffffff') : '';
  return `<g>${title(`${formatNs(mark.atNs)}${mark.endNs === undefined ? '' : `, for ${formatNs(mark.endNs - mark.atNs)}`}: ${mark.detail}`)}${rect(x, y, wide, barHeight, mark.failed === true ? failedColor : colorOf(lane))}${label}</g>`;
}

/** One bar a pixel: as high as it is crowded, red where something failed. */
function crowded(lane: string, marks: readonly Mark[], axis: Axis, y: number): readonly string[] {
  const columns = new Map<number, { count: number; failed: number; readonly first: Mark }>();
  for (const mark of marks) {
    const x = Math.floor(axis.x(mark.atNs));
    const column = columns.get(x) ?? { count: 0, failed: 0, first: mark };
    column.count += 1;
    if (mark.failed === true) column.failed += 1;
    columns.set(x, column);
  }
  const most = [...columns.values()].reduce((high, { count }) => Math.max(high, count), 1);
  return [...columns].map(([x, { count, failed, first }]) => {
    const height = Math.max(2, Math.round((barHeight * count) / most));
    const said = count === 1 ? first.detail : `${count} events${failed > 0 ? `, ${failed} failed` : ''}; the first: ${first.detail}`;
    return `<g>${title(`${formatNs(first.atNs)}: ${said}`)}${rect(x, y + barHeight - height, 1, height, failed > 0 ? failedColor : colorOf(lane))}</g>`;
  });
}

const short = (value: number): string => String(Number(value.toFixed(2)));

function rect(x: number, y: number, width: number, height: number, fill: string): string {
  return `<rect x="${short(x)}" y="${short(y)}" width="${short(width)}" height="${short(height)}" fill="${fill}"/>`;
}

function line(x1: number, y1: number, x2: number, y2: number, stroke: string): string {
  return `<line x1="${short(x1)}" y1="${short(y1)}" x2="${short(x2)}" y2="${short(y2)}" stroke="${stroke}"/>`;
}

function text(x: number, y: number, content: string, fill: string, weight = 'normal'): string {
  return `<text x="${short(x)}" y="${short(y)}" fill="${fill}"${weight === 'normal' ? '' : ` font-weight="${weight}"`} pointer-events="none">${escaped(content)}</text>`;
}

function title(content: string): string {
  return `<title>${escaped(content)}</title>`;
}

/** Names and values come from devices and files: what XML cannot hold at all becomes a question mark. */
function escaped(content: string): string {
  return content
    .replaceAll(/[^\t\n\r\u{20}-\u{D7FF}\u{E000}-\u{FFFD}\u{10000}-\u{10FFFF}]/gu, '?')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;');
}
