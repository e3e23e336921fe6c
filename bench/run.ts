/**
 * `npm run bench`: the library beside a C program with the same contract, as ratios of medians. See README.md.
 *
 *   --json       one object on stdout instead of the table
 *   --check      exit code 1 when a ratio is beyond its limit
 *   --pairs N    interleaved pairs of runs for each line (7)
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';

interface Line {
  readonly name: string;
  readonly unit: 'us' | 'per second';
  /** Times: lower is better, and the ratio a ceiling. Rates: higher is better, and the ratio a floor. */
  readonly aim?: number;
  readonly limit?: number;
  /** Arguments of `peer serve-...` after the mode, and of `served.ts` after the peer. */
  readonly mode: 'pulse' | 'flood';
  /** Handed to the reactor's own callback, without rxjs. */
  readonly bare?: true;
  readonly args: readonly [string, string];
}

interface Sample {
  readonly p50Ns?: number;
  readonly perSecond?: number;
  readonly perCpuSecond?: number;
}

const lines: readonly Line[] = [
  { name: 'round trip, back to back', unit: 'us', aim: 1.6, limit: 1.8, mode: 'pulse', args: ['0', '40000'] },
  { name: 'round trip, 1 ms between', unit: 'us', mode: 'pulse', args: ['1000000', '1000'] },
  { name: 'deliveries, 64 fds', unit: 'per second', aim: 0.6, limit: 0.5, mode: 'flood', bare: true, args: ['64', '1500000'] },
  { name: 'deliveries, 1,024 fds', unit: 'per second', aim: 0.6, limit: 0.5, mode: 'flood', bare: true, args: ['1024', '1500000'] },
  { name: '  with an operator, 64 fds', unit: 'per second', aim: 0.6, limit: 0.5, mode: 'flood', args: ['64', '1500000'] },
  { name: '  with an operator, 1,024', unit: 'per second', aim: 0.6, limit: 0.5, mode: 'flood', args: ['1024', '1500000'] },
];

const flags = process.argv.slice(2);
const json = flags.includes('--json');
const pairs = Number(flags[flags.indexOf('--pairs') + 1] ?? 0) || 7;
const root = fileURLToPath(new URL('..', import.meta.url));
const served = fileURLToPath(new URL('served.ts', import.meta.url));
const peer = `${root}.cache/bench/peer`;

/** The served side on the first CPU. A flood comes from the second one, if there is one; a round trip's partner shares the first. */
const cpu = '0';
const floodCpu = availableParallelism() > 1 ? '1' : '0';

function compile(): void {
  const source = fileURLToPath(new URL('peer.c', import.meta.url));
  const age = statSync(peer, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (age > statSync(source).mtimeMs) return;
  mkdirSync(`${root}.cache/bench`, { recursive: true });
  try {
    execFileSync('gcc', ['-O2', '-Wall', '-Wextra', '-o', peer, source], { stdio: ['ignore', 'inherit', 'inherit'] });
  } catch (cause) {
    throw new Error('the C peer cannot be compiled: install gcc and the C library headers', { cause });
  }
}

/** The figure of one run, and the same by CPU time where there is one: a busy machine spoils the first more than the second. */
function sample(line: Line, side: 'c' | 'node'): { readonly figure: number; readonly byCpu: number | undefined } {
  const command =
    side === 'c'
      ? ['pin', cpu, peer, `serve-${line.mode}`, ...line.args, line.mode === 'flood' ? floodCpu : cpu]
      : ['pin', cpu, process.execPath, '--import', 'tsx', served, line.bare === true ? 'bare' : line.mode, peer, ...line.args, floodCpu];
  const run = spawnSync(peer, command, { encoding: 'utf8', cwd: root, stdio: ['ignore', 'pipe', 'inherit'], timeout: 300_000 });
  if (run.status !== 0) throw new Error(`${side} side of "${line.name}" ended with ${String(run.status ?? run.signal)}`);
  const { p50Ns, perSecond, perCpuSecond } = JSON.parse(run.stdout) as Sample;
  return { figure: line.unit === 'us' ? (p50Ns ?? Number.NaN) / 1000 : (perSecond ?? Number.NaN), byCpu: perCpuSecond };
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

function measure(line: Line): { readonly line: Line; readonly c: number; readonly node: number; readonly ratio: number; readonly cpuRatio: number | undefined; readonly verdict: string } {
  const c: ReturnType<typeof sample>[] = [];
  const node: ReturnType<typeof sample>[] = [];
  for (let pair = 0; pair < pairs; pair++) {
    process.stderr.write(`\r${line.name}: pair ${String(pair + 1)} of ${String(pairs)} `);
    c.push(sample(line, 'c'));
    node.push(sample(line, 'node'));
  }
  process.stderr.write('\r\u001b[K');
  const figure = (runs: typeof c): number => median(runs.map((one) => one.figure));
  const byCpu = (runs: typeof c): number => median(runs.map((one) => one.byCpu ?? Number.NaN));
  const ratio = figure(node) / figure(c);
  const cpuRatio = byCpu(node) / byCpu(c);
  return { line, c: figure(c), node: figure(node), ratio, cpuRatio: Number.isNaN(cpuRatio) ? undefined : cpuRatio, verdict: verdictOf(line, ratio) };
}

function verdictOf({ unit, aim, limit }: Line, ratio: number): string {
  if (aim === undefined || limit === undefined) return '';
  const within = (bound: number): boolean => (unit === 'us' ? ratio <= bound : ratio >= bound);
  return within(aim) ? 'aim reached' : within(limit) ? 'within the limit' : 'BEYOND THE LIMIT';
}

const shown = (value: number, { unit }: Line): string => (unit === 'us' ? `${value.toFixed(2)} us` : `${(value / 1000).toFixed(0)} k/s`);

compile();
const results = lines.map((line) => {
  const result = measure(line);
  if (!json) {
    const { aim, limit } = line;
    const wanted = aim === undefined || limit === undefined ? 'printed only' : `aim ${String(aim)}, limit ${String(limit)}`;
    console.log(`${line.name.padEnd(26)} C ${shown(result.c, line).padStart(9)}   vfio-rx ${shown(result.node, line).padStart(9)}   ratio ${result.ratio.toFixed(2)}${result.cpuRatio === undefined ? '' : ` (by CPU time ${result.cpuRatio.toFixed(2)})`}   ${wanted}   ${result.verdict}`);
  }
  return result;
});
if (json) {
  console.log(JSON.stringify(results.map(({ line, ...rest }) => ({ name: line.name, unit: line.unit, aim: line.aim, limit: line.limit, ...rest })), undefined, 2));
}
if (flags.includes('--check') && results.some(({ verdict }) => verdict === 'BEYOND THE LIMIT')) process.exitCode = 1;
