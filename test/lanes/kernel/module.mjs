import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';

import { must } from '../children.mjs';
import { CACHE } from './paths.mjs';

/** What kbuild leaves in a source folder; never part of the sources. */
const BUILD_PRODUCT = /\.(o|ko|mod|mod\.c|cmd)$|^(Module\.symvers|modules\.order|\..*)$/;

/**
 * Builds an out-of-tree module against the unpacked headers, outside its source folder. A build is kept under the hash
 * of what went into it.
 *
 * @param {import('./packages.mjs').Kernel} kernel
 * @param {string} source folder with a Makefile that kbuild understands
 * @returns {Promise<string[]>} the modules (*.ko); none when the folder has no Makefile
 */
export async function buildModules(kernel, source) {
  if (!existsSync(join(source, 'Makefile'))) return [];
  const builds = join(CACHE, 'modules');
  const target = join(builds, `${kernel.release}-${hashOf(source)}`);
  if (!existsSync(target)) {
    mkdirSync(builds, { recursive: true });
    const partial = `${target}.partial-${process.pid}`;
    rmSync(partial, { recursive: true, force: true });
    cpSync(source, partial, { recursive: true, filter: (path) => path === source || !BUILD_PRODUCT.test(path.split('/').at(-1) ?? '') });
    const headers = join(kernel.tree, 'usr', 'src', `linux-headers-${kernel.release}`);
    // Type information for BPF would take a tool that the headers do not bring.
    await must('make', ['-C', headers, `M=${partial}`, `-j${availableParallelism()}`, 'CONFIG_DEBUG_INFO_BTF_MODULES=', 'modules']);
    for (const name of readdirSync(builds)) rmUnlessFresh(join(builds, name), partial);
    publish(partial, target);
  }
  return readdirSync(target).filter((name) => name.endsWith('.ko')).map((name) => join(target, name));
}

/**
 * A run beside this one may have built the same.
 *
 * @param {string} partial @param {string} target
 */
function publish(partial, target) {
  try {
    renameSync(partial, target);
  } catch (error) {
    if (!existsSync(target)) throw error;
    rmSync(partial, { recursive: true, force: true });
  }
}

/** Old builds are cheap to make again and would pile up; an hour spares those of a run beside this one. */
const KEEP_MS = 3_600_000;

/** @param {string} path @param {string} current */
function rmUnlessFresh(path, current) {
  if (path !== current && Date.now() - statSync(path).mtimeMs > KEEP_MS) rmSync(path, { recursive: true, force: true });
}

/** @param {string} folder */
function hashOf(folder) {
  const hash = createHash('sha256');
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();
  for (const name of names) {
    const path = join(folder, name);
    if (BUILD_PRODUCT.test(name.split('/').at(-1) ?? '') || !statSync(path).isFile()) continue;
    hash.update(`${name}\0`).update(readFileSync(path)).update('\0');
  }
  return hash.digest('hex').slice(0, 16);
}
