import { protocolError, viewOf, type Origin } from './bytes.js';
import { VFIO_DEVICE_STATE_V1_RESUMING, VFIO_DEVICE_STATE_V1_RUNNING, VFIO_DEVICE_STATE_V1_SAVING } from './constants.js';
import type { State } from './migration-state.js';

/**
 * The retired v1 interface: a region of the type VFIO_REGION_TYPE_MIGRATION_DEPRECATED that begins with this struct, and
 * carries data behind it. Every field is read and written by trapped access of its own width.
 */

/** struct vfio_device_migration_info. */
export const migrationInfoLayout = { device_state: 0, reserved: 4, pending_bytes: 8, data_offset: 16, data_size: 24, sizeof: 32 } as const;

/** The bits of device_state, for each state that they can name. Both of _SAVING and _RESUMING are the error. */
const bitsOf = {
  stop: 0,
  running: VFIO_DEVICE_STATE_V1_RUNNING,
  'stop-copy': VFIO_DEVICE_STATE_V1_SAVING,
  'pre-copy': VFIO_DEVICE_STATE_V1_SAVING | VFIO_DEVICE_STATE_V1_RUNNING,
  resuming: VFIO_DEVICE_STATE_V1_RESUMING,
  error: VFIO_DEVICE_STATE_V1_SAVING | VFIO_DEVICE_STATE_V1_RESUMING,
} as const satisfies Partial<Record<State, number>>;

/** A state that v1 can name. */
export type V1State = keyof typeof bitsOf;

/** Bits beyond these are reserved; whoever writes device_state writes them back as they were. */
const stateMask = VFIO_DEVICE_STATE_V1_RUNNING | VFIO_DEVICE_STATE_V1_SAVING | VFIO_DEVICE_STATE_V1_RESUMING;

export function isV1State(state: State): state is V1State {
  return state in bitsOf;
}

/** The state that a device_state names. Throws VFIO_E_PROTOCOL at _RESUMING | _RUNNING, with or without _SAVING: it names none. */
export function stateOfBits(deviceState: number, origin: Origin): V1State {
  const bits = deviceState & stateMask;
  const found = (Object.keys(bitsOf) as V1State[]).find((state) => bitsOf[state] === bits);
  if (found === undefined) throw protocolError(origin, migrationInfoLayout.device_state, `device_state is 0x${bits.toString(16)}: running and resuming at once`);
  return found;
}

/** What to write for a state, where `before` was read: reserved bits stay. */
export function bitsOfState(state: V1State, before = 0): number {
  return ((before & ~stateMask) | bitsOf[state]) >>> 0;
}

/** The session whose data moves while a device is in the state, if any. */
export function sessionOf(state: State): 'save' | 'resume' | undefined {
  if (state === 'pre-copy' || state === 'stop-copy') return 'save';
  return state === 'resuming' ? 'resume' : undefined;
}

/** Reads the 4 bytes of device_state. */
export function readDeviceState(bytes: Uint8Array): number {
  return viewOf(bytes).getUint32(0, true);
}

/** The 4 bytes of device_state. */
export function encodeDeviceState(bits: number): Uint8Array {
  const bytes = new Uint8Array(4);
  viewOf(bytes).setUint32(0, bits, true);
  return bytes;
}

/** Reads one of the u64 fields. */
export function readInfoField(bytes: Uint8Array): bigint {
  return viewOf(bytes).getBigUint64(0, true);
}

/** The 8 bytes of a u64 field. */
export function encodeInfoField(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  viewOf(bytes).setBigUint64(0, BigInt(value), true);
  return bytes;
}

/**
 * Where data lies in the region, as numbers that were checked: behind the struct, and inside the region's `regionSize` bytes.
 * Throws VFIO_E_PROTOCOL where not. `size` 0 asks about the offset alone, which must leave room for a byte.
 */
export function dataPlace(offset: bigint, size: bigint, regionSize: number, origin: Origin): { readonly offset: number; readonly size: number } {
  const end = BigInt(regionSize);
  if (offset < BigInt(migrationInfoLayout.sizeof) || offset >= end) {
    throw protocolError(origin, migrationInfoLayout.data_offset, `data_offset 0x${offset.toString(16)} lies outside the data section, ${migrationInfoLayout.sizeof} to ${regionSize}`);
  }
  if (size > end - offset) {
    throw protocolError(origin, migrationInfoLayout.data_size, `data_size 0x${size.toString(16)} at 0x${offset.toString(16)} passes the region's end, ${regionSize}`);
  }
  return { offset: Number(offset), size: Number(size) };
}
