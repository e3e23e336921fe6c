import { writeFileSync } from 'node:fs';
import { errnoError } from '../errors.js';

/** Writes a file of text. Throws a VfioError that names it. */
export function writeText(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw errnoError((error as NodeJS.ErrnoException).code ?? 'EIO', 'write', path, error);
  }
}
