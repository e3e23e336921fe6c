import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { errnoError, VfioError, type VfioErrorCode } from '../../errors.js';
import { readTrace, traceDefaults, type Trace, type TraceLimits } from '../trace/reader.js';

const operation = 'read trace';

/** What errno says of devices helps nobody who has mistyped the name of a file. */
const byErrno: Readonly<Record<string, readonly [VfioErrorCode, string]>> = {
  ENOENT: ['VFIO_E_ADDRESS', 'no such file'],
  ENOTDIR: ['VFIO_E_ADDRESS', 'no such file'],
  EACCES: ['VFIO_E_PERMISSION', 'this user may not read it'],
  // A socket.
  ENXIO: ['VFIO_E_TRACE', 'not a regular file'],
};

/**
 * Reads a trace from a file, and of that no more than the limits say. Throws as `readTrace` does, VFIO_E_ADDRESS where there
 * is no such file, VFIO_E_PERMISSION where it may not be read.
 */
export function readTraceFile(path: string, limits: TraceLimits = {}): Trace {
  const { maxBytes = traceDefaults.maxBytes } = limits;
  let fd: number | undefined;
  try {
    // Opening a pipe for reading would wait for its writer.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new VfioError('VFIO_E_TRACE', stat.isDirectory() ? 'a folder: name a file in it' : 'not a regular file', { operation, device: path });
    // One more than may be read: so that the reader sees that there is more.
    const bytes = Buffer.alloc(Math.min(stat.size, maxBytes + 1));
    let length = 0;
    for (let read = 1; read > 0 && length < bytes.length; length += read) read = readSync(fd, bytes, length, bytes.length - length, length);
    return readTrace(bytes.subarray(0, length), limits, path);
  } catch (error) {
    if (VfioError.is(error)) throw error;
    throw readErrnoError((error as NodeJS.ErrnoException).code ?? 'EIO', path, error);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function readErrnoError(errno: string, path: string, cause: unknown): VfioError {
  const known = byErrno[errno];
  return known === undefined ? errnoError(errno, operation, path, cause) : new VfioError(...known, { operation, device: path, errno, cause });
}
