import { argumentsOf } from './arguments.mjs';
import { stopOnSignals } from './children.mjs';
import { ALL_SERIES } from './kernel/kernels.mjs';
import { runKernelTests } from './kernel/lane.mjs';
import { LaneUnavailable, emptyOutcome, exitCode, summaryLine } from './outcome.mjs';
import { printFailures, printOutcome } from './print.mjs';
import { runQemuTests } from './qemu/lane.mjs';
import { runUnitTests } from './unit/lane.mjs';
import { leftOutLine } from './unit/left-out.mjs';

/**
 * `npm test`: all lanes, one after the other, and one sum as the last line.
 *
 * @typedef {{ files: readonly string[], testName: string | undefined }} Selection
 */

/**
 * @param {import('./kernel/kernels.mjs').Series} series
 * @returns {[string, (selection: Selection) => Promise<import('./outcome.mjs').Outcome>]}
 */
function kernelLane(series) {
  return [`kernel-${series.name}`, (selection) => runKernelTests({ ...selection, series, deadlineS: 1500 })];
}

/** @type {ReadonlyMap<string, (selection: Selection) => Promise<import('./outcome.mjs').Outcome>>} */
const LANES = new Map([
  ['unit', (selection) => runUnitTests(selection)],
  ...ALL_SERIES.map((series) => kernelLane(series)),
  ['qemu', (selection) => runQemuTests(selection)],
]);

/** The part of the unit lane that tells most in a minute; not a lane of `npm test`, which has all of it. */
const QUICK = 'quick';

const HELP = `Runs the tests, lane by lane (see test/lanes/README.md).

  npm test                              all lanes: ${[...LANES.keys()].join(', ')}
  npm test -- --lane unit               one lane (may be given several times)
  npm test -- --lane unit [test files]  some files of it
  npm test -- -t <pattern>              only tests whose full name matches
  npm run test:quick                    in a minute: the unit lane without what is slow, which it says

A lane that cannot run on this machine is skipped, with its reason; with VFIO_RX_LANES=all it counts as failed.
`;

/**
 * @param {string} name
 * @param {(selection: Selection) => Promise<import('./outcome.mjs').Outcome>} run
 * @param {Selection} selection
 * @returns {Promise<import('./outcome.mjs').Outcome>}
 */
async function runLane(name, run, selection) {
  process.stdout.write(`\n=== lane ${name}\n`);
  const began = performance.now();
  const outcome = await run(selection).catch((error) => outcomeOfError(error));
  printOutcome(name, outcome);
  process.stdout.write(`=== lane ${name}: ${summaryLine([outcome])} in ${Math.round((performance.now() - began) / 1000)} s\n`);
  return outcome;
}

/**
 * @param {unknown} error
 * @returns {import('./outcome.mjs').Outcome}
 */
function outcomeOfError(error) {
  const whole = 'the whole lane';
  if (error instanceof LaneUnavailable && process.env['VFIO_RX_LANES'] !== 'all') {
    return { ...emptyOutcome(), skips: [{ test: whole, reason: error.message }] };
  }
  const message = error instanceof LaneUnavailable
    ? `VFIO_RX_LANES=all demands every lane, but this one cannot run here: ${error.message}`
    : String(error instanceof Error ? error.stack : error);
  return { ...emptyOutcome(), failures: [{ test: whole, message }] };
}

async function main() {
  const { values, positionals } = argumentsOf({
    allowPositionals: true,
    options: {
      lane: { type: 'string', multiple: true },
      'test-name': { type: 'string', short: 't' },
      help: { type: 'boolean', short: 'h' },
    },
  }, 'npm test -- --help');
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const names = values.lane ?? [...LANES.keys()];
  if (names.length === 1 && names[0] === QUICK) {
    const outcome = await runLane(QUICK, (selection) => runUnitTests({ ...selection, quick: true }), { files: positionals, testName: values['test-name'] });
    process.stdout.write(`\n${leftOutLine()}\n${summaryLine([outcome])}\n`);
    return exitCode([outcome]);
  }
  const unknown = names.filter((name) => !LANES.has(name));
  if (unknown.length > 0) {
    process.stderr.write(`there is no lane "${unknown.join('", "')}"; there are: ${[...LANES.keys(), QUICK].join(', ')}\n`);
    return 2;
  }
  const outcomes = [];
  for (const [name, run] of LANES) {
    if (!names.includes(name)) continue;
    outcomes.push(await runLane(name, run, { files: positionals, testName: values['test-name'] }));
  }
  printFailures(outcomes);
  process.stdout.write(`\n${summaryLine(outcomes)}\n`);
  return exitCode(outcomes);
}

stopOnSignals();
process.exitCode = await main();
