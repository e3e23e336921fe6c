import { clearScreenDown, moveCursor } from 'node:readline';
import type { Told } from './told.js';
import type { Verdict } from './verdict.js';

/** How a run is shown while it goes on, and how it ends. */
export interface Show {
  tell(told: Told): void;
  /** The end of the live part: what follows is plain. */
  finish(): void;
  diagram(text: string): void;
  verdict(verdict: Verdict): void;
}

/** The lines that a terminal shows at a time, and how often it is painted, ms. */
const window = 12;
const paintMs = 100;

export function chooseShow(out: NodeJS.WriteStream, json: boolean): Show {
  if (json) return jsonLines(out);
  return out.isTTY ? terminal(out) : plainLines(out);
}

function plainLines(out: NodeJS.WritableStream): Show {
  const stamp = stopwatch();
  return {
    tell: (told) => {
      if (told.routine !== true) out.write(`${line(stamp(), told)}\n`);
    },
    finish: () => undefined,
    diagram: (text) => void out.write(`\n${text}\n`),
    verdict: (verdict) => void out.write(verdictText(verdict, false)),
  };
}

/** The last events, painted over and over; guests and state stay in view on top. */
function terminal(out: NodeJS.WriteStream): Show {
  const stamp = stopwatch();
  const last: string[] = [];
  const pinned = new Map<Told['what'], string>();
  let painted = 0;
  const paint = (): void => {
    const lines = [...pinned.values(), ...last.slice(-window)].map((text) => text.slice(0, out.columns - 1));
    moveCursor(out, 0, -painted);
    clearScreenDown(out);
    out.write(lines.map((text) => `${text}\n`).join(''));
    painted = lines.length;
  };
  const painter = setInterval(paint, paintMs);
  painter.unref();
  return {
    tell(told) {
      if (told.routine === true) return;
      const text = line(stamp(), told);
      if (told.what === 'guests' || told.what === 'device') pinned.set(told.what, text);
      else last.push(text);
      if (last.length > window) last.shift();
    },
    finish() {
      clearInterval(painter);
      paint();
    },
    diagram: (text) => void out.write(`\n${text}\n`),
    verdict: (verdict) => void out.write(verdictText(verdict, out.hasColors())),
  };
}

function jsonLines(out: NodeJS.WritableStream): Show {
  const stamp = stopwatch();
  const write = (value: unknown): void => void out.write(`${JSON.stringify(value)}\n`);
  return {
    tell: ({ what, data }) => write({ atMs: stamp(), what, ...data }),
    finish: () => undefined,
    diagram: () => undefined,
    verdict: (verdict) => write({ atMs: stamp(), what: 'verdict', ...verdict }),
  };
}

function stopwatch(): () => number {
  const began = performance.now();
  return () => performance.now() - began;
}

function line(atMs: number, { what, text }: Told): string {
  return `${(atMs / 1000).toFixed(3).padStart(7)} s  ${what.padEnd(7)}  ${text}`;
}

function verdictText({ ok, checks }: Verdict, color: boolean): string {
  const paint = (good: boolean, text: string): string => (color ? `\u001b[${good ? 32 : 31}m${text}\u001b[0m` : text);
  const width = Math.max(...checks.map(({ what }) => what.length));
  const lines = checks.map((check) => `  ${paint(check.ok, check.ok ? 'ok   ' : 'WRONG')}  ${check.what.padEnd(width)}  ${check.detail}`);
  const wrong = checks.filter((check) => !check.ok).length;
  const sum = ok ? 'verdict: good' : `verdict: wrong, ${wrong} of ${checks.length} checks failed`;
  return `The device says:\n${lines.join('\n')}\n${paint(ok, sum)}\n`;
}
