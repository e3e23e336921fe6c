import { spawn } from 'node:child_process';

/**
 * Every child of a lane is started here, so that one Ctrl-C (or a `kill` of the runner) ends all of them: a virtual
 * machine that outlives its test run would keep a core busy for ever.
 */

/** @type {Set<import('node:child_process').ChildProcess>} */
const living = new Set();
let stopping = false;

/** Exit status of a shell command that a signal ended: 128 + the signal's number. */
const EXIT_STATUS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 };

/**
 * Starts a child that ends with us.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {import('node:child_process').SpawnOptions} [options]
 * @returns {import('node:child_process').ChildProcess}
 */
export function start(command, args, options = {}) {
  const child = spawn(command, args, options);
  living.add(child);
  const forget = () => living.delete(child);
  child.once('exit', forget);
  child.once('error', forget);
  return child;
}

/**
 * @typedef {object} Finished
 * @property {number} code exit code; 128 + n after signal n, 127 if the program could not be started
 * @property {string} stdout what was captured ('' for an inherited stream)
 * @property {string} stderr
 */

/**
 * Runs a child to its end. Streams are captured unless `options.stdio` says otherwise.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {import('node:child_process').SpawnOptions} [options]
 * @returns {Promise<Finished>}
 */
export function run(command, args, options = {}) {
  return new Promise((resolve) => {
    const child = start(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    let stdout = '';
    let stderr = '';
    child.stdout?.setEncoding('utf8').on('data', (text) => (stdout += text));
    child.stderr?.setEncoding('utf8').on('data', (text) => (stderr += text));
    child.once('error', (error) => resolve({ code: 127, stdout, stderr: stderr + error.message }));
    child.once('close', (code, signal) => resolve({ code: code ?? (signal === null ? 1 : 128), stdout, stderr }));
  });
}

/**
 * As {@link run}, but a non-zero exit code is an error that shows the command and the end of what it printed.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {import('node:child_process').SpawnOptions} [options]
 * @returns {Promise<Finished>}
 */
export async function must(command, args, options = {}) {
  const finished = await run(command, args, options);
  if (finished.code !== 0) {
    const said = `${finished.stdout}\n${finished.stderr}`.trim().split('\n').slice(-40).join('\n');
    throw new Error(`\`${command} ${args.join(' ')}\` failed with exit code ${finished.code}:\n${said}`);
  }
  return finished;
}

/** Ends all children now; used by the signal handlers and by a deadline. */
export function stopAll() {
  for (const child of living) child.kill('SIGKILL');
}

/**
 * Installs the handlers for Ctrl-C and friends. Call once, from a program's entry file.
 *
 * @param {() => void} [cleanUp] runs after the children were told to end
 */
export function stopOnSignals(cleanUp) {
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
    process.on(signal, () => {
      if (stopping) return;
      stopping = true;
      stopAll();
      cleanUp?.();
      process.exit(EXIT_STATUS[signal]);
    });
  }
}
