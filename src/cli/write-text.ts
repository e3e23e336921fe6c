import { closeSync, openSync, statSync, writeFileSync } from 'node:fs';
import { fileErrnoError } from '../errors.js';

/** Writes a file of text. Throws a VfioError that names it. */
export function writeText(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw fileErrnoError((error as NodeJS.ErrnoException).code ?? 'EIO', 'write', path, error);
  }
}

/** Tries whether a trace can be written, before a device is opened for it; a pipe is left alone. Throws a VfioError that names it. */
export function tryTrace(path: string): void {
  try {
    const kept = statSync(path, { throwIfNoEntry: false });
    if (kept === undefined || kept.isFile() || kept.isDirectory()) closeSync(openSync(path, 'a'));
  } catch (error) {
    throw fileErrnoError((error as NodeJS.ErrnoException).code ?? 'EIO', 'write trace', path, error);
  }
}
