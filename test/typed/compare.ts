import { stripVTControlCharacters } from 'node:util';
import { withoutEdges } from './document.js';

/** Pure: whether what came back is what the document says. */

/** Any lines, as a line of its own; any text, within one. */
const any = '…';

/** How many lines of a long answer are shown around the one that differs. */
const shownLines = 12;

/** What a program has printed, in lines, as a reader sees it. */
export function linesOf(output: string): readonly string[] {
  return withoutEdges(stripVTControlCharacters(output).replaceAll('\r', '').split('\n').map((line) => line.trimEnd()));
}

/**
 * Where they part; undefined: nowhere. `said` is how many lines of `wanted` can be found whatever a `…` stands for, and `came`
 * the first line of `got` behind them.
 */
export function departure(wanted: readonly string[], got: readonly string[]): { readonly said: number; readonly came: number } | undefined {
  /** Where in `got` one may be when the lines of `wanted` before this one have come. */
  let places = new Set([0]);
  for (const [said, line] of wanted.entries()) {
    if (line.trim() === any) {
      const first = Math.min(...places);
      places = new Set(Array.from({ length: got.length - first + 1 }, (_, more) => first + more));
      continue;
    }
    const pattern = patternOf(line);
    const next = new Set([...places].filter((place) => place < got.length && pattern.test(got[place] ?? '')).map((place) => place + 1));
    if (next.size === 0) return { said, came: Math.min(...places) };
    places = next;
  }
  return places.has(got.length) ? undefined : { said: wanted.length, came: Math.max(...places) };
}

function patternOf(line: string): RegExp {
  return new RegExp(`^${line.trimEnd().split(any).map((text) => text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('.*')}$`, 'u');
}

/** What a person reads of it. */
export function difference(wanted: readonly string[], got: readonly string[]): string | undefined {
  const parted = departure(wanted, got);
  if (parted === undefined) return undefined;
  return [`  the document says${wanted.length === 0 ? ' that nothing comes back' : ''}`, ...marked(wanted, parted.said), `  what came back${got.length === 0 ? ': nothing' : ''}`, ...marked(got, parted.came)].join('\n');
}

/** The lines around the one at which they part, which has a `>`. */
function marked(lines: readonly string[], at: number): readonly string[] {
  const first = Math.max(0, at - shownLines);
  const last = Math.min(lines.length, at + shownLines);
  return [
    ...(first > 0 ? [`      (${first} lines)`] : []),
    ...lines.slice(first, last).map((line, index) => `    ${first + index === at ? '>' : ' '} ${line}`),
    ...(at === lines.length && at > 0 ? ['    > (the end)'] : []),
    ...(last < lines.length ? [`      (${lines.length - last} lines)`] : []),
  ];
}
