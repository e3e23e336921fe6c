import { initialAnswerBytes, maxAnswerBytes, withArgsz } from './argsz.js';
import { answerView, protocolError } from './bytes.js';
import { VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET } from './constants.js';

/** struct vfio_device_info. */
export const deviceInfoLayout = {
  argsz: 0,
  flags: 4,
  num_regions: 8,
  num_irqs: 12,
  cap_offset: 16,
  pad: 20,
  sizeof: 24,
} as const;

/** What the kernel fills in every version: the capability chain (s390 and PCI atomics) came later and is not read here. */
const fixedBytes = deviceInfoLayout.cap_offset;

/** Far above any device; it bounds the scans over all indexes that a hostile count would make endless. */
const maxIndexes = 4096;

/** struct vfio_device_info, read. */
export interface DeviceInfo {
  /** VFIO_DEVICE_FLAGS_*. */
  readonly flags: number;
  /** Region indexes run from 0 to this, less one; not every one need exist. */
  readonly regions: number;
  /** Irq indexes run from 0 to this, less one; not every one need exist. */
  readonly irqs: number;
  readonly pci: boolean;
  /** VFIO_DEVICE_RESET works. */
  readonly reset: boolean;
}

const operation = 'VFIO_DEVICE_GET_INFO';

/** Reads an answer to VFIO_DEVICE_GET_INFO. Throws VFIO_E_PROTOCOL where it is cut off or its counts are absurd. */
export function readDeviceInfo(bytes: Uint8Array, device?: string): DeviceInfo {
  const origin = { operation, device };
  const view = answerView(bytes, fixedBytes, origin);
  const count = (offset: number, what: string): number => {
    const value = view.getUint32(offset, true);
    if (value > maxIndexes) throw protocolError(origin, offset, `${value} ${what}, more than ${maxIndexes}`);
    return value;
  };
  const flags = view.getUint32(deviceInfoLayout.flags, true);
  return {
    flags,
    regions: count(deviceInfoLayout.num_regions, 'regions'),
    irqs: count(deviceInfoLayout.num_irqs, 'irqs'),
    pci: (flags & VFIO_DEVICE_FLAGS_PCI) !== 0,
    reset: (flags & VFIO_DEVICE_FLAGS_RESET) !== 0,
  };
}

/** Asks and reads. `call` does VFIO_DEVICE_GET_INFO on the buffer. */
export function queryDeviceInfo(call: (buffer: Uint8Array) => void, device?: string): DeviceInfo {
  return readDeviceInfo(withArgsz(initialAnswerBytes, maxAnswerBytes, operation, call, device), device);
}
