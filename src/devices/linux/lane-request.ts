import { VfioError, errnoError } from '../../errors.js';

interface LaneCall {
  readonly fd: number;
  /** As the field names it, for the error: `VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE`. Default: `op`. */
  readonly operation?: string;
  readonly device?: string;
}

/** A call that may block, as plain data. */
export type LaneRequest =
  | (LaneCall & {
      readonly op: 'ioctl';
      /** The ioctl's number. */
      readonly request: number;
      /** A struct's bytes (copied in, and back out into the result), or an integer. */
      readonly argument: Uint8Array | number;
    })
  | (LaneCall & {
      readonly op: 'read';
      readonly length: number;
      /** Where what it brings is put, if there is room: the lane's until the call returns, also where nobody waits for it any more. */
      readonly into?: Uint8Array | undefined;
    })
  | (LaneCall & { readonly op: 'pread'; readonly length: number; readonly offset: bigint })
  | (LaneCall & { readonly op: 'write'; readonly bytes: Uint8Array })
  | (LaneCall & { readonly op: 'pwrite'; readonly bytes: Uint8Array; readonly offset: bigint });

/** How a call ended. The three times are CLOCK_MONOTONIC, ns. */
export interface LaneResult {
  /** What the call returned; -1 when it failed. */
  readonly value: number;
  /** errno's name, when it failed. */
  readonly errno: string | undefined;
  /** A copy: the struct after an ioctl, what a read brought (0 bytes: end of file; in the memory that was lent for it, if any), empty for the rest. */
  readonly bytes: Uint8Array;
  /** When the call began and returned, in its thread. */
  readonly startedNs: bigint;
  readonly returnedNs: bigint;
  /** When the event loop saw it. Far behind `returnedNs`: user code held the loop. */
  readonly seenNs: bigint;
}

/** Most bytes that one request carries in or out. */
export const maxLaneBytes = 64 * 1024 * 1024;

/** Bytes that a request needs in shared memory. @throws VfioError `VFIO_E_RANGE` beyond `maxLaneBytes`. */
export function laneBytes(request: LaneRequest): number {
  const bytes = inputOf(request)?.byteLength ?? ('length' in request ? request.length : 0);
  if (!Number.isInteger(bytes) || bytes < 0 || bytes > maxLaneBytes) {
    throw new VfioError('VFIO_E_RANGE', `a call carries 0 to ${String(maxLaneBytes)} bytes, not ${String(bytes)}: split it`, namesOf(request));
  }
  return bytes;
}

/** What goes in, if anything. */
export function inputOf(request: LaneRequest): Uint8Array | undefined {
  if (request.op === 'ioctl') return typeof request.argument === 'number' ? undefined : request.argument;
  return 'bytes' in request ? request.bytes : undefined;
}

/** The same request with bytes of its own: the caller may reuse his while it waits in a queue. */
export function detached(request: LaneRequest): LaneRequest {
  if (request.op === 'ioctl') return typeof request.argument === 'number' ? request : { ...request, argument: request.argument.slice() };
  return 'bytes' in request ? { ...request, bytes: request.bytes.slice() } : request;
}

export function namesOf(request: LaneRequest): { readonly operation: string; readonly device: string | undefined } {
  return { operation: request.operation ?? request.op, device: request.device };
}

/** A driver that claims to have moved more bytes than there were, or fewer than none: VFIO_E_PROTOCOL. */
export function lieOf(request: LaneRequest, result: LaneResult): VfioError | undefined {
  const { value, errno } = result;
  const asked = laneBytes(request);
  if (request.op === 'ioctl' || errno !== undefined || (value >= 0 && value <= asked)) return undefined;
  return new VfioError('VFIO_E_PROTOCOL', `the driver claims to have moved ${String(value)} of ${String(asked)} bytes: report that to its vendor; nothing of it is taken`, { ...namesOf(request), cause: result });
}

/** The error of a failed call; its `cause` is the `LaneResult`, for the times and the struct as the kernel left it. */
export function laneError(request: LaneRequest, result: LaneResult): VfioError {
  const { operation, device } = namesOf(request);
  return errnoError(result.errno ?? 'EIO', operation, device, result);
}
