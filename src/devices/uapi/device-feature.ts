import { VfioError } from '../../errors.js';
import { answerView, protocolError, viewOf, type Origin } from './bytes.js';
import {
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_PROBE,
  VFIO_DEVICE_FEATURE_SET,
} from './constants.js';

/** struct vfio_device_feature; the payload begins at `data`. */
export const deviceFeatureLayout = { argsz: 0, flags: 4, data: 8, sizeof: 8 } as const;

const accesses = {
  get: VFIO_DEVICE_FEATURE_GET,
  set: VFIO_DEVICE_FEATURE_SET,
  /** Whether GET, SET or both would work; nothing is transferred. */
  probe: VFIO_DEVICE_FEATURE_PROBE,
  'probe-get': VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET,
  'probe-set': VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_SET,
} as const;

export type FeatureAccess = keyof typeof accesses;

/** The answer's header: which feature, and what was done. */
export interface FeatureHeader {
  /** VFIO_DEVICE_FEATURE_*, 0 to 65,535. */
  readonly feature: number;
  readonly get: boolean;
  readonly set: boolean;
  readonly probe: boolean;
}

const operation = 'VFIO_DEVICE_FEATURE';

/**
 * Writes the argument of VFIO_DEVICE_FEATURE: the header, and behind it `payload` (zeros of the answer's length for GET,
 * nothing for a probe). Throws VFIO_E_RANGE for a feature number beyond 16 bits, which would run into the flags.
 */
export function encodeFeature(feature: number, access: FeatureAccess, payload: Uint8Array = new Uint8Array(0), device?: string): Uint8Array {
  if (!Number.isInteger(feature) || feature < 0 || feature > VFIO_DEVICE_FEATURE_MASK) {
    throw new VfioError('VFIO_E_RANGE', `${feature} is no feature number: 0 to ${VFIO_DEVICE_FEATURE_MASK}`, { operation, device });
  }
  const bytes = new Uint8Array(deviceFeatureLayout.sizeof + payload.length);
  const view = viewOf(bytes);
  view.setUint32(deviceFeatureLayout.argsz, bytes.length, true);
  view.setUint32(deviceFeatureLayout.flags, feature | accesses[access], true);
  bytes.set(payload, deviceFeatureLayout.data);
  return bytes;
}

/** Reads the header of an argument or an answer. Throws VFIO_E_PROTOCOL where it is cut off. */
export function readFeatureHeader(bytes: Uint8Array, device?: string): FeatureHeader {
  const flags = answerView(bytes, deviceFeatureLayout.sizeof, { operation, device }).getUint32(deviceFeatureLayout.flags, true);
  return {
    feature: flags & VFIO_DEVICE_FEATURE_MASK,
    get: (flags & VFIO_DEVICE_FEATURE_GET) !== 0,
    set: (flags & VFIO_DEVICE_FEATURE_SET) !== 0,
    probe: (flags & VFIO_DEVICE_FEATURE_PROBE) !== 0,
  };
}

/** A view of the payload of `payloadBytes` of an answer that is about `feature`. Throws VFIO_E_PROTOCOL where it is not. */
export function featurePayload(bytes: Uint8Array, feature: number, payloadBytes: number, origin: Origin): DataView {
  const view = answerView(bytes, deviceFeatureLayout.sizeof + payloadBytes, origin);
  const answered = readFeatureHeader(bytes, origin.device).feature;
  if (answered !== feature) throw protocolError(origin, deviceFeatureLayout.flags, `feature ${answered} answered, ${feature} was asked`);
  return new DataView(view.buffer, view.byteOffset + deviceFeatureLayout.data, payloadBytes);
}
