import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { must, run } from '../children.mjs';
import { LaneUnavailable } from '../outcome.mjs';
import { CACHE } from './paths.mjs';
import { unpackVmlinux } from './vmlinux.mjs';

/**
 * The kernel and what is needed around it, from Debian's archive. Only QEMU is installed; all else is unpacked into
 * the cache, so no package of the machine changes and no root is needed for it.
 */

/** The kernel series; the newest build of it that the archive has is taken. */
const SERIES = '6.1.0';

const QEMU = 'qemu-system-x86_64';

/**
 * @typedef {object} Kernel
 * @property {string} release as `uname -r` prints it, such as `6.1.0-56-amd64`
 * @property {string} tree the folder into which the packages were unpacked
 */

/** @param {string} message */
function progress(message) {
  process.stderr.write(`kernel lane: ${message}\n`);
}

/**
 * Finds QEMU, or installs it where that is possible without asking anybody.
 *
 * @returns {Promise<string>} the program's name
 */
export async function provideQemu() {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new LaneUnavailable(`it needs Linux on x86-64, this is ${process.platform} on ${process.arch}`);
  }
  if ((await run(QEMU, ['--version'])).code === 0) return QEMU;
  await requireApt();
  if (process.getuid?.() !== 0) {
    throw new LaneUnavailable(`${QEMU} is missing and only root can install it: apt-get install qemu-system-x86`);
  }
  progress('installing qemu-system-x86 (17 MB to download)');
  const install = ['install', '-y', '--no-install-recommends', 'qemu-system-x86'];
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  // The lists may be absent or older than the archive; only then is the network asked for new ones.
  if ((await run('apt-get', install, { env })).code !== 0) {
    await updateLists();
    const second = await run('apt-get', install, { env });
    if (second.code !== 0) throw new LaneUnavailable(`apt-get could not install qemu-system-x86: ${lastLine(second)}`);
  }
  return QEMU;
}

/**
 * Returns the unpacked kernel; downloads it first where the cache has none. A folder in the cache carries its final
 * name only once it is complete, so that an interrupted run leaves nothing that looks finished.
 *
 * @returns {Promise<Kernel>}
 */
export async function provideKernel() {
  mkdirSync(CACHE, { recursive: true });
  const unpacked = newest(readdirSync(CACHE).filter((name) => isRelease(name)));
  if (unpacked !== undefined) return { release: unpacked, tree: join(CACHE, unpacked) };

  await requireApt();
  let release = await newestInArchive();
  if (release === undefined) {
    await updateLists();
    release = await newestInArchive();
  }
  if (release === undefined) {
    throw new LaneUnavailable(`apt knows no linux-image-${SERIES}-*-amd64 (it needs Debian 12's archive)`);
  }
  let files = await download(release);
  if (files === undefined) {
    // The lists name a build that the archive has already replaced.
    await updateLists();
    release = (await newestInArchive()) ?? release;
    files = await download(release);
  }
  if (files === undefined) {
    throw new LaneUnavailable(`the packages of Linux ${release} could not be downloaded (no network?)`);
  }
  return { release, tree: await unpack(release, files) };
}

/** @param {string} name */
function isRelease(name) {
  return name.startsWith(`${SERIES}-`) && /^[0-9.]+-[0-9]+-amd64$/.test(name);
}

/**
 * @param {readonly string[]} releases
 * @returns {string | undefined}
 */
function newest(releases) {
  const build = (/** @type {string} */ release) => Number(release.split('-')[1]);
  return [...releases].sort((a, b) => build(a) - build(b)).at(-1);
}

/** @returns {Promise<string | undefined>} */
async function newestInArchive() {
  const names = async (/** @type {string} */ prefix) => {
    const pattern = `^${prefix}-${SERIES.replaceAll('.', '\\.')}-[0-9]+-amd64$`;
    const { stdout } = await run('apt-cache', ['search', '--names-only', pattern]);
    return stdout.split('\n').map((line) => (line.split(' ')[0] ?? '').slice(prefix.length + 1));
  };
  const headers = new Set(await names('linux-headers'));
  return newest((await names('linux-image')).filter((release) => isRelease(release) && headers.has(release)));
}

/**
 * Downloads the packages, picking up where an interrupted run stopped.
 *
 * @param {string} release
 * @returns {Promise<string[] | undefined>} the files, or undefined when the archive would not give one of them
 */
async function download(release) {
  const abi = release.replace(/-amd64$/, '');
  const packages = [
    `linux-image-${release}`,
    `linux-headers-${release}`,
    `linux-headers-${abi}-common`,
    'linux-kbuild-6.1',
    'busybox-static',
  ];
  const folder = join(CACHE, `packages-${release}`);
  mkdirSync(folder, { recursive: true });
  progress(`downloading Linux ${release} (85 MB)`);
  // apt checks what is there against its sums, so a complete file is not fetched again and half a file is not used.
  const finished = await run('apt-get', ['-o', 'APT::Sandbox::User=root', 'download', ...packages], { cwd: folder });
  if (finished.code !== 0) return undefined;
  const present = readdirSync(folder).filter((name) => name.endsWith('.deb'));
  return packages.map((name) => {
    // An interrupted run followed by an update of the lists can leave two versions: the last name is the newer one.
    const file = present.filter((candidate) => candidate.startsWith(`${name}_`)).sort().at(-1);
    if (file === undefined) throw new Error(`apt-get download left no ${name}_*.deb in ${folder}`);
    return join(folder, file);
  });
}

/**
 * @param {string} release
 * @param {readonly string[]} files
 */
async function unpack(release, files) {
  progress(`unpacking Linux ${release} (about 500 MB)`);
  const tree = join(CACHE, release);
  const partial = `${tree}.partial-${process.pid}`;
  rmSync(partial, { recursive: true, force: true });
  for (const file of files) await must('dpkg-deb', ['-x', file, partial]);
  const boot = join(partial, 'boot');
  await unpackVmlinux(join(boot, `vmlinuz-${release}`), join(boot, `vmlinux-${release}`));
  relocateHeaders(join(partial, 'usr', 'src', `linux-headers-${release}`));
  renameSync(partial, tree);
  rmSync(join(CACHE, `packages-${release}`), { recursive: true, force: true });
  for (const name of readdirSync(CACHE)) {
    if (name.includes('.partial-')) rmSync(join(CACHE, name), { recursive: true, force: true });
  }
  return tree;
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

async function requireApt() {
  if ((await run('apt-get', ['--version'])).code !== 0) {
    throw new LaneUnavailable('it takes a kernel from Debian\'s archive, and there is no apt-get here');
  }
}

async function updateLists() {
  if (process.getuid?.() !== 0) {
    throw new LaneUnavailable('apt\'s package lists are missing or old and only root can renew them: apt-get update');
  }
  progress('renewing apt\'s package lists');
  const finished = await run('apt-get', ['update']);
  if (finished.code !== 0) throw new LaneUnavailable(`apt-get update failed: ${lastLine(finished)}`);
}

/** @param {import('../children.mjs').Finished} finished */
function lastLine(finished) {
  return `${finished.stdout}\n${finished.stderr}`.trim().split('\n').at(-1);
}
