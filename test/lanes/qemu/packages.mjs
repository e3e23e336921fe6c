import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { must, run } from '../children.mjs';
import { KEYRING, OURSELVES, lastLine, mirror, requireApt } from '../kernel/apt.mjs';
import { ROOT } from '../kernel/paths.mjs';
import { LaneUnavailable } from '../outcome.mjs';

/** Everything this lane downloads; ignored by git, safe to delete. */
const CACHE = join(ROOT, '.cache', 'qemu');

/** The first that has `vfio-user-pci` is 10.1; the machine's own is older. */
const SUITES = ['trixie', 'trixie-backports'];
const PACKAGE = 'qemu-system-x86';

const LIBRARIES = 'usr/lib/x86_64-linux-gnu';

/**
 * @typedef {object} Qemu
 * @property {string} program
 * @property {readonly string[]} before what stands before all other arguments
 */

/**
 * QEMU with all its libraries, down to libc, unpacked from packages of a later Debian: it runs by its own loader, and nothing of the machine changes.
 *
 * @returns {Promise<Qemu>}
 */
export async function provideQemu() {
  if (process.platform !== 'linux' || process.arch !== 'x64') throw new LaneUnavailable(`it needs Linux on x86-64, this is ${process.platform} on ${process.arch}`);
  const tree = join(CACHE, 'tree');
  if (!existsSync(tree)) await unpack(await download(), tree);
  const at = (/** @type {string} */ path) => join(tree, path);
  return {
    program: at(`${LIBRARIES}/ld-linux-x86-64.so.2`),
    before: ['--library-path', at(LIBRARIES), at('usr/bin/qemu-system-x86_64'), '-L', at('usr/share/qemu'), '-L', at('usr/share/seabios')],
  };
}

/** @returns {Promise<readonly string[]>} the packages' files */
async function download() {
  await requireApt();
  const apt = join(CACHE, 'apt');
  for (const name of ['lists', 'cache/archives/partial']) mkdirSync(join(apt, name), { recursive: true });
  const sources = ['Types: deb', `URIs: ${await mirror()}`, `Suites: ${SUITES.join(' ')}`, 'Components: main', `Signed-By: ${KEYRING}`];
  writeFileSync(join(apt, 'suites.sources'), `${sources.join('\n')}\n`);
  const settings = {
    'Dir::Etc::SourceList': join(apt, 'suites.sources'),
    'Dir::Etc::SourceParts': '/dev/null',
    'Dir::State::Lists': join(apt, 'lists'),
    'Dir::Cache': join(apt, 'cache'),
    // As if nothing were installed: what it depends on comes along, and nothing is locked.
    'Dir::State::status': '/dev/null',
    'Debug::NoLocking': '1',
  };
  const options = [...OURSELVES, ...Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])];
  process.stderr.write('qemu lane: downloading QEMU (38 MB)\n');
  for (const command of [['update'], ['install', '--download-only', '-y', '--no-install-recommends', '-t', SUITES.at(-1) ?? '', PACKAGE]]) {
    const finished = await run('apt-get', [...options, ...command]);
    if (finished.code !== 0) throw new LaneUnavailable(`apt-get ${command[0]} failed for ${SUITES.join(' and ')}: ${lastLine(finished)}`);
  }
  const archives = join(apt, 'cache', 'archives');
  return readdirSync(archives).filter((name) => name.endsWith('.deb')).map((name) => join(archives, name));
}

/**
 * A tree carries its name only once it is complete.
 *
 * @param {readonly string[]} files
 * @param {string} tree
 */
async function unpack(files, tree) {
  const partial = `${tree}.partial-${process.pid}`;
  rmSync(partial, { recursive: true, force: true });
  for (const file of files) await must('dpkg-deb', ['-x', file, partial]);
  renameSync(partial, tree);
  rmSync(join(CACHE, 'apt'), { recursive: true, force: true });
}
