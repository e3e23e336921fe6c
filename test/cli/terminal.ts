import { PassThrough } from 'node:stream';
import type { Terminal } from '../../src/cli/live-table.js';

/** A terminal, and what stands on it at last: lines written over are gone. */
export function terminal(): { readonly stream: Terminal; readonly written: () => string; readonly lines: () => readonly string[] } {
  const stream = Object.assign(new PassThrough(), { isTTY: true, columns: 100 });
  const parts: string[] = [];
  stream.on('data', (chunk: Buffer) => parts.push(chunk.toString()));
  const written = () => parts.join('');
  return { stream, written, lines: () => screenOf(written()) };
}

/** Text, newlines, and the few sequences that a table moves about with. */
function screenOf(text: string): readonly string[] {
  const lines: string[] = [''];
  let row = 0;
  let column = 0;
  for (const [part = '', count = '1', letter = ''] of text.matchAll(/\u001b\[[?]?(\d*)([a-zA-Z])|\n|[^\u001b\n]/g)) {
    if (part === '\n') {
      row += 1;
      column = 0;
      lines[row] ??= '';
    } else if (letter === 'A') row -= Number(count);
    else if (letter === 'G') column = Number(count) - 1;
    else if (letter === 'K') lines[row] = (lines[row] ?? '').slice(0, column);
    else if (letter === '') {
      const line = (lines[row] ?? '').padEnd(column);
      lines[row] = line.slice(0, column) + part + line.slice(column + 1);
      column += 1;
    }
  }
  return lines.map((line) => line.trimEnd());
}
