import { accessSync, closeSync, constants, existsSync, openSync, realpathSync, statSync, writeFileSync } from 'node:fs';
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

/** What a file that is tried is for. */
interface Trial {
  /** Of the error. Default: the errno's. */
  readonly code?: VfioErrorCode;
  /** It is read, too, and so must be a regular file. */
  readonly readBack?: boolean;
}

/** Tries whether a file can be written, before anything is done for it; none is made. Throws a VfioError that names it. */
export function tryFile(path: string, operation: string, { code, readBack = false }: Trial = {}): void {
  try {
    const errno = hindrance(path);
    if (errno !== undefined) throw fileErrnoError(errno, operation, path, undefined, code);
    const there = readBack ? statSync(path, { throwIfNoEntry: false }) : undefined;
    if (there === undefined) return;
    // Whoever opens a FIFO waits for its other end, for ever.
    if (!there.isFile()) throw new VfioError(code ?? 'VFIO_E_ADDRESS', 'it is no regular file: name another one', { operation, device: path });
    closeSync(openSync(path, 'r+'));
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
