import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { shown, wanted, type Result } from './table.js';

const begin = '<!-- begin: written by npm run bench -- --save -->';
const end = '<!-- end -->';

/** Replaces the table between the two marks, and says on what machine and when it was measured. */
export function saveTable(path: string, results: readonly Result[], pairs: number): void {
  const text = readFileSync(path, 'utf8');
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`${path} has lost its marks: ${begin} and ${end}`);
  writeFileSync(path, `${text.slice(0, from)}${begin}\n${machine(pairs)}\n\n${table(results)}\n${text.slice(to)}`);
}

function machine(pairs: number): string {
  const [first] = cpus();
  const gib = Math.round(totalmem() / 2 ** 30);
  return `${new Date().toISOString().slice(0, 10)}, ${cpus().length} CPUs (${first?.model.trim() ?? 'unknown'}), ${gib} GiB, Linux ${release()}, Node ${process.versions.node}; medians of ${pairs} interleaved pairs.`;
}

function table(results: readonly Result[]): string {
  const rows = results.map(({ line, ours, beside, ratio, cpuRatio, verdict }) => {
    const base = beside === undefined ? '' : `${line.beside === undefined ? '' : 'bare '}${shown(beside, line)}`;
    const byCpu = cpuRatio === undefined ? '' : ` (by CPU time ${cpuRatio.toFixed(2)})`;
    return `| ${line.name.trim()} | ${base} | ${shown(ours, line)} | ${ratio === undefined ? '' : ratio.toFixed(2) + byCpu} | ${wanted(line)} | ${verdict} |`;
  });
  return ['| line | C | vfio-rx | ratio | wanted | |', '|---|---|---|---|---|---|', ...rows].join('\n');
}
