import type { Lane, PortEvent } from '../diagnostics.js';
import { eventText, laneOrder } from './device-lanes.js';
import { byFrame } from './difference.js';
import { formatUs } from './frames.js';
import { listed, segmentsOf, type Segment } from './picture.js';

/** How a run is drawn. */
export interface RenderOptions {
  /** Columns; the terminal's, or 100. */
  readonly width?: number;
  /** How many panels a long run may be broken into, one below the other. Default 3; the scale grows until it fits. */
  readonly panels?: number;
  /** ANSI colours. Default false. */
  readonly color?: boolean;
  /** The lanes to draw; default: all on which something happened. */
  readonly lanes?: readonly Lane[];
  /** Events that the recording had to drop; the legend says so. */
  readonly dropped?: number;
  /** The last lines, which explain the signs. Default true. */
  readonly legend?: boolean;
}

/** One lane of one device. */
interface Row {
  readonly device: string;
  readonly lane: Lane;
  readonly events: readonly { readonly us: number; readonly text: string }[];
}

/** A diagram at one scale, before it is broken into panels. */
interface Layout {
  readonly usPerColumn: number;
  readonly panels: readonly (readonly Segment[])[];
}

const colorOf: Readonly<Record<Lane, number>> = { driver: 35, signal: 33, query: 36, unmap: 31, map: 32, ack: 34, state: 1 };

/** Gaps are worth less in a terminal than in a test: nobody counts dashes there. */
const longestDashes = 3;
/** Of more events in one column, the first are named and the rest counted. */
const namedInColumn = 3;

/**
 * Draws a run as a marble diagram for a terminal: the lanes of each device under each other, all on one time axis that begins
 * with the first event. The scale is the finest (1, 2, 5, 10 us ... a column) with which the run fits into `width` and
 * `panels`; stretches in which nothing happens are written as durations.
 *
 * The same events give the same text.
 *
 * ```ts
 * using recording = recordLanes();
 * // ... the run ...
 * process.stdout.write(renderDiagram(recording.events, { dropped: recording.dropped, color: process.stdout.isTTY && process.stdout.hasColors() }));
 * ```
 */
export function renderDiagram(events: readonly PortEvent[], options: RenderOptions = {}): string {
  const { width = terminalWidth(), panels = 3, color = false, dropped = 0, legend = true } = options;
  const rows = rowsOf(events, options.lanes ?? laneOrder);
  if (rows.length === 0) return 'nothing happened\n';
  const titleWidth = Math.max(...rows.map(({ lane }) => lane.length)) + 4;
  const layout = fit(rows, Math.max(20, width - titleWidth), panels);
  const inFlight = new Set<number>();
  const drawn = layout.panels.map((panel) => drawPanel(rows, panel, { width, usPerColumn: layout.usPerColumn, titleWidth, color, inFlight }));
  return `${[...drawn, ...(legend ? [legendOf(layout, rows, dropped, width)] : [])].join('\n\n')}\n`;
}

function terminalWidth(): number {
  // Not a number where stdout is no terminal, whatever its type says.
  const { columns } = process.stdout as { readonly columns?: number };
  return columns ?? 100;
}

function rowsOf(events: readonly PortEvent[], lanes: readonly Lane[]): readonly Row[] {
  const start = events.reduce((first, { atNs }) => (atNs < first ? atNs : first), events[0]?.atNs ?? 0n);
  const devices = [...new Set(events.map(({ device }) => device))];
  return devices.flatMap((device) =>
    laneOrder
      .filter((lane) => lanes.includes(lane))
      .map((lane) => ({
        device,
        lane,
        events: events.filter((event) => event.device === device && event.lane === lane).map((event) => ({ us: Number((event.atNs - start) / 1_000n), text: eventText(event) })),
      }))
      .filter((row) => row.events.length > 0),
  );
}

/** The finest scale that fits; where none does, the coarsest, in as many panels as it takes. */
function fit(rows: readonly Row[], width: number, panels: number): Layout {
  // No spread: a run may have more events than a call takes arguments.
  const longest = rows.reduce((most, { events }) => events.reduce((later, { us }) => Math.max(later, us), most), 0);
  let layout = layoutAt(rows, 1, width);
  for (const usPerColumn of scales()) {
    layout = layoutAt(rows, usPerColumn, width);
    if (layout.panels.length <= panels || usPerColumn > longest) break;
  }
  return layout;
}

/** 1, 2, 5, 10, 20, 50 ... */
function* scales(): Generator<number> {
  for (let decade = 1; ; decade *= 10) yield* [decade, 2 * decade, 5 * decade];
}

function layoutAt(rows: readonly Row[], usPerColumn: number, width: number): Layout {
  const texts = rows.map(({ events }) => {
    const shown = events.map(({ us, text }) => ({ frame: Math.floor(us / usPerColumn), text }));
    return new Map([...byFrame(shown)].map(([frame, here]) => [frame, listed(here.map(({ text }) => text), namedInColumn)]));
  });
  const panels: Segment[][] = [[]];
  let used = 0;
  for (const segment of segmentsOf(texts, usPerColumn, longestDashes)) {
    if (used > 0 && used + segment.width > width) {
      panels.push([]);
      used = 0;
    }
    panels.at(-1)?.push(segment);
    used += segment.width;
  }
  return { usPerColumn, panels };
}

interface Pen {
  readonly width: number;
  readonly usPerColumn: number;
  readonly titleWidth: number;
  readonly color: boolean;
  /** The rows in which a call is in flight where the pen stands; carried from panel to panel. */
  readonly inFlight: Set<number>;
}

function drawPanel(rows: readonly Row[], panel: readonly Segment[], { width: most, usPerColumn, titleWidth, color, inFlight }: Pen): string {
  const lines = [`${' '.repeat(titleWidth)}${ruler(panel, usPerColumn, most - titleWidth)}`.trimEnd()];
  for (const [index, { device, lane }] of rows.entries()) {
    if (device !== rows[index - 1]?.device) lines.push(device);
    const cells = panel.map(({ frame, texts, width }) => {
      const text = texts[index] ?? '';
      if (/^-+$/.test(text)) return (inFlight.has(index) ? text.replaceAll('-', '=') : text).padEnd(width);
      if (frame === undefined) return text;
      // The last bracket of a column tells how it goes on.
      if (/\[[^\]]*$/.test(text)) inFlight.add(index);
      else if (text.includes(']')) inFlight.delete(index);
      return `${color ? painted(text, lane) : text}${' '.repeat(width - text.length)}`;
    });
    lines.push(`  ${lane.padEnd(titleWidth - 2)}${cells.join('')}`.trimEnd());
  }
  return lines.join('\n');
}

/** The time of each column that has room for it. */
function ruler(panel: readonly Segment[], usPerColumn: number, most: number): string {
  let text = '';
  let column = 0;
  for (const { frame, width } of panel) {
    const time = frame === undefined ? '' : formatUs(frame * usPerColumn);
    if (time !== '' && (text === '' || text.length < column) && column + time.length <= most) text = `${text.padEnd(column)}${time}`;
    column += width;
  }
  return text;
}

function painted(text: string, lane: Lane): string {
  return `\u001b[${text.includes('#') ? '1;31' : colorOf[lane]}m${text}\u001b[0m`;
}

function legendOf({ usPerColumn, panels }: Layout, rows: readonly Row[], dropped: number, width: number): string {
  const texts = panels.flatMap((panel) => panel.flatMap((segment) => segment.texts));
  const has = (sign: string): boolean => texts.some((text) => text.includes(sign));
  const lanes = new Set(rows.map(({ lane }) => lane));
  const regions = [lanes.has('query') ? 'q asked' : '', lanes.has('unmap') ? 'u unmapped' : '', lanes.has('map') ? 'm mapped' : ''].filter((one) => one !== '');
  const signs = [
    `each sign or <name> is ${formatUs(usPerColumn)}`,
    ...(has(' ') ? ['a duration stands where nothing happens'] : []),
    ...(regions.length > 0 ? [`${regions.join(', ')} and the region`] : []),
    ...(has(',') ? ['<a,b> within one'] : []),
    ...(has('[') ? ['[===] a call in flight'] : []),
    ...(has('#') ? ['# failed'] : []),
  ];
  const lines = signs.reduce<readonly string[]>((packed, sign) => {
    const last = packed.at(-1);
    return last !== undefined && last.length + 3 + sign.length <= width ? [...packed.slice(0, -1), `${last} · ${sign}`] : [...packed, sign];
  }, []);
  return [...lines, ...(dropped > 0 ? [`${dropped} earlier events were dropped`] : [])].join('\n');
}
