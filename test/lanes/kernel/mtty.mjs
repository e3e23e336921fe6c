import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { run } from '../children.mjs';
import { LaneUnavailable } from '../outcome.mjs';
import { Archive, progress } from './apt.mjs';
import { buildModules } from './module.mjs';
import { toolsOf } from './packages.mjs';
import { CACHE } from './paths.mjs';

/**
 * mtty, a serial port that the kernel's own samples offer as a mediated device. Debian does not build it, so one file
 * of its source package is built here. It stays in the cache: its text is no part of this repository.
 */

const FILE = 'mtty.c';

/**
 * @param {import('./packages.mjs').Kernel} kernel
 * @returns {Promise<string>} the module's path
 */
export async function provideMtty(kernel) {
  const folder = join(kernel.tree, 'mtty');
  if (!existsSync(join(folder, FILE))) await fetchSource(kernel, folder);
  const [module] = await buildModules(kernel, folder);
  if (module === undefined) throw new Error(`building ${FILE} left no module`);
  return module;
}

/**
 * @param {import('./packages.mjs').Kernel} kernel
 * @param {string} folder
 */
async function fetchSource(kernel, folder) {
  const { series } = kernel;
  const name = `linux-source-${series.name}`;
  const archive = new Archive(series.suite);
  await archive.prepare();
  progress(`downloading ${name} for mtty (150 MB)`);
  const downloads = join(CACHE, `packages-${name}`);
  let files = await archive.download([name], downloads);
  if (files === undefined) {
    await archive.update();
    files = await archive.download([name], downloads);
  }
  const [file] = files ?? [];
  if (file === undefined) throw new LaneUnavailable(`${name} could not be downloaded for mtty (no network?)`);

  progress(`looking for mtty in ${name}`);
  const partial = `${folder}.partial-${process.pid}`;
  mkdirSync(partial, { recursive: true });
  // The archive is not read beyond the file that is wanted, so the programs in front of the last one break off.
  const take = ['tar', '-xJf', '-', '-C', quote(partial), '--strip-components=3', '--wildcards', '--occurrence=1', `'*/samples/vfio-mdev/${FILE}'`];
  const pipe = `dpkg-deb --fsys-tarfile ${quote(file)} 2> /dev/null | tar -xO ./usr/src/${name}.tar.xz 2> /dev/null | ${take.join(' ')}`;
  const { stderr } = await run('sh', ['-c', pipe], { env: toolsOf(kernel.tree) });
  if (!existsSync(join(partial, FILE))) throw new Error(`${name} has no ${FILE}: ${stderr}`);
  writeFileSync(join(partial, 'Makefile'), 'obj-m := mtty.o\n');
  rmSync(folder, { recursive: true, force: true });
  renameSync(partial, folder);
  rmSync(downloads, { recursive: true, force: true });
}

/** @param {string} text */
function quote(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
