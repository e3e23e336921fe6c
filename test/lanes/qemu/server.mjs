import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';

import { start } from '../children.mjs';
import { ROOT } from '../kernel/paths.mjs';

/** A process that starts on a busy machine, ms. */
const PATIENCE_MS = 60_000;

/**
 * An example that serves a device, as a person would start it.
 *
 * @typedef {object} Server
 * @property {string} path of its socket
 * @property {() => { bytes: number, sha256: string }} printed what it has printed so far
 * @property {() => string} said what it has said on stderr
 * @property {() => void} end
 */

/**
 * @param {string} example
 * @param {string} path
 * @param {Buffer} [typed] what is typed into it, once it has printed something: whoever listens at the other end has made its port ready by then
 * @returns {Promise<Server>}
 */
export async function serveExample(example, path, typed) {
  const child = start('setpriv', ['--pdeathsig', 'KILL', process.execPath, '--import', 'tsx', join(ROOT, 'examples', example, 'main.ts'), `unix:${path}`], { cwd: ROOT, stdio: ['pipe', 'pipe', 'pipe'] });
  const hash = createHash('sha256');
  let bytes = 0;
  let said = '';
  child.stdout?.on('data', (/** @type {Buffer} */ chunk) => {
    if (bytes === 0 && typed !== undefined) child.stdin?.write(typed);
    hash.update(chunk);
    bytes += chunk.length;
  });
  // It may be gone before it has read all of it.
  child.stdin?.on('error', () => undefined);
  await new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`examples/${example} did not listen within ${PATIENCE_MS} ms\n${said}`)), PATIENCE_MS);
    const settle = (/** @type {(value?: unknown) => void} */ how) => (/** @type {unknown} */ value) => {
      clearTimeout(late);
      how(value);
    };
    child.stderr?.setEncoding('utf8').on('data', (/** @type {string} */ text) => {
      said += text;
      if (said.includes('serving at')) settle(resolve)(undefined);
    });
    child.once('close', () => settle(reject)(new Error(`examples/${example} ended\n${said}`)));
  });
  return { path, printed: () => ({ bytes, sha256: hash.copy().digest('hex') }), said: () => said, end: () => void child.kill() };
}

/** @param {number} bytes */
export function noise(bytes) {
  const data = randomBytes(bytes);
  return { data, sha256: createHash('sha256').update(data).digest('hex') };
}
