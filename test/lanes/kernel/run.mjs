import { argumentsOf } from '../arguments.mjs';
import { stopOnSignals } from '../children.mjs';
import { LaneUnavailable, exitCode, summaryLine } from '../outcome.mjs';
import { printOutcome } from '../print.mjs';
import { ALL_SERIES, seriesNamed } from './kernels.mjs';
import { runInGuest, runKernelTests, runProgramInGuest } from './lane.mjs';

const HELP = `Runs something on a real kernel with the sample vendor driver, in a virtual machine.

  node test/lanes/kernel/run.mjs [test files] [-t pattern]   tests of test/port and test/kernel
  node test/lanes/kernel/run.mjs --exec 'command line'       any command, as root, in the repository's root
  node test/lanes/kernel/run.mjs --program file.ts [-- args] a TypeScript program, bundled first

  --kernel <series>          ${ALL_SERIES.map(({ name }) => name).join(' or ')}; the first unless told otherwise
  -t, --test-name <pattern>  only tests whose full name matches
  --deadline <seconds>       the machine is ended after so long (tests: 600, else 300)
  --driver <folder>          sources of another vendor driver, instead of drivers/linux

A command or program finds VFIO_RX_KERNEL=1 and, for one device of the driver, VFIO_RX_MDEV_UUID and
VFIO_RX_MDEV_SYSFS in its environment; its output and exit code become ours.
`;

const { values, positionals } = argumentsOf({
  allowPositionals: true,
  options: {
    exec: { type: 'string' },
    program: { type: 'string' },
    kernel: { type: 'string' },
    'test-name': { type: 'string', short: 't' },
    deadline: { type: 'string' },
    driver: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
}, 'npm run test:kernel -- --help');

/** @returns {Promise<number>} */
async function main() {
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const series = seriesNamed(values.kernel);
  if (series === undefined) {
    process.stderr.write(`there is no kernel "${values.kernel}"; there are: ${ALL_SERIES.map(({ name }) => name).join(', ')}\n`);
    return 2;
  }
  const commandOptions = {
    series,
    deadlineS: Number(values.deadline ?? 300),
    ...(values.driver === undefined ? {} : { driver: values.driver }),
  };
  if (values.exec !== undefined) return runInGuest({ ...commandOptions, command: values.exec });
  if (values.program !== undefined) {
    return runProgramInGuest({ ...commandOptions, program: values.program, args: positionals });
  }
  const outcome = await runKernelTests({
    ...commandOptions,
    deadlineS: Number(values.deadline ?? 600),
    files: positionals,
    testName: values['test-name'],
  });
  printOutcome(`kernel-${series.name}`, outcome);
  process.stdout.write(`${summaryLine([outcome])}\n`);
  return exitCode([outcome]);
}

stopOnSignals();
try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof LaneUnavailable)) throw error;
  process.stderr.write(`kernel lane: it cannot run here: ${error.message}\n`);
  process.exitCode = 1;
}
