import { VfioError } from '../../errors.js';
import { protocolError, viewOf, type Origin } from './bytes.js';

/** The default bound of an answer, bytes. A sparse capability of 64 KiB names about 4,000 areas. */
export const maxAnswerBytes = 65_536;

/** Room for the usual capabilities, so that one ioctl is enough where a remap waits for the answer. */
export const initialAnswerBytes = 256;

/** A layout that grows between two asks costs one more each time; a device that never settles is not followed for ever. */
export const maxAttempts = 8;

/** How long the buffer must be for the whole answer; undefined where it is there. Throws VFIO_E_PROTOCOL beyond `maxBytes`. */
export function bytesNeeded(answer: Uint8Array, maxBytes: number, origin: Origin): number | undefined {
  const needed = viewOf(answer).getUint32(0, true);
  if (needed <= answer.length) return undefined;
  if (needed > maxBytes) throw protocolError(origin, 0, `argsz asks for ${needed} bytes, the bound is ${maxBytes}`);
  return needed;
}

/** An answer that grows with every ask. */
export function neverSettles(bytes: number, origin: Origin): VfioError {
  return protocolError(origin, 0, `argsz grew ${maxAttempts} times in a row and now asks for ${bytes} bytes`);
}

/**
 * The argsz handshake of VFIO's INFO ioctls as a driver without any ioctl in it.
 *
 * `call` gets a zeroed buffer whose first u32 says its length, fills in what it asks for, and does the ioctl on it. An
 * answer that did not fit comes back with `argsz` set to what it needs (and cap_offset 0): the call is made again with
 * that much, up to `maxBytes`. What `call` throws goes through. Source: the comment on argsz in <linux/vfio.h>.
 *
 * Throws VFIO_E_PROTOCOL when the answer would pass `maxBytes`, or still grows after a few attempts.
 *
 * @param first how long the first buffer is, or the buffer itself, for a caller who has done with it before the next ask
 * @returns the answer; its own argsz is no more than its length
 */
export function withArgsz(
  first: number | Uint8Array,
  maxBytes: number,
  operation: string,
  call: (buffer: Uint8Array) => void,
  device?: string,
): Uint8Array {
  const origin = { operation, device };
  let bytes = typeof first === 'number' ? first : first.length;
  if (!(bytes >= 4 && bytes <= maxBytes)) {
    throw new VfioError('VFIO_E_RANGE', `cannot begin with ${bytes} bytes: it takes 4 to ${maxBytes}`, origin);
  }
  for (let attempt = 0; attempt < maxAttempts; attempt += 1) {
    const buffer = attempt === 0 && typeof first !== 'number' ? first.fill(0) : new Uint8Array(bytes);
    viewOf(buffer).setUint32(0, bytes, true);
    call(buffer);
    const needed = bytesNeeded(buffer, maxBytes, origin);
    if (needed === undefined) return buffer;
    bytes = needed;
  }
  throw neverSettles(bytes, origin);
}
