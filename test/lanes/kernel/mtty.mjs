import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { buildModules } from './module.mjs';
import { toolsOf } from './packages.mjs';
import { withSource } from './source.mjs';

/**
 * mtty, a serial port that the kernel's own samples offer as a mediated device. Debian does not build it, so one file
 * of its source package is built here. It stays in the cache: its text is no part of this repository.
 */

const FILE = 'mtty.c';

/** Where it lies in the sources. */
export const MTTY = `samples/vfio-mdev/${FILE}`;

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
  const partial = `${folder}.partial-${process.pid}`;
  await withSource(kernel.series, 'mtty', (source) => source.take(MTTY, partial, toolsOf(kernel.tree)));
  writeFileSync(join(partial, 'Makefile'), 'obj-m := mtty.o\n');
  rmSync(folder, { recursive: true, force: true });
  renameSync(partial, folder);
}
