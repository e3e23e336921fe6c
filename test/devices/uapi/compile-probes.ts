import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { must, run } from '../../lanes/children.mjs';

/** Asks a C compiler what integer expressions are worth under given headers. */
export interface ProbeOptions {
  readonly headers: readonly string[];
  readonly includes: readonly string[];
}

/**
 * The value of each expression, undefined where the headers lack a name in it.
 *
 * Enumerators cannot be asked for with #ifdef, so the compiler is asked twice: the first pass has one line for each expression
 * and tells by its errors which lines do not compile; the second runs the others.
 */
export async function probe(expressions: readonly string[], { headers, includes }: ProbeOptions): Promise<(number | undefined)[]> {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-probe-'));
  try {
    const source = join(folder, 'probe.c');
    const program = join(folder, 'probe');
    const search = includes.flatMap((path) => ['-isystem', path]);
    const prelude = [...headers, '<stddef.h>', '<stdio.h>'].map((header) => `#include ${header}`);

    const line = (expression: string, i: number): string => `static long long p${i}(void) { return (long long)(${expression}); }`;
    writeFileSync(source, [...prelude, ...expressions.map(line)].join('\n'));
    const first = await run('gcc', ['-fsyntax-only', '-fmax-errors=0', ...search, source], { env: { ...process.env, LC_ALL: 'C' } });
    const failed = new Set<number>();
    for (const [error, file, at] of first.stderr.matchAll(/^(.+?):(\d+):\d+: (?:fatal )?error: .*$/gm)) {
      const i = Number(at) - 1 - prelude.length;
      // An error elsewhere would make every value doubtful.
      if (file !== source || i < 0) throw new Error(`the headers do not compile: ${error}`);
      failed.add(i);
    }
    if (first.code !== 0 && failed.size === 0) throw new Error(`gcc failed: ${first.stderr}`);

    const good = expressions.map((_, i) => i).filter((i) => !failed.has(i));
    const print = good.map((i) => `  printf("%d %lld\\n", ${i}, (long long)(${expressions[i] ?? ''}));`);
    writeFileSync(source, [...prelude, 'int main(void) {', ...print, '  return 0;', '}', ''].join('\n'));
    await must('gcc', ['-w', ...search, '-o', program, source]);
    const values = new Map<number, number>();
    for (const row of (await must(program, [])).stdout.trim().split('\n')) {
      const [i, value] = row.split(' ').map(Number);
      if (i !== undefined && value !== undefined) values.set(i, value);
    }
    return expressions.map((_, i) => values.get(i));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
