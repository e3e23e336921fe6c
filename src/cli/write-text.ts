import { accessSync, constants, existsSync, realpathSync, statSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileErrnoError, VfioError, type VfioErrorCode } from '../errors.js';

/** Writes a file of text. Throws a VfioError that names it. */
export function writeText(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw fileErrnoError((error as NodeJS.ErrnoException).code ?? 'EIO', 'write', path, error);
  }
}

/** Tries whether a file can be written, before anything is done for it; none is made. Throws a VfioError that names it, with the errno's code unless told. */
export function tryFile(path: string, operation: string, code?: VfioErrorCode): void {
  try {
    const errno = hindrance(path);
    if (errno !== undefined) throw fileErrnoError(errno, operation, path, undefined, code);
  } catch (error) {
    if (VfioError.is(error)) throw error;
    throw fileErrnoError((error as NodeJS.ErrnoException).code ?? 'EIO', operation, path, error, code);
  }
}

/** errno of what stands in the way; what the system says by itself is thrown. */
function hindrance(path: string): string | undefined {
  const there = statSync(path, { throwIfNoEntry: false });
  if (there?.isDirectory() === true || path.endsWith('/')) return 'EISDIR';
  if (there !== undefined) accessSync(path, constants.W_OK);
  else {
    const folder = statSync(dirname(path), { throwIfNoEntry: false });
    if (folder === undefined || path === '') return 'ENOENT';
    if (!folder.isDirectory()) return 'ENOTDIR';
    accessSync(dirname(path), constants.W_OK);
  }
  return undefined;
}

/** Throws VFIO_E_ADDRESS where a file would be written over one that is needed. */
export function tryOther(path: string, needed: readonly string[], operation: string): void {
  const whole = (one: string): string => (existsSync(one) ? realpathSync(one) : resolve(one));
  if (needed.every((one) => whole(one) !== whole(path))) return;
  throw new VfioError('VFIO_E_ADDRESS', 'it would be written over itself: name another file', { operation, device: path });
}
