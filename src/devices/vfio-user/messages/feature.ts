import { protocolError, readExact, viewOf } from '../../uapi/bytes.js';
import {
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, VFIO_DEVICE_FEATURE_MIGRATION,
  VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_MASK, VFIO_DEVICE_FEATURE_PROBE, VFIO_DEVICE_FEATURE_SET,
} from '../../uapi/constants.js';
import { deviceFeatureLayout, encodeFeature, featurePayload } from '../../uapi/device-feature.js';
import type { IovaRange } from '../../uapi/dma.js';
import { maxLoggedRanges } from '../../uapi/dma-logging.js';
import { featureMigrationLayout, migStateLayout } from '../../uapi/migration-feature.js';
import { stateName, stateNumber, type State } from '../../uapi/migration-state.js';
import { dataAfter, payloadView, struct } from './fields.js';
import { maxDataBytes, type CommandName } from './header.js';

/** DEVICE_FEATURE: struct vfio_device_feature; where the kernel's structs point to memory the data stands inline here. */
export const loggingStartLayout = { page_size: 0, num_ranges: 8, reserved: 12, ranges: 16, sizeof: 16 } as const;
export const loggingRangeLayout = { iova: 0, length: 8, sizeof: 16 } as const;
export const loggingReportLayout = { iova: 0, length: 8, page_size: 16, bitmap: 24, sizeof: 24 } as const;
/** MIG_DATA_READ and MIG_DATA_WRITE. */
export const migDataLayout = { argsz: 0, size: 4, data: 8, sizeof: 8 } as const;

const origin = { operation: 'vfio-user DEVICE_FEATURE' };

/** A DEVICE_FEATURE command. */
export interface FeatureCall {
  readonly feature: number;
  readonly access: 'get' | 'set' | 'probe';
  readonly data: Uint8Array;
  /** The largest reply that is taken, bytes. */
  readonly argsz: number;
}

/** Throws VFIO_E_PROTOCOL where it asks for nothing, or for GET and SET at once. */
export function readFeatureCall(payload: Uint8Array): FeatureCall {
  const view = payloadView(payload, deviceFeatureLayout.sizeof, origin);
  const flags = view.getUint32(deviceFeatureLayout.flags, true);
  const has = (bit: number): boolean => (flags & bit) !== 0;
  const [get, set, probe] = [has(VFIO_DEVICE_FEATURE_GET), has(VFIO_DEVICE_FEATURE_SET), has(VFIO_DEVICE_FEATURE_PROBE)];
  if (!probe && get === set) throw protocolError(origin, deviceFeatureLayout.flags, get ? 'GET and SET at once' : 'neither GET nor SET nor PROBE');
  return {
    feature: flags & VFIO_DEVICE_FEATURE_MASK,
    access: probe ? 'probe' : get ? 'get' : 'set',
    data: payload.subarray(deviceFeatureLayout.sizeof),
    argsz: view.getUint32(deviceFeatureLayout.argsz, true),
  };
}

/** Whether a command is about device_state: it may stay unanswered for as long as the driver of the device waits for something. */
export function isStateCommand(name: CommandName | undefined, payload: Uint8Array): boolean {
  if (name === 'DEVICE_RESET' || name === 'MIG_DATA_READ' || name === 'MIG_DATA_WRITE') return true;
  return name === 'DEVICE_FEATURE' && payload.length >= deviceFeatureLayout.sizeof && (viewOf(payload).getUint32(deviceFeatureLayout.flags, true) & VFIO_DEVICE_FEATURE_MASK) === VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE;
}

/** The flags of MIGRATION, as a reply carries them. */
export function migrationReply(flags: number): Uint8Array {
  const { bytes, view } = struct(featureMigrationLayout.sizeof);
  view.setBigUint64(featureMigrationLayout.flags, BigInt(flags), true);
  return encodeFeature(VFIO_DEVICE_FEATURE_MIGRATION, 'get', bytes);
}

function stateData(state: State | undefined): Uint8Array {
  const { bytes, view } = struct(migStateLayout.sizeof);
  if (state !== undefined) view.setUint32(migStateLayout.device_state, stateNumber(state), true);
  return bytes;
}

/** device_state: GET (without a state) and SET, commands and replies. There is no data_fd: MIG_DATA_* carry what it would. */
export function encodeUserState(access: 'get' | 'set', state?: State): Uint8Array {
  return encodeFeature(VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, access, stateData(state));
}

/** The state of a reply. Throws VFIO_E_PROTOCOL where it is cut off, another feature's, or no state that is known. */
export function readUserState(payload: Uint8Array): State {
  const at = { operation: 'VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE' };
  const view = featurePayload(payload, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, migStateLayout.sizeof, at);
  return stateName(view.getUint32(migStateLayout.device_state, true), at, deviceFeatureLayout.data);
}

/** The state that a SET asks for. */
export function stateOf(data: Uint8Array): State {
  return stateName(payloadView(data, migStateLayout.sizeof, origin).getUint32(migStateLayout.device_state, true), origin, deviceFeatureLayout.data);
}

/** START of a log: no ranges mean everything. */
export interface LoggingStart {
  readonly pageSize: number;
  readonly ranges: readonly IovaRange[];
}

export function encodeLoggingStart({ pageSize, ranges }: LoggingStart): Uint8Array {
  const { bytes, view } = struct(loggingStartLayout.sizeof, new Uint8Array(ranges.length * loggingRangeLayout.sizeof));
  view.setBigUint64(loggingStartLayout.page_size, BigInt(pageSize), true);
  view.setUint32(loggingStartLayout.num_ranges, ranges.length, true);
  ranges.forEach(({ iova, size }, n) => {
    const at = loggingStartLayout.ranges + n * loggingRangeLayout.sizeof;
    view.setBigUint64(at + loggingRangeLayout.iova, iova, true);
    view.setBigUint64(at + loggingRangeLayout.length, BigInt(size), true);
  });
  return encodeFeature(VFIO_DEVICE_FEATURE_DMA_LOGGING_START, 'set', bytes);
}

/** The data of START, in a command. */
export function readLoggingStart(data: Uint8Array): LoggingStart {
  const view = payloadView(data, loggingStartLayout.sizeof, origin);
  const count = view.getUint32(loggingStartLayout.num_ranges, true);
  if (count > maxLoggedRanges) throw protocolError(origin, loggingStartLayout.num_ranges, `a log about ${count} ranges, at most ${maxLoggedRanges} are taken`);
  dataAfter(data, loggingStartLayout.sizeof, count * loggingRangeLayout.sizeof, origin);
  return {
    pageSize: readExact(view, loggingStartLayout.page_size, 'page_size', origin),
    ranges: Array.from({ length: count }, (_, n) => {
      const at = loggingStartLayout.ranges + n * loggingRangeLayout.sizeof;
      return { iova: view.getBigUint64(at + loggingRangeLayout.iova, true), size: readExact(view, at + loggingRangeLayout.length, 'length', origin) };
    }),
  };
}

/** The page size that the device has chosen, by the reply to START. */
export function readLoggedPage(payload: Uint8Array): number {
  return readExact(featurePayload(payload, VFIO_DEVICE_FEATURE_DMA_LOGGING_START, loggingStartLayout.sizeof, origin), loggingStartLayout.page_size, 'page_size', origin);
}

/** A part of a logged range. */
export type LoggingPart = IovaRange & { readonly pageSize: number };

function reportData({ iova, size, pageSize }: LoggingPart, bits?: Uint8Array): Uint8Array {
  const { bytes, view } = struct(loggingReportLayout.sizeof, bits);
  view.setBigUint64(loggingReportLayout.iova, iova, true);
  view.setBigUint64(loggingReportLayout.length, BigInt(size), true);
  view.setBigUint64(loggingReportLayout.page_size, BigInt(pageSize), true);
  return bytes;
}

/** REPORT: the command, and with `bits` its reply. `bitmapBytes`: room for them in the reply to the command. */
export function encodeLoggingReport(part: LoggingPart, bits: Uint8Array | undefined, bitmapBytes = 0): Uint8Array {
  const bytes = encodeFeature(VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, 'get', reportData(part, bits));
  new DataView(bytes.buffer).setUint32(deviceFeatureLayout.argsz, bytes.length + bitmapBytes, true);
  return bytes;
}

/** What a REPORT command asks for. */
export function readLoggingReport(data: Uint8Array): LoggingPart {
  const view = payloadView(data, loggingReportLayout.sizeof, origin);
  const part = {
    iova: view.getBigUint64(loggingReportLayout.iova, true),
    size: readExact(view, loggingReportLayout.length, 'length', origin),
    pageSize: readExact(view, loggingReportLayout.page_size, 'page_size', origin),
  };
  // So that no page size of 0 passes.
  if (!(part.size / part.pageSize / 8 <= maxDataBytes)) throw protocolError(origin, loggingReportLayout.length, `a bitmap of ${part.size} bytes in pages of ${part.pageSize}: at most ${maxDataBytes} bytes of it are sent with one message`);
  return part;
}

/** The bits of a reply to REPORT. */
export function readLoggedBits(payload: Uint8Array, bitmapBytes: number): Uint8Array {
  const view = featurePayload(payload, VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, loggingReportLayout.sizeof + bitmapBytes, origin);
  return new Uint8Array(view.buffer, view.byteOffset + loggingReportLayout.bitmap, bitmapBytes).slice();
}

const dataOrigin = { operation: 'vfio-user MIG_DATA' };

/** A MIG_DATA_READ command (no data), its reply, and a MIG_DATA_WRITE command. */
export function encodeMigData(size: number, data?: Uint8Array): Uint8Array {
  const { bytes, view } = struct(migDataLayout.sizeof, data);
  view.setUint32(migDataLayout.argsz, migDataLayout.sizeof + size, true);
  view.setUint32(migDataLayout.size, size, true);
  return bytes;
}

/** How much a MIG_DATA_READ command asks for. */
export function readMigDataSize(payload: Uint8Array): number {
  const size = payloadView(payload, migDataLayout.sizeof, dataOrigin).getUint32(migDataLayout.size, true);
  if (size > maxDataBytes) throw protocolError(dataOrigin, migDataLayout.size, `size ${size}, at most ${maxDataBytes}`);
  return size;
}

/**
 * What a reply to MIG_DATA_READ, or a MIG_DATA_WRITE command, carries, which may stand in memory of its own. A peer may send more bytes than `size` says:
 * `size` counts.
 */
export function readMigData(payload: Uint8Array, data = payload.subarray(migDataLayout.sizeof)): Uint8Array {
  const size = readMigDataSize(payload);
  if (size > data.length) throw protocolError(dataOrigin, migDataLayout.size, `size ${size}, there are ${data.length} bytes`);
  return data.subarray(0, size);
}
