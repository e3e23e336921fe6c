import { readFileSync } from 'node:fs';
import { drawingOf, type Drawable, type Drawing } from './drawing.js';
import { colorOf } from './render-svg.js';

/** The script of the page stands beside this file, in `src` and in `dist` alike. */
const script = new URL('./page.mjs', import.meta.url);

/**
 * Draws a run as one HTML page that needs nothing else: lanes for each device, zoom by wheel and keys, and what stands under the
 * pointer in words. Made for runs of 100,000 events and more.
 *
 * @example
 * writeFileSync('run.html', renderHtml(readTraceFile('run.jsonl')));
 */
export function renderHtml(run: Drawable): string {
  const drawing = drawingOf(run);
  const names = drawing.devices.map(({ name }) => name).join(', ');
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'">
<title>${escaped(names === '' ? 'nothing happened' : names)}</title>
<style>
html, body { margin: 0; height: 100%; font: 12px monospace; color: #222; background: #fff; }
body { display: flex; flex-direction: column; }
header { padding: 6px 10px; border-bottom: 1px solid #ddd; display: flex; gap: 2em; flex-wrap: wrap; }
#range { font-weight: bold; }
#notes { color: #c00000; }
#view { flex: 1; overflow-y: auto; }
canvas { display: block; width: 100%; cursor: crosshair; }
#value { min-height: 3em; padding: 6px 10px; border-top: 1px solid #ddd; white-space: pre-wrap; overflow-wrap: anywhere; }
</style>
</head>
<body>
<header><span id="range"></span><span>wheel or + - zoom, drag or arrows move, 0 shows all</span><span id="notes">${drawing.notes.map(escaped).join(' · ')}</span></header>
<div id="view"><canvas id="canvas" tabindex="0"></canvas></div>
<output id="value"></output>
<script type="application/json" id="run">${json(dataOf(drawing))}</script>
<script>${readFileSync(script, 'utf8')}</script>
</body>
</html>
`;
}

/** What the page gets: columns of numbers, and each text once. */
export interface PageData {
  readonly lengthNs: number;
  readonly texts: readonly string[];
  readonly devices: readonly {
    readonly name: string;
    readonly lanes: readonly {
      readonly name: string;
      readonly color: string;
      readonly at: readonly number[];
      /** The same as `at` where it did not last. */
      readonly end: readonly number[];
      /** Indexes of `texts`. */
      readonly label: readonly number[];
      readonly detail: readonly number[];
      /** Indexes of marks that failed. */
      readonly failed: readonly number[];
    }[];
  }[];
}

function dataOf({ lengthNs, devices }: Drawing): PageData {
  const indexes = new Map<string, number>();
  const indexOf = (text: string): number => {
    const known = indexes.get(text);
    if (known !== undefined) return known;
    indexes.set(text, indexes.size);
    return indexes.size - 1;
  };
  const drawn = devices.map(({ name, lanes }) => ({
    name,
    lanes: lanes.map((lane) => ({
      name: lane.name,
      color: colorOf(lane.name),
      at: lane.marks.map(({ atNs }) => atNs),
      end: lane.marks.map(({ atNs, endNs = atNs }) => endNs),
      label: lane.marks.map(({ label }) => indexOf(label)),
      detail: lane.marks.map(({ detail }) => indexOf(detail)),
      failed: lane.marks.flatMap(({ failed }, index) => (failed === true ? [index] : [])),
    })),
  }));
  return { lengthNs, texts: [...indexes.keys()], devices: drawn };
}

/** Text inside a script ends at its end tag, whoever wrote it. */
function json(data: PageData): string {
  return JSON.stringify(data).replaceAll('<', '\\u003c');
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
