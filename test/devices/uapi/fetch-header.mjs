import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { run } from '../../lanes/children.mjs';

/**
 * The newest <linux/vfio.h> that Debian offers, unpacked into the cache. The machine's apt supplies mirror, proxy and keys;
 * its lists, sources and packages stay as they are.
 */

const CACHE = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..', '.cache', 'uapi-headers');
const TREE = join(CACHE, 'tree');
const KEYS = '/usr/share/keyrings/debian-archive-keyring.gpg';
const PACKAGE = 'linux-libc-dev';

/**
 * @typedef {object} Headers
 * @property {string[]} includes folders for the compiler, before its own; none for the system's header
 * @property {string} origin what it is and, for the system's header, why there is no newer one
 */

/**
 * Never fails: without network, apt or Debian it is the system's header, and `origin` says why.
 *
 * @returns {Promise<Headers>}
 */
export async function newestHeaders() {
  const reason = existsSync(TREE) ? undefined : await fetchTree();
  if (reason !== undefined) return { includes: [], origin: `the system's header (${reason})` };
  const base = join(TREE, 'usr', 'include');
  return { includes: [base, join(base, 'x86_64-linux-gnu')], origin: `Debian's newest ${PACKAGE}, unpacked into .cache` };
}

/** @returns {Promise<string | undefined>} why it could not be had */
async function fetchTree() {
  const mirror = await findMirror();
  if (mirror.uri === undefined) return mirror.reason;
  mkdirSync(CACHE, { recursive: true });
  // Of this process alone: two test files fetch it side by side.
  const own = mkdtempSync(join(CACHE, 'fetch-'));
  try {
    const options = prepareApt(own, mirror.uri, mirror.codename);
    // An update may report one suite as missing and still bring the other; the download decides.
    await run('apt-get', [...options, 'update']);
    const downloaded = await run('apt-get', [...options, 'download', PACKAGE], { cwd: own });
    const file = readdirSync(own).find((name) => name.startsWith(`${PACKAGE}_`) && name.endsWith('.deb'));
    if (downloaded.code !== 0 || file === undefined) return `apt-get download: ${lastLine(downloaded)}`;

    const unpacked = await run('dpkg-deb', ['-x', join(own, file), join(own, 'tree')]);
    if (unpacked.code !== 0) return `dpkg-deb: ${lastLine(unpacked)}`;
    // The tree gets its name only when it is whole, so that an interrupted run leaves nothing that looks finished.
    try {
      renameSync(join(own, 'tree'), TREE);
    } catch (error) {
      // Who comes second has it already.
      if (!existsSync(TREE)) throw error;
    }
    return undefined;
  } finally {
    rmSync(own, { recursive: true, force: true });
  }
}

/** @returns {Promise<{ uri: string, codename: string, reason?: undefined } | { uri?: undefined, reason: string }>} */
async function findMirror() {
  const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
  const codename = /^VERSION_CODENAME=(.+)$/m.exec(release)?.[1];
  if (!/^ID=debian$/m.test(release) || codename === undefined || !existsSync(KEYS)) return { reason: 'this is not Debian' };
  const targets = await run('apt-get', ['indextargets', '--format', '$(RELEASE) $(REPO_URI)', 'Created-By: Packages']);
  const uri = targets.stdout.split('\n').map((line) => line.split(' ')).find(([name]) => name === codename)?.[1];
  return uri === undefined ? { reason: `apt has no source for ${codename}` } : { uri, codename };
}

/**
 * An apt with sources, lists and cache of its own.
 *
 * @param {string} folder
 * @param {string} uri
 * @param {string} codename
 */
function prepareApt(folder, uri, codename) {
  const sources = join(folder, 'sources.list');
  mkdirSync(join(folder, 'lists', 'partial'), { recursive: true });
  mkdirSync(join(folder, 'apt', 'archives', 'partial'), { recursive: true });
  // Backports of the current stable release have the newest kernel headers; those of this release are the second best.
  const suites = [...new Set(['stable-backports', `${codename}-backports`])];
  writeFileSync(sources, suites.map((suite) => `deb [signed-by=${KEYS}] ${uri} ${suite} main\n`).join(''));
  const settings = {
    'Dir::Etc::SourceList': sources,
    'Dir::Etc::SourceParts': '/dev/null',
    'Dir::Etc::Preferences': '/dev/null',
    'Dir::Etc::PreferencesParts': '/dev/null',
    'Dir::State::Lists': join(folder, 'lists'),
    'Dir::Cache': join(folder, 'apt'),
    'APT::Sandbox::User': 'root',
    'Acquire::Languages': 'none',
    'Acquire::http::Timeout': '20',
    'Acquire::Retries': '0',
    'Acquire::AllowReleaseInfoChange': 'true',
  };
  return Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
}

/** @param {import('../../lanes/children.mjs').Finished} finished */
function lastLine(finished) {
  return `${finished.stdout}\n${finished.stderr}`.trim().split('\n').at(-1);
}
