import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { errnoError, VfioError } from '../../errors.js';
import { readTrace, traceDefaults, type Trace, type TraceLimits } from '../trace/reader.js';

/**
 * Reads a trace from a file, and of that no more than the limits say. Throws as `readTrace` does, and VFIO_E_ADDRESS where there
 * is no such file.
 */
export function readTraceFile(path: string, limits: TraceLimits = {}): Trace {
  const { maxBytes = traceDefaults.maxBytes } = limits;
  let fd: number | undefined;
  try {
    // Opening a pipe for reading would wait for its writer.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new VfioError('VFIO_E_TRACE', 'not a regular file', { operation: 'read trace', device: path });
    // One more than may be read: so that the reader sees that there is more.
    const bytes = Buffer.alloc(Math.min(stat.size, maxBytes + 1));
    let length = 0;
    for (let read = 1; read > 0 && length < bytes.length; length += read) read = readSync(fd, bytes, length, bytes.length - length, length);
    return readTrace(bytes.subarray(0, length), limits, path);
  } catch (error) {
    if (VfioError.is(error)) throw error;
    // What errno says of devices helps nobody who has mistyped the name of a file.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw new VfioError('VFIO_E_ADDRESS', 'no such file', { operation: 'read trace', device: path, errno: 'ENOENT', cause: error });
    throw errnoError((error as NodeJS.ErrnoException).code ?? 'EIO', 'read trace', path, error);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
