import { fork } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { argumentsOf } from '../../lanes/arguments.mjs';
import { rows, type RowName } from '../rows.js';
import { cellOf, type Cell } from './cells.js';
import { checkCell } from './check.js';
import { faults } from './misbehaviours.js';
import { withTable } from './table.js';
import { cellPrinted, expectKept } from './verdict.js';

/**
 * The contract as a command: `npm run contract -- --runs 1000000` shares so many schedules out among all cells, on all
 * cores, and says how far it has got; `--row` and `--misbehaviour` choose cells; `--table` writes the table into docs/contract.md.
 */

const usage = 'usage: npm run contract -- [--runs N] [--seed N] [--row NAME] [--misbehaviour NAME] | --table';
const documentUrl = new URL('../../../docs/contract.md', import.meta.url);

/** How often a worker says how far it is, schedules. */
const tickEvery = 500;

interface Order {
  readonly row: RowName;
  readonly misbehaviour: string;
  readonly runs: number;
  readonly seed: number;
}

/** From a worker: so many more schedules; the cell is done. */
type Report = { readonly played: number } | { readonly line: string; readonly failure: string | undefined };

function work({ row, misbehaviour, runs, seed }: Order, report: (report: Report) => void): void {
  const cell = cellOf(row, misbehaviour);
  let untold = 0;
  const result = checkCell(cell, runs, seed, undefined, () => {
    untold += 1;
    if (untold < tickEvery) return;
    report({ played: untold });
    untold = 0;
  });
  report({ played: untold });
  let failure: string | undefined;
  try {
    expectKept(cell, result, seed);
  } catch (error) {
    failure = error instanceof Error ? error.message : String(error);
  }
  report({ line: cellPrinted(cell, result, seed), failure });
}

function main(): void {
  const { values } = argumentsOf({ options: { runs: { type: 'string', default: '100000' }, seed: { type: 'string' }, row: { type: 'string' }, misbehaviour: { type: 'string' }, table: { type: 'boolean' } } }, 'docs/contract.md');
  if (values.table === true) {
    writeFileSync(documentUrl, withTable(readFileSync(documentUrl, 'utf8')));
    return;
  }
  const cells = (Object.keys(rows) as RowName[])
    .filter((row) => values.row === undefined || values.row === row)
    .flatMap((row) => faults.filter(({ what }) => values.misbehaviour === undefined || values.misbehaviour === what).map(({ what }) => cellOf(row, what)))
    .filter(({ nonsense }) => nonsense === undefined);
  const runs = Number(values.runs);
  const seed = values.seed === undefined ? Date.now() % 1_000_000 : Number(values.seed);
  if (cells.length === 0 || !Number.isSafeInteger(runs) || runs < 1 || !Number.isSafeInteger(seed)) {
    const names = (all: readonly string[]): string => all.map((name) => `'${name}'`).join(', ');
    console.error(`${usage}\nrows: ${names(Object.keys(rows))}\nmisbehaviours: ${names(faults.map(({ what }) => what))}`);
    process.exitCode = 2;
    return;
  }
  shareOut(cells, Math.ceil(runs / cells.length), seed);
}

function shareOut(cells: readonly Cell[], runs: number, seed: number): void {
  const orders = cells.map(({ row, fault }): Order => ({ row: row.name as RowName, misbehaviour: fault.what, runs, seed }));
  const all = orders.length * runs;
  const failures: string[] = [];
  const began = Date.now();
  let played = 0;
  let done = 0;
  console.log(`${orders.length} cells, ${runs} schedules each, seed ${seed}`);
  const next = (worker: ReturnType<typeof fork>): void => {
    const order = orders.shift();
    if (order === undefined) worker.disconnect();
    else worker.send(order);
  };
  const progress = setInterval(() => {
    console.log(`... ${played} of ${all} schedules (${Math.floor((100 * played) / all)} %), ${done} cells done, ${Math.round((Date.now() - began) / 1000)} s`);
  }, 30_000);
  let working = Math.min(availableParallelism(), orders.length);
  for (let n = working; n > 0; n -= 1) {
    const worker = fork(fileURLToPath(import.meta.url), { execArgv: ['--import', 'tsx'], env: { ...process.env, VFIO_RX_CONTRACT_WORKER: '1' } });
    worker.on('message', (report: Report) => {
      if ('played' in report) {
        played += report.played;
        return;
      }
      done += 1;
      console.log(report.line);
      if (report.failure !== undefined) failures.push(report.failure);
      next(worker);
    });
    worker.on('exit', (code) => {
      working -= 1;
      if (code !== 0) failures.push(`a worker ended with ${String(code)}`);
      if (working > 0) return;
      clearInterval(progress);
      for (const failure of failures) console.error(`\n${failure}`);
      console.log(`${played} schedules in ${Math.round((Date.now() - began) / 1000)} s: ${failures.length === 0 ? 'the contract holds' : `${failures.length} cells do not`}`);
      process.exitCode = failures.length === 0 ? 0 : 1;
    });
    next(worker);
  }
}

if (process.env['VFIO_RX_CONTRACT_WORKER'] === undefined) main();
else process.on('message', (order: Order) => { work(order, (report) => { process.send?.(report); }); });
