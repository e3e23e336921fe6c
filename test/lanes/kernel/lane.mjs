import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';

import { LaneUnavailable, emptyOutcome } from '../outcome.mjs';
import { provideBuiltKernel } from './build.mjs';
import { bundleProgram, bundlePrograms, bundleTests } from './bundle.mjs';
import { modulesNamed, vfioModules } from './initramfs.mjs';
import { buildModules } from './module.mjs';
import { provideMtty } from './mtty.mjs';
import { provideKernel, provideMachine } from './packages.mjs';
import { DRIVER, GUEST, ROOT } from './paths.mjs';
import { boot, newShare } from './vm.mjs';

/** Where the guest sees the folder of the run. */
const SHARE_IN_GUEST = '/run/vfio-rx';

/** Folders whose tests run in the guest. */
const TEST_FOLDERS = ['test/port', 'test/kernel'];

/** Modules of the kernel that a test may load (test/support/modules.ts), beside mtty. */
const TEST_MODULES = ['aer_inject'];

/** Settings of the caller that the guest gets too; all that begin with VFIO_RX_ go along as well. */
const PASSED_ON = ['CI', 'NO_COLOR', 'FORCE_COLOR', 'COLUMNS', 'TERM'];

/**
 * @typedef {object} GuestOptions
 * @property {import('./kernels.mjs').Series} series the kernel
 * @property {number} deadlineS
 * @property {string} [driver] folder of the vendor driver's sources; the sample driver unless told otherwise
 *
 * @typedef {object} Prepared
 * @property {string} qemu
 * @property {import('./packages.mjs').Kernel} kernel
 * @property {string} share
 * @property {string} preamble the part of the job that every run has in common
 */

/**
 * Gets kernel, QEMU and driver ready. Everything here is cached.
 *
 * @param {GuestOptions} options
 * @returns {Promise<Prepared>}
 */
async function prepare(options) {
  const qemu = await provideMachine();
  const { series } = options;
  const kernel = await (series.config === undefined ? provideKernel(series) : provideBuiltKernel(series));
  const driver = await buildModules(kernel, options.driver ?? DRIVER);
  const share = newShare(options.series);
  writeFileSync(join(share, 'modules'), [...(await vfioModules(kernel)), ...driver, ''].join('\n'));
  const environment = {
    PATH: [dirname(process.execPath), process.env['PATH'] ?? '/usr/bin:/bin', '/run/bin'].join(delimiter),
    HOME: '/root',
    LANG: 'C.UTF-8',
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => PASSED_ON.includes(name) || name.startsWith('VFIO_RX_'))),
    ...colours(),
    VFIO_RX_KERNEL: '1',
    VFIO_RX_KERNEL_SERIES: options.series.name,
    VFIO_RX_DRIVER_MODULES: driver.map((path) => path.replace(/^.*\/|\.ko$/g, '')).join(','),
    VFIO_RX_MODULES: `${SHARE_IN_GUEST}/modules`,
  };
  const preamble = [
    ...Object.entries(environment).map(([name, value]) => `export ${name}=${quote(value ?? '')}`),
    `cd ${quote(ROOT)}`,
    `. ${quote(join(GUEST, 'setup.sh'))}`,
  ].join('\n');
  return { qemu, kernel, share, preamble };
}

/**
 * Runs the guest's tests in one boot, their lines printed as they come.
 *
 * @param {GuestOptions & { files: readonly string[], testName?: string | undefined }} options no files: all there are
 * @returns {Promise<import('../outcome.mjs').Outcome>}
 */
export async function runKernelTests(options) {
  const all = TEST_FOLDERS.flatMap((folder) => filesIn(folder, '.test.ts')).filter((file) => options.series.tests.test(file));
  const files = options.files.length > 0 ? options.files : all;
  if (files.length === 0) throw new LaneUnavailable(`there are no tests in ${TEST_FOLDERS.join(' or ')}`);
  const prepared = await prepare(options);
  const modules = await modulesNamed(prepared.kernel, TEST_MODULES);
  if (files.some((file) => file.includes('mtty'))) modules.push(await provideMtty(prepared.kernel));
  const { bundle, failures } = await bundleTests(files, join(prepared.share, 'bundle'));
  // Processes of their own that tests start (and kill): node cannot run TypeScript, so they are bundled as well.
  const children = join(prepared.share, 'children');
  await bundlePrograms(TEST_FOLDERS.flatMap((folder) => filesIn(folder, '.child.ts')), children);

  const script = [
    prepared.preamble,
    `export VFIO_RX_RESULTS=${SHARE_IN_GUEST}/results.json VFIO_RX_CHILDREN=${quote(children)}`,
    `export VFIO_RX_TEST_MODULES=${quote(modules.join(':'))}`,
    ...(options.testName === undefined ? [] : [`export VFIO_RX_TEST_NAME=${quote(options.testName)}`]),
    `exec ${quote(process.execPath)} --enable-source-maps ${quote(bundle)}`,
  ].join('\n');
  const ended = await boot({ ...prepared, script, deadlineS: options.deadlineS, ...inherited() });
  const outcome = outcomeOf(prepared.share, ended);
  outcome.failures.unshift(...failures);
  return outcome;
}

/**
 * Runs one command in the guest, with one device of the sample driver ready for it.
 *
 * @param {GuestOptions & { command: string }} options
 * @returns {Promise<number>} the command's exit code
 */
export async function runInGuest(options) {
  const prepared = await prepare(options);
  const script = [prepared.preamble, 'make_mdev || exit 1', `exec /bin/sh -c ${quote(options.command)}`].join('\n');
  return finishCommand(await boot({ ...prepared, script, deadlineS: options.deadlineS, ...inherited() }));
}

/**
 * As {@link runInGuest} for a TypeScript program, which is bundled first.
 *
 * @param {GuestOptions & { program: string, args: readonly string[] }} options `program` relative to the root
 * @returns {Promise<number>}
 */
export async function runProgramInGuest(options) {
  const prepared = await prepare(options);
  const bundle = await bundleProgram(options.program, join(prepared.share, 'bundle'));
  const command = [process.execPath, '--enable-source-maps', bundle, ...options.args].map(quote).join(' ');
  const script = [prepared.preamble, 'make_mdev || exit 1', `exec ${command}`].join('\n');
  return finishCommand(await boot({ ...prepared, script, deadlineS: options.deadlineS, ...inherited() }));
}

/** In the guest all output goes into a channel; whether a person sees it is known only here. */
function colours() {
  const settled = ['NO_COLOR', 'FORCE_COLOR'].some((name) => process.env[name] !== undefined);
  if (settled) return {};
  return process.stdout.isTTY ? { FORCE_COLOR: '1' } : { NO_COLOR: '1' };
}

function inherited() {
  return {
    onStdout: (/** @type {Buffer} */ chunk) => void process.stdout.write(chunk),
    onStderr: (/** @type {Buffer} */ chunk) => void process.stderr.write(chunk),
  };
}

/** @param {import('./vm.mjs').Ended} ended */
function finishCommand(ended) {
  if (ended.trouble !== undefined) process.stderr.write(`kernel lane: ${ended.trouble}\n`);
  return ended.trouble === undefined ? (ended.code ?? 1) : ended.code || 1;
}

/**
 * @param {string} share
 * @param {import('./vm.mjs').Ended} ended
 * @returns {import('../outcome.mjs').Outcome}
 */
function outcomeOf(share, ended) {
  const path = join(share, 'results.json');
  /** @type {import('./guest/runner.mjs').Progress} */
  const results = existsSync(path)
    ? JSON.parse(readFileSync(path, 'utf8'))
    : { ...emptyOutcome(), running: undefined, complete: false };
  const during = results.running === undefined ? '' : ` (while running: ${results.running})`;
  if (ended.trouble !== undefined) {
    results.failures.push({ test: `the guest${during}`, message: ended.trouble });
  } else if (!results.complete) {
    results.failures.push({ test: `the test process${during}`, message: `it ended early, with exit code ${ended.code}` });
  }
  return results;
}

/**
 * @param {string} folder relative to the root
 * @param {string} ending
 */
function filesIn(folder, ending) {
  if (!existsSync(join(ROOT, folder))) return [];
  const names = readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' });
  return names.filter((name) => name.endsWith(ending)).sort().map((name) => `${folder}/${name}`);
}

/** @param {string} text */
function quote(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
