import { defer, of, type Observable } from 'rxjs';
import type { Trace } from '../devices/trace/reader.js';
import { readTraceFile } from '../devices/replay/read-trace-file.js';
import { drawingOf } from '../testing/drawing/drawing.js';
import { renderHtml } from '../testing/drawing/render-html.js';
import { renderSvg } from '../testing/drawing/render-svg.js';
import { traceEvents } from '../testing/drawing/trace-lanes.js';
import { renderDiagram } from '../testing/render-diagram.js';
import { tryFile, tryOther, writeText } from './write-text.js';

/** What `vfio-rx render` is told. */
export interface DrawOptions {
  /** Drawn on one time axis. */
  readonly traces: readonly string[];
  readonly form: 'text' | 'svg' | 'html';
  /** A file; else it is written. */
  readonly out?: string | undefined;
  /** Where it is written to takes colours. */
  readonly color: boolean;
}

/** Draws traces as text, as SVG or as a page. Emits the exit code. Fails as `readTraceFile` does. */
export function renderCommand({ traces: paths, form, out, color }: DrawOptions, write: (text: string) => void): Observable<number> {
  return defer(() => {
    if (out !== undefined) {
      tryOther(out, paths, 'write');
      tryFile(out, 'write');
    }
    const text = drawn(paths.map((path) => readTraceFile(path)), form, color && out === undefined);
    if (out === undefined) write(text);
    else writeText(out, text);
    return of(0);
  });
}

function drawn(traces: readonly Trace[], form: DrawOptions['form'], color: boolean): string {
  if (form === 'html') return renderHtml(traces);
  if (form === 'svg') return renderSvg(traces);
  const events = traces.flatMap(traceEvents).sort((a, b) => (a.atNs < b.atNs ? -1 : a.atNs > b.atNs ? 1 : 0));
  return [renderDiagram(events, { color }), ...drawingOf(traces).notes.map((note) => `${note}\n`)].join('');
}
