import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { must, run } from '../children.mjs';
import { LaneUnavailable } from '../outcome.mjs';
import { Archive, progress } from './apt.mjs';
import { CACHE } from './paths.mjs';

/**
 * Debian's package of a kernel's sources, taken from the archive for a moment.
 *
 * @template T
 * @param {import('./kernels.mjs').Series} series
 * @param {string} why
 * @param {(source: Source) => Promise<T>} use the package goes when it has ended
 * @returns {Promise<T>}
 */
export async function withSource({ source: name, suite }, why, use) {
  const archive = new Archive(suite);
  await archive.prepare();
  progress(`downloading ${name} for ${why} (150 MB)`);
  const downloads = join(CACHE, `packages-${name}-${process.pid}`);
  let files = await archive.download([name], downloads);
  if (files === undefined) {
    await archive.update();
    files = await archive.download([name], downloads);
  }
  const [file] = files ?? [];
  if (file === undefined) throw new LaneUnavailable(`${name} could not be downloaded for ${why} (no network?)`);
  try {
    return await use(new Source(name, file));
  } finally {
    rmSync(downloads, { recursive: true, force: true });
  }
}

export class Source {
  /** @param {string} name @param {string} file */
  constructor(name, file) {
    this.name = name;
    this.file = file;
  }

  /**
   * Unpacks all of it into a folder.
   *
   * @param {string} folder
   * @param {NodeJS.ProcessEnv} env where xz is found
   */
  async unpack(folder, env) {
    await must('sh', ['-c', `set -e; ${this.#tar()} | tar -xJf - -C ${quote(folder)} --strip-components=1`], { env });
  }

  /**
   * Unpacks one file of it. The archive is not read beyond that, so the programs in front of the last one break off.
   *
   * @param {string} path
   * @param {string} folder
   * @param {NodeJS.ProcessEnv} env where xz is found
   */
  async take(path, folder, env) {
    mkdirSync(folder, { recursive: true });
    const depth = path.split('/').length;
    const take = ['tar', '-xJf', '-', '-C', quote(folder), `--strip-components=${depth}`, '--wildcards', '--occurrence=1', `'*/${path}'`];
    const { stderr } = await run('sh', ['-c', `${this.#tar()} | ${take.join(' ')}`], { env });
    if (!existsSync(join(folder, path.split('/').at(-1) ?? ''))) throw new Error(`${this.name} has no ${path}: ${stderr}`);
  }

  #tar() {
    return `dpkg-deb --fsys-tarfile ${quote(this.file)} 2> /dev/null | tar -xO ./usr/src/${this.name}.tar.xz 2> /dev/null`;
  }
}

/** @param {string} text */
function quote(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
