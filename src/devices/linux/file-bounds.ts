import { fstatSync } from 'node:fs';

/**
 * Whether a file has all these bytes now. Touching memory that is mapped behind the end of a file ends the process (SIGBUS), so what another
 * process hands over is asked first; that it shrinks later nobody can keep it from. What is no regular file has no end that could be asked for.
 */
export function fileHolds(fd: number, offset: number, size: number): boolean {
  const file = fstatSync(fd);
  return !file.isFile() || offset + size <= file.size;
}
