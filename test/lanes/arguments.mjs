import { parseArgs } from 'node:util';

/**
 * As parseArgs, but what is wrong is one line, and the end.
 *
 * @template {import('node:util').ParseArgsConfig} T
 * @param {T} config
 * @param {string} help what says which there are
 * @returns {ReturnType<typeof parseArgs<T>>}
 */
export function argumentsOf(config, help) {
  try {
    return parseArgs(config);
  } catch (error) {
    // Only the first sentence: the next one is about arguments that begin with a dash.
    const [what] = String(error instanceof Error ? error.message : error).split(/[.\n]\s/);
    process.stderr.write(`${what} (more: ${help})\n`);
    process.exit(2);
  }
}
