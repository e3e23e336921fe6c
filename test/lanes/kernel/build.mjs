import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, dirname, extname, join } from 'node:path';

import { must, run } from '../children.mjs';
import { LaneUnavailable } from '../outcome.mjs';
import { progress } from './apt.mjs';
import { MTTY } from './mtty.mjs';
import { install, toolsOf, unpackTools } from './packages.mjs';
import { CACHE } from './paths.mjs';
import { withSource } from './source.mjs';

/**
 * A kernel of our own, from Debian's sources and a configuration of this folder. It takes minutes, so it is kept under the hash
 * of its configuration and its version, and built only where all lanes must run.
 */

/** What building a kernel takes beside make and gcc: program (or file) and Debian's package of it. */
const BUILDERS = /** @type {const} */ ([['flex', 'flex'], ['bison', 'bison'], ['bc', 'bc'], ['/usr/include/gelf.h', 'libelf-dev']]);

/** What modules are built with later; all else of the sources goes. */
const KEPT = new Set(['Makefile', 'Module.symvers', '.config', 'arch', 'include', 'scripts', 'tools']);

/**
 * @param {import('./kernels.mjs').Series} series one with a configuration
 * @returns {Promise<import('./packages.mjs').Kernel>}
 */
export async function provideBuiltKernel(series) {
  const config = readFileSync(series.config ?? '', 'utf8');
  mkdirSync(CACHE, { recursive: true });
  const cached = readdirSync(CACHE).filter((name) => series.release.test(name) && name === releaseOf(config, name.split('-', 1)[0] ?? '')).sort().at(-1);
  if (cached !== undefined) return { series, release: cached, tree: join(CACHE, cached) };
  if (process.env['VFIO_RX_LANES'] !== 'all') {
    throw new LaneUnavailable(`its kernel is not built yet, and takes minutes: VFIO_RX_LANES=all npm test -- --lane kernel-cdev builds and keeps it`);
  }
  await provideBuilders();
  return withSource(series, 'a kernel with iommufd', (source) => build(series, config, source));
}

async function provideBuilders() {
  const missing = [];
  for (const [what, name] of BUILDERS) {
    const there = what.startsWith('/') ? existsSync(what) : (await run(what, ['--version'])).code === 0;
    if (!there) missing.push(name);
  }
  if (missing.length > 0) await install(missing);
}

/** @param {string} config @param {string} version such as `6.12.95` */
function releaseOf(config, version) {
  return `${version}-cdev-${createHash('sha256').update(`${version}\0${config}`).digest('hex').slice(0, 8)}`;
}

/**
 * @param {import('./kernels.mjs').Series} series
 * @param {string} config
 * @param {import('./source.mjs').Source} source
 * @returns {Promise<import('./packages.mjs').Kernel>}
 */
async function build(series, config, source) {
  const partial = join(CACHE, `${series.name}.partial-${process.pid}`);
  const sources = join(partial, 'usr', 'src', 'linux');
  mkdirSync(sources, { recursive: true });
  try {
    await unpackTools(partial);
    progress(`unpacking ${source.name} (1.6 GB, until the kernel is built)`);
    await source.unpack(sources, toolsOf(partial));
    const version = (await must('make', ['-s', '-C', sources, 'kernelversion'])).stdout.trim();
    const release = releaseOf(config, version);
    writeFileSync(join(partial, 'config'), `${config}CONFIG_LOCALVERSION="${release.slice(version.length)}"\n`);
    await must('make', ['-s', '-C', sources, 'allnoconfig', `KCONFIG_ALLCONFIG=${join(partial, 'config')}`]);
    requireOptions(config, readFileSync(join(sources, '.config'), 'utf8'));
    progress(`building Linux ${release} (about 7 minutes on two cores)`);
    await must('make', ['-s', '-C', sources, `-j${availableParallelism()}`, 'vmlinux', 'modules']);
    return { series, release, tree: publish(partial, sources, release) };
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
}

/**
 * An option whose conditions are not met is dropped without a word.
 *
 * @param {string} config @param {string} made
 */
function requireOptions(config, made) {
  const lines = new Set(made.split('\n'));
  const dropped = config.split('\n').filter((line) => line.startsWith('CONFIG_') && !lines.has(line));
  if (dropped.length > 0) throw new Error(`the configuration lost ${dropped.join(', ')}`);
}

/**
 * Puts what was built where an unpacked kernel has it, and drops the rest.
 *
 * @param {string} partial @param {string} sources @param {string} release
 */
function publish(partial, sources, release) {
  const modules = join(partial, 'lib', 'modules', release);
  const put = (/** @type {string} */ from, /** @type {string} */ to) => {
    mkdirSync(dirname(to), { recursive: true });
    copyFileSync(join(sources, from), to);
  };
  put('vmlinux', join(partial, 'boot', `vmlinux-${release}`));
  put('modules.builtin', join(modules, 'modules.builtin'));
  for (const [, path] of readFileSync(join(sources, 'modules.order'), 'utf8').matchAll(/^(.+)\.o$/gm)) put(`${path}.ko`, join(modules, 'kernel', `${path}.ko`));
  put(MTTY, join(partial, 'mtty', basename(MTTY)));
  // With DEBUG it says its arcs into the kernel's log: this kernel has no switch for that.
  writeFileSync(join(partial, 'mtty', 'Makefile'), 'obj-m := mtty.o\nccflags-y := -DDEBUG\n');
  prune(sources);
  renameSync(sources, join(dirname(sources), `linux-headers-${release}`));
  const tree = join(CACHE, release);
  renameSync(partial, tree);
  return tree;
}

/** @param {string} sources */
function prune(sources) {
  const only = (/** @type {string} */ folder, /** @type {ReadonlySet<string>} */ names) => {
    for (const name of readdirSync(join(sources, folder))) if (!names.has(name)) rmSync(join(sources, folder, name), { recursive: true, force: true });
  };
  only('.', KEPT);
  only('arch', new Set(['x86']));
  only('tools', new Set(['objtool']));
  for (const name of readdirSync(join(sources, 'arch'), { recursive: true, encoding: 'utf8' })) {
    const path = join(sources, 'arch', name);
    if (['.c', '.S', '.o', '.a', '.cmd'].includes(extname(name)) && statSync(path).isFile()) rmSync(path);
  }
}
