/**
 * `npm run bench`: the library beside C programs with the same contract, as ratios of medians. See README.md.
 *
 *   --json        one object on stdout instead of the table
 *   --check       exit code 1 when a figure is beyond its limit
 *   --pairs N     interleaved pairs of runs for each measurement (7)
 *   --only GROUP  irqs, remap, migration, vfio-user, accessors, recording or idle; may be given more than once
 *   --save        also writes the table, with its machine, into docs/performance.md
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { argumentsOf } from '../test/lanes/arguments.mjs';
import { measurements, type CProgram, type Line, type Measurement, type Side } from './measurements.js';
import { saveTable } from './save.js';
import { shown, tableLine, verdictOf, type Result } from './table.js';

type Sample = Readonly<Record<string, number>>;

const { values: options } = argumentsOf({
  options: {
    json: { type: 'boolean', default: false },
    check: { type: 'boolean', default: false },
    save: { type: 'boolean', default: false },
    pairs: { type: 'string', default: '7' },
    only: { type: 'string', multiple: true },
  },
}, 'bench/README.md');
/** One line that helps, and no stack. */
function refuse(message: string): never {
  console.error(message);
  process.exit(2);
}

const pairs = Number(options.pairs);
if (!Number.isInteger(pairs) || pairs < 1) refuse(`--pairs takes a whole number from 1, not ${options.pairs}`);
const groups = new Set(measurements.map(({ group }) => group));
for (const group of options.only ?? []) {
  if (!groups.has(group as Measurement['group'])) refuse(`--only takes ${[...groups].join(', ')}; not ${group}`);
}

const folder = fileURLToPath(new URL('.', import.meta.url));
const root = fileURLToPath(new URL('..', import.meta.url));
const built = `${root}.cache/bench`;
/** The vendor driver of the remap lines finds the file by this name in /proc/PID/maps. */
const sharedFile = `/dev/shm/vfio-rx-bench.${process.pid}`;
const sharedBytes = 4096 * (1 + 64 * 16);

/** Both sides run on the first CPU. A flood comes from the second one, if there is one; every other partner shares the first. */
const cpu = '0';
const standsFor: Readonly<Record<string, string>> = {
  PEER: `${built}/peer`,
  REMAP_PEER: `${built}/remap-peer`,
  USER_PEER: `${built}/user-peer`,
  FILE: sharedFile,
  SOCKET: `${sharedFile}.sock`,
  OTHER_CPU: availableParallelism() > 1 ? '1' : '0',
};

function compile(program: CProgram): void {
  const sources = [`${folder}${program}.c`, `${folder}common.h`];
  const age = statSync(`${built}/${program}`, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (sources.every((source) => age > statSync(source).mtimeMs)) return;
  // zlib by the name of its file: it is there on every machine, its headers need not be.
  const libraries = program === 'migration-peer' ? ['-l:libz.so.1'] : [];
  mkdirSync(built, { recursive: true });
  try {
    execFileSync('gcc', ['-O2', '-Wall', '-Wextra', '-o', `${built}/${program}`, `${folder}${program}.c`, ...libraries], { stdio: ['ignore', 'inherit', 'inherit'] });
  } catch (cause) {
    throw new Error('the C peers cannot be compiled: install gcc and the C library headers', { cause });
  }
}

/** What is measured is what ships: plain JavaScript by tsc, without a loader's helpers in every function. */
function compileOurs(): void {
  process.stderr.write('compiling ');
  execFileSync(process.execPath, [`${root}node_modules/typescript/bin/tsc`, '-p', `${folder}tsconfig.json`], { stdio: ['ignore', 2, 2] });
  process.stderr.write('\r\u001b[K');
}

function sample(side: Side): Sample {
  const args = side.args.map((arg) => standsFor[arg] ?? arg);
  const program = side.program === 'node' ? [process.execPath, `${built}/js/bench/${args[0] ?? ''}`, ...args.slice(1)] : [`${built}/${side.program}`, ...args];
  const run = spawnSync(`${built}/peer`, ['pin', cpu, ...program], { encoding: 'utf8', cwd: root, stdio: ['ignore', 'pipe', 'inherit'], timeout: 300_000 });
  if (run.status !== 0) throw new Error(`${program.join(' ')} ended with ${String(run.status ?? run.signal)}`);
  return JSON.parse(run.stdout) as Sample;
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

function measure({ c, ours, lines }: Measurement): readonly Result[] {
  const samples: { readonly c: Sample[]; readonly ours: Sample[] } = { c: [], ours: [] };
  for (let pair = 0; pair < pairs; pair++) {
    process.stderr.write(`\r${lines[0]?.name ?? ''}: pair ${pair + 1} of ${pairs} `);
    if (c !== undefined) samples.c.push(sample(c));
    samples.ours.push(sample(ours));
  }
  process.stderr.write('\r\u001b[K');
  return lines.map((line) => resultOf(line, samples));
}

function resultOf(line: Line, samples: { readonly c: readonly Sample[]; readonly ours: readonly Sample[] }): Result {
  const of = (side: readonly Sample[], figure: string): number => median(side.map((one) => one[figure] ?? Number.NaN));
  const ours = of(samples.ours, line.figure);
  const base = line.beside === undefined ? of(samples.c, line.figure) : of(samples.ours, line.beside);
  const beside = Number.isNaN(base) ? undefined : base;
  const cpuRatio = line.byCpu === undefined ? undefined : of(samples.ours, line.byCpu) / of(samples.c, line.byCpu);
  const ratio = beside === undefined || line.unit === '%' ? undefined : ours / beside;
  return { line, ours, beside, ratio, cpuRatio, verdict: verdictOf(line, ratio ?? ours) };
}

for (const program of ['peer', 'remap-peer', 'migration-peer', 'user-peer'] as const) compile(program);
compileOurs();
writeFileSync(sharedFile, '');
truncateSync(sharedFile, sharedBytes);
process.on('exit', () => {
  for (const file of [sharedFile, `${sharedFile}.sock`]) rmSync(file, { force: true });
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130));

const chosen = measurements.filter(({ group }) => options.only?.includes(group) ?? true);
const results = chosen.flatMap((measurement) => {
  const measured = measure(measurement);
  if (!options.json) for (const result of measured) console.log(tableLine(result));
  return measured;
});
if (options.json) console.log(JSON.stringify(results.map(({ line, ...rest }) => ({ ...line, ...rest })), undefined, 2));
if (options.save) saveTable(`${root}docs/performance.md`, results, pairs);
const beyond = results.filter(({ verdict }) => verdict === 'BEYOND THE LIMIT');
if (options.check && beyond.length > 0) {
  console.error(`beyond the limit: ${beyond.map(({ line, ours, ratio }) => `${line.name.trim()} (${ratio?.toFixed(2) ?? shown(ours, line)})`).join(', ')}`);
  process.exitCode = 1;
}
