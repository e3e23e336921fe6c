import { protocolError, viewOf } from './bytes.js';
import {
  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
  VFIO_DEVICE_FEATURE_MIGRATION,
  VFIO_MIGRATION_P2P,
  VFIO_MIGRATION_PRE_COPY,
  VFIO_MIGRATION_STOP_COPY,
} from './constants.js';
import { deviceFeatureLayout, encodeFeature, featurePayload } from './device-feature.js';
import { stateName, stateNumber, type State } from './migration-state.js';

/** struct vfio_device_feature_migration. */
export const featureMigrationLayout = { flags: 0, sizeof: 8 } as const;

/** struct vfio_device_feature_mig_state. */
export const migStateLayout = { device_state: 0, data_fd: 4, sizeof: 8 } as const;

/** Which states the device can take; see `protocol` for the arcs that follow. */
export interface MigrationFlags {
  /** STOP_COPY and RESUMING. Mandatory in the kernel; a peer without it cannot migrate. */
  readonly stopCopy: boolean;
  /** RUNNING_P2P, and PRE_COPY_P2P where there is PRE_COPY too. */
  readonly p2p: boolean;
  readonly preCopy: boolean;
  /** The u64 as it came, with bits that this library does not know. */
  readonly flags: bigint;
}

/** struct vfio_device_feature_mig_state, read. */
export interface MigState {
  readonly state: State;
  /** A new data_fd, which the reader now owns; undefined where the arc made none (-1). */
  readonly dataFd: number | undefined;
}

const migrationOperation = 'VFIO_DEVICE_FEATURE_MIGRATION';
const stateOperation = 'VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE';

/** The argument that GETs the migration flags. */
export function encodeMigrationQuery(): Uint8Array {
  return encodeFeature(VFIO_DEVICE_FEATURE_MIGRATION, 'get', new Uint8Array(featureMigrationLayout.sizeof));
}

/** Reads the answer to it. Throws VFIO_E_PROTOCOL where it is cut off or another feature's. */
export function readMigrationFlags(bytes: Uint8Array, device?: string): MigrationFlags {
  const origin = { operation: migrationOperation, device };
  const view = featurePayload(bytes, VFIO_DEVICE_FEATURE_MIGRATION, featureMigrationLayout.sizeof, origin);
  const flags = view.getBigUint64(featureMigrationLayout.flags, true);
  const has = (bit: number): boolean => (flags & BigInt(bit)) !== 0n;
  return { stopCopy: has(VFIO_MIGRATION_STOP_COPY), p2p: has(VFIO_MIGRATION_P2P), preCopy: has(VFIO_MIGRATION_PRE_COPY), flags };
}

/** The argument that GETs device_state. */
export function encodeStateQuery(): Uint8Array {
  return encodeFeature(VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, 'get', migStatePayload(0));
}

/** The argument that SETs device_state. The call blocks until the device is there; the answer stands in the same bytes. */
export function encodeStateSet(state: State): Uint8Array {
  return encodeFeature(VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, 'set', migStatePayload(stateNumber(state)));
}

/** data_fd goes down as -1, so that an answer of a driver that leaves it alone is not taken for file descriptor 0. */
function migStatePayload(state: number): Uint8Array {
  const payload = new Uint8Array(migStateLayout.sizeof);
  viewOf(payload).setUint32(migStateLayout.device_state, state, true);
  viewOf(payload).setInt32(migStateLayout.data_fd, -1, true);
  return payload;
}

/**
 * Reads the answer to a GET or SET of device_state. Throws VFIO_E_PROTOCOL where it is cut off, another feature's, names
 * no known state, or carries a negative data_fd other than -1. Whoever catches that closes what `readDataFd` finds.
 */
export function readMigState(bytes: Uint8Array, device?: string): MigState {
  const origin = { operation: stateOperation, device };
  const view = featurePayload(bytes, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, migStateLayout.sizeof, origin);
  const number = view.getUint32(migStateLayout.device_state, true);
  const state = stateName(number, origin, deviceFeatureLayout.data + migStateLayout.device_state);
  const dataFd = view.getInt32(migStateLayout.data_fd, true);
  if (dataFd < -1) throw protocolError(origin, deviceFeatureLayout.data + migStateLayout.data_fd, `data_fd is ${dataFd}`);
  return { state, dataFd: dataFd === -1 ? undefined : dataFd };
}

/** The file descriptor that an answer brought, whatever else is wrong with it; never throws. */
export function readDataFd(bytes: Uint8Array): number | undefined {
  const at = deviceFeatureLayout.data + migStateLayout.data_fd;
  if (bytes.length < at + 4) return undefined;
  const dataFd = viewOf(bytes).getInt32(at, true);
  return dataFd < 0 ? undefined : dataFd;
}
