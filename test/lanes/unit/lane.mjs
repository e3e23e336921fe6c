import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { start } from '../children.mjs';
import { emptyOutcome } from '../outcome.mjs';
import { leftOutPatterns } from './left-out.mjs';

const HERE = dirname(fileURLToPath(import.meta.url));
const ROOT = join(HERE, '..', '..', '..');

/**
 * Everything that needs no kernel: all of `test/` but `test/kernel` (vitest.config.ts says so). `test/port` runs here on
 * the software port.
 *
 * @param {{ files: readonly string[], testName?: string | undefined, quick?: boolean }} options quick: without what left-out.mjs lists, and
 *   with the files of a worker in one process, since loading the sources for each takes most of the time
 * @returns {Promise<import('../outcome.mjs').Outcome>}
 */
export async function runUnitTests(options) {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-unit-'));
  const results = join(folder, 'results.json');
  try {
    const args = [
      ...[join(ROOT, 'node_modules', 'vitest', 'vitest.mjs'), 'run'],
      ...['--reporter', 'default', '--reporter', join(HERE, 'reporter.mjs')],
      ...(options.testName === undefined ? [] : ['--testNamePattern', options.testName]),
      ...(options.quick === true ? ['--no-isolate', ...leftOutPatterns.flatMap((pattern) => ['--exclude', pattern])] : []),
      ...options.files,
    ];
    const code = await exitCodeOf(args, { ...process.env, VFIO_RX_UNIT_RESULTS: results });
    if (!existsSync(results)) {
      return { ...emptyOutcome(), failures: [{ test: 'vitest', message: `it ended with exit code ${code} and no results` }] };
    }
    /** @type {import('../outcome.mjs').Outcome} */
    const outcome = JSON.parse(readFileSync(results, 'utf8'));
    if (code !== 0 && outcome.failures.length === 0) {
      outcome.failures.push({ test: 'vitest', message: `it ended with exit code ${code}, though no test failed` });
    }
    return outcome;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * @param {readonly string[]} args
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<number>}
 */
function exitCodeOf(args, env) {
  return new Promise((resolve, reject) => {
    const child = start(process.execPath, args, { cwd: ROOT, env, stdio: ['ignore', 'inherit', 'inherit'] });
    child.once('error', reject);
    child.once('close', (code) => resolve(code ?? 128));
  });
}
