import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { run } from '../children.mjs';
import { LaneUnavailable } from '../outcome.mjs';
import { CACHE } from './paths.mjs';

/**
 * Debian's archive, through the machine's own apt. What the machine's sources do not have comes by a source of the
 * lane's own, whose lists stay in the cache: nothing of the machine's configuration changes, and no root is needed.
 */

export const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';
const ARCHIVE = 'http://deb.debian.org/debian';

/** As root apt would fetch as a user of its own, who may not write into the cache. */
export const OURSELVES = ['-o', 'APT::Sandbox::User=root'];

/** @param {string} message */
export function progress(message) {
  process.stderr.write(`kernel lane: ${message}\n`);
}

export async function requireApt() {
  if ((await run('apt-get', ['--version'])).code !== 0) {
    throw new LaneUnavailable('it takes a kernel from Debian\'s archive, and there is no apt-get here');
  }
}

export class Archive {
  /** @type {string | undefined} */
  #suite;
  /** @type {readonly string[]} */
  #options = OURSELVES;

  /** @param {string | undefined} suite undefined: what the machine's apt knows */
  constructor(suite) {
    this.#suite = suite;
  }

  /** Writes the lane's own source, from the mirror that the machine uses. */
  async prepare() {
    if (this.#suite === undefined) return;
    const folder = join(CACHE, 'apt', this.#suite);
    for (const name of ['lists', 'cache']) mkdirSync(join(folder, name), { recursive: true });
    const source = join(folder, 'suite.sources');
    const lines = ['Types: deb', `URIs: ${await mirror()}`, `Suites: ${this.#suite}`, 'Components: main', `Signed-By: ${KEYRING}`];
    writeFileSync(source, `${lines.join('\n')}\n`);
    const settings = {
      'Dir::Etc::SourceList': source,
      'Dir::Etc::SourceParts': '/dev/null',
      'Dir::State::Lists': join(folder, 'lists'),
      'Dir::Cache': join(folder, 'cache'),
    };
    this.#options = [...OURSELVES, ...Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])];
  }

  async update() {
    if (this.#suite === undefined && process.getuid?.() !== 0) {
      throw new LaneUnavailable('apt\'s package lists are missing or old and only root can renew them: apt-get update');
    }
    progress(`renewing ${this.#suite === undefined ? 'apt\'s package lists' : `the lane's own package lists of ${this.#suite}`}`);
    const finished = await run('apt-get', [...this.#options, 'update']);
    if (finished.code !== 0) throw new LaneUnavailable(`apt-get update failed: ${lastLine(finished)}`);
  }

  /**
   * @param {string} pattern regular expression
   * @returns {Promise<string[]>} names of packages
   */
  async search(pattern) {
    const { stdout } = await run('apt-cache', [...this.#options, 'search', '--names-only', pattern]);
    return stdout.split('\n').flatMap((line) => line.split(' ')[0] || []);
  }

  /**
   * Downloads packages, picking up where an interrupted run stopped.
   *
   * @param {readonly string[]} packages
   * @param {string} folder
   * @returns {Promise<string[] | undefined>} the files, or undefined when the archive would not give one of them
   */
  async download(packages, folder) {
    mkdirSync(folder, { recursive: true });
    // apt checks what is there against its sums, so a complete file is not fetched again and half a file is not used.
    const finished = await run('apt-get', [...this.#options, 'download', ...packages], { cwd: folder });
    if (finished.code !== 0) return undefined;
    const present = readdirSync(folder).filter((name) => name.endsWith('.deb'));
    return packages.map((name) => {
      // An interrupted run followed by an update of the lists can leave two versions: the last name is the newer one.
      const file = present.filter((candidate) => candidate.startsWith(`${name}_`)).sort().at(-1);
      if (file === undefined) throw new Error(`apt-get download left no ${name}_*.deb in ${folder}`);
      return join(folder, file);
    });
  }
}

/** Where this machine gets Debian's packages from. */
export async function mirror() {
  const { stdout } = await run('apt-get', ['indextargets', '--format', '$(RELEASE) $(REPO_URI)', 'Created-By: Packages']);
  return stdout.split('\n').find((line) => line.startsWith('bookworm '))?.split(' ')[1] ?? ARCHIVE;
}

/** @param {import('../children.mjs').Finished} finished */
export function lastLine(finished) {
  return `${finished.stdout}\n${finished.stderr}`.trim().split('\n').at(-1);
}
