import { VfioError } from '../../errors.js';
import { answerView, viewOf, type Origin } from './bytes.js';
import { VFIO_PRECOPY_INFO_REINIT } from './constants.js';

/** struct vfio_precopy_info. */
export const precopyInfoLayout = { argsz: 0, flags: 4, initial_bytes: 8, dirty_bytes: 16, sizeof: 24 } as const;

/** How much a device has to say while it runs: estimates, which the device may change at any time. */
export interface PrecopyInfo {
  /** Bytes that should be through before the device is stopped; v1 does not tell them apart, and says 0. */
  readonly initialBytes: bigint;
  /** Bytes that have changed since they were read. */
  readonly dirtyBytes: bigint;
  /** `initialBytes` began anew: there is new initial data. Only told by VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2. */
  readonly reinit: boolean;
}

export const precopyOperation = 'VFIO_MIG_GET_PRECOPY_INFO';

/** The argument of VFIO_MIG_GET_PRECOPY_INFO. */
export function encodePrecopyQuery(): Uint8Array {
  const bytes = new Uint8Array(precopyInfoLayout.sizeof);
  viewOf(bytes).setUint32(precopyInfoLayout.argsz, bytes.length, true);
  return bytes;
}

/** Reads the answer. `flagsTold`: the user has opted in to PRECOPY_INFOv2; else the kernel leaves in `flags` whatever stood there. */
export function readPrecopyInfo(bytes: Uint8Array, flagsTold: boolean, device?: string): PrecopyInfo {
  const view = answerView(bytes, precopyInfoLayout.sizeof, { operation: precopyOperation, device });
  return {
    initialBytes: view.getBigUint64(precopyInfoLayout.initial_bytes, true),
    dirtyBytes: view.getBigUint64(precopyInfoLayout.dirty_bytes, true),
    reinit: flagsTold && (view.getUint32(precopyInfoLayout.flags, true) & VFIO_PRECOPY_INFO_REINIT) !== 0,
  };
}

/** EINVAL, which is how the kernel says that the device is in no PRE_COPY state. */
export function notPreCopying(origin: Origin, cause?: unknown): VfioError {
  return new VfioError('VFIO_E_RANGE', 'the device is in no PRE_COPY state: there is nothing to estimate', { ...origin, errno: 'EINVAL', cause });
}
