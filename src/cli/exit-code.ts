import { exitCodes } from './commands.js';

/** What these end with says where the devices are, and their callers go by it: who is told that nothing was moved starts the source again. */
const moves: ReadonlySet<string> = new Set(['migrate', 'receive', 'resolve']);

/**
 * The exit code of a command that failed. `told` is what it had said that it ends with, where it had: it may fail after that, in closing
 * a device, or in writing what it says.
 */
export function codeOfFailure([command = '']: readonly string[], told: number | undefined): number {
  return told !== undefined && moves.has(command) ? told : exitCodes.failed;
}
