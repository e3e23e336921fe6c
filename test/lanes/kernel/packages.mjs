import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

import { must, run } from '../children.mjs';
import { LaneUnavailable } from '../outcome.mjs';
import { Archive, lastLine, progress, requireApt } from './apt.mjs';
import { CACHE } from './paths.mjs';
import { unpackVmlinux } from './vmlinux.mjs';

/**
 * The kernel and what is needed around it, from Debian's archive. Only QEMU and a compiler are installed, where they are
 * missing; all else is unpacked into the cache, so no package of the machine changes and no root is needed for it.
 */

const QEMU = 'qemu-system-x86_64';

/**
 * What the machine itself must have: program and Debian's package of it.
 *
 * @type {ReadonlyArray<readonly [program: string, name: string]>}
 */
const MACHINE = [
  [QEMU, 'qemu-system-x86'],
  ['make', 'make'],
  ['gcc', 'gcc'],
];

/** Beside the kernel: the guest's first programs, and what unpacks images and modules. */
const TOOLS = ['busybox-static', 'xz-utils', 'zstd'];

/**
 * @typedef {object} Kernel
 * @property {import('./kernels.mjs').Series} series
 * @property {string} release as `uname -r` prints it, such as `6.1.0-56-amd64`
 * @property {string} tree the folder into which the packages were unpacked
 */

/**
 * Finds QEMU and what builds modules, or installs what is missing where that is possible without asking anybody.
 *
 * @returns {Promise<string>} QEMU's program
 */
export async function provideMachine() {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new LaneUnavailable(`it needs Linux on x86-64, this is ${process.platform} on ${process.arch}`);
  }
  const missing = [];
  for (const [program, name] of MACHINE) {
    if ((await run(program, ['--version'])).code !== 0) missing.push(name);
  }
  if (missing.length > 0) await install(missing);
  return QEMU;
}

/**
 * Installs packages where that is possible without asking anybody.
 *
 * @param {readonly string[]} names
 */
export async function install(names) {
  await requireApt();
  const list = names.join(' ');
  if (process.getuid?.() !== 0) throw new LaneUnavailable(`only root can install what is missing: apt-get install ${list}`);
  progress(`installing ${list}`);
  // The kernel's build tools are linked with libelf.
  const command = ['install', '-y', '--no-install-recommends', ...names, 'libelf1'];
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  // The lists may be absent or older than the archive; only then is the network asked for new ones.
  if ((await run('apt-get', command, { env })).code === 0) return;
  await new Archive(undefined).update();
  const second = await run('apt-get', command, { env });
  if (second.code !== 0) throw new LaneUnavailable(`apt-get could not install ${list}: ${lastLine(second)}`);
}

/**
 * Returns the unpacked kernel; downloads it first where the cache has none. A folder in the cache carries its final
 * name only once it is complete, so that an interrupted run leaves nothing that looks finished.
 *
 * @param {import('./kernels.mjs').Series} series
 * @returns {Promise<Kernel>}
 */
export async function provideKernel(series) {
  mkdirSync(CACHE, { recursive: true });
  const unpacked = newest(series, readdirSync(CACHE));
  if (unpacked !== undefined) return { series, release: unpacked, tree: join(CACHE, unpacked) };

  await requireApt();
  const archive = new Archive(series.suite);
  await archive.prepare();
  let release = await newestInArchive(series, archive);
  if (release === undefined) {
    await archive.update();
    release = await newestInArchive(series, archive);
  }
  if (release === undefined) {
    throw new LaneUnavailable(`apt knows no linux-image of the series ${series.name} (it needs Debian 12's archive)`);
  }
  let files = await download(series, archive, release);
  if (files === undefined) {
    // The lists name a build that the archive has already replaced.
    await archive.update();
    release = (await newestInArchive(series, archive)) ?? release;
    files = await download(series, archive, release);
  }
  if (files === undefined) {
    throw new LaneUnavailable(`the packages of Linux ${release} could not be downloaded (no network?)`);
  }
  return { series, release, tree: await unpack(release, files) };
}

/**
 * @param {import('./kernels.mjs').Series} series
 * @param {readonly string[]} names of which some may be releases
 * @returns {string | undefined}
 */
function newest(series, names) {
  const build = (/** @type {string} */ release) => Number(series.release.exec(release)?.slice(1).join(''));
  return names.filter((name) => series.release.test(name)).sort((a, b) => build(a) - build(b)).at(-1);
}

/**
 * @param {import('./kernels.mjs').Series} series
 * @param {Archive} archive
 */
async function newestInArchive(series, archive) {
  const names = async (/** @type {string} */ prefix) => {
    const found = await archive.search(`^${prefix}-${series.name.replace('.', '\\.')}\\.`);
    return found.map((name) => name.slice(prefix.length + 1));
  };
  // An archive may keep images whose headers are gone.
  const headers = new Set(await names('linux-headers'));
  return newest(series, (await names('linux-image')).filter((release) => headers.has(release)));
}

/**
 * @param {import('./kernels.mjs').Series} series
 * @param {Archive} archive
 * @param {string} release
 * @returns {Promise<string[] | undefined>}
 */
async function download(series, archive, release) {
  const common = release.replace(/-amd64$/, '');
  const packages = [`linux-image-${release}`, `linux-headers-${release}`, `linux-headers-${common}-common`, series.kbuild?.(release) ?? []].flat();
  progress(`downloading Linux ${release} (${series.megabytes} MB)`);
  const folder = join(CACHE, `packages-${release}`);
  const kernel = await archive.download(packages, folder);
  if (kernel === undefined) return undefined;
  const tools = await downloadTools(folder);
  return tools === undefined ? undefined : [...kernel, ...tools];
}

/**
 * Puts the tools alone into a kernel's folder.
 *
 * @param {string} tree
 */
export async function unpackTools(tree) {
  await requireApt();
  const folder = join(tree, 'packages');
  const files = await downloadTools(folder);
  if (files === undefined) throw new LaneUnavailable(`${TOOLS.join(', ')} could not be downloaded (no network?)`);
  for (const file of files) await must('dpkg-deb', ['-x', file, tree]);
  rmSync(folder, { recursive: true });
}

/** @param {string} folder */
async function downloadTools(folder) {
  const archive = new Archive(undefined);
  const tools = await archive.download(TOOLS, folder);
  if (tools !== undefined) return tools;
  await archive.update();
  return archive.download(TOOLS, folder);
}

/**
 * @param {string} release
 * @param {readonly string[]} files
 */
async function unpack(release, files) {
  progress(`unpacking Linux ${release} (200 to 500 MB)`);
  const tree = join(CACHE, release);
  const partial = `${tree}.partial-${process.pid}`;
  rmSync(partial, { recursive: true, force: true });
  for (const file of files) await must('dpkg-deb', ['-x', file, partial]);
  const boot = join(partial, 'boot');
  await unpackVmlinux(join(boot, `vmlinuz-${release}`), join(boot, `vmlinux-${release}`), toolsOf(partial));
  relocateHeaders(join(partial, 'usr', 'src', `linux-headers-${release}`));
  renameSync(partial, tree);
  rmSync(join(CACHE, `packages-${release}`), { recursive: true, force: true });
  for (const name of readdirSync(CACHE)) {
    if (name.startsWith(`${release}.partial-`)) rmSync(join(CACHE, name), { recursive: true, force: true });
  }
  return tree;
}

/**
 * The environment in which xz and zstd are found: a kernel's folder has them, the machine may not.
 *
 * @param {string} tree
 */
export function toolsOf(tree) {
  return { ...process.env, PATH: [join(tree, 'usr', 'bin'), process.env['PATH'] ?? ''].join(delimiter) };
}

/**
 * The headers' Makefile names its common part by the path it would have once installed.
 *
 * @param {string} headers
 */
function relocateHeaders(headers) {
  const makefile = join(headers, 'Makefile');
  const here = '$(dir $(lastword $(MAKEFILE_LIST)))';
  writeFileSync(makefile, readFileSync(makefile, 'utf8').replace('include /usr/src/', `include ${here}../`));
}
