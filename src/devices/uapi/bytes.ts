import { VfioError } from '../../errors.js';

/**
 * What every reader of this room shares: little-endian views that were checked before use, and the one error for an
 * answer that contradicts itself. VFIO's structs are native-endian; this library runs on x86-64.
 */

/** Whose answer is being read: `operation` as the field names it, `device` as messages name it. */
export interface Origin {
  readonly operation: string;
  readonly device?: string | undefined;
}

/** The error for a broken contract. `offset`: the byte of the answer that shows it. */
export function protocolError(origin: Origin, offset: number, what: string): VfioError {
  return new VfioError(
    'VFIO_E_PROTOCOL',
    `at byte ${offset} of the answer: ${what}; this is a fault of the vendor driver or server, report it there`,
    origin,
  );
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * A view of the bytes that the answer covers: its own `argsz`, at offset 0 in every struct of VFIO.
 * Throws VFIO_E_PROTOCOL where they do not hold `fixedBytes`, or where the answer claims more than there is.
 */
export function answerView(bytes: Uint8Array, fixedBytes: number, origin: Origin): DataView {
  if (bytes.length < fixedBytes) {
    throw protocolError(origin, bytes.length, `cut off: ${bytes.length} of at least ${fixedBytes} bytes`);
  }
  const argsz = viewOf(bytes).getUint32(0, true);
  if (argsz < fixedBytes) throw protocolError(origin, 0, `argsz ${argsz} is less than the struct's ${fixedBytes} bytes`);
  if (argsz > bytes.length) throw protocolError(origin, 0, `argsz ${argsz} is more than the buffer's ${bytes.length} bytes`);
  return viewOf(bytes.subarray(0, argsz));
}

/**
 * A u64 as a number. Throws VFIO_E_PROTOCOL at 2^53 and beyond, where numbers are no longer exact.
 * `base`: where the view stands in the answer, so that the error names the answer's byte.
 */
export function readExact(view: DataView, offset: number, what: string, origin: Origin, base = 0): number {
  const value = view.getBigUint64(offset, true);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw protocolError(origin, base + offset, `${what} 0x${value.toString(16)} is not below 2^53`);
  }
  return Number(value);
}

/** Throws VFIO_E_RANGE unless `value` fits a __u32: a DataView would store its low bits and say nothing. */
export function requireU32(value: number, what: string, origin: Origin): void {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) {
    throw new VfioError('VFIO_E_RANGE', `${what} must be an integer from 0 to 2^32 - 1, not ${value}`, origin);
  }
}
