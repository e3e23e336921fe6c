import { exitCodes } from './commands.js';

/** What these end with says where the devices are, and their callers go by it: who is told that nothing was moved starts the source again. */
const moves: ReadonlySet<string> = new Set(['migrate', 'receive', 'resolve']);

/** The exit code of a command that ended with `code`, and whose output could not be written. */
export function codeWhenLost([command = '']: readonly string[], code: number): number {
  return moves.has(command) ? code : exitCodes.failed;
}
