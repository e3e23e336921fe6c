import type { Area, State } from '../port.js';
import { bitsOfState, encodeDeviceState, encodeInfoField, isV1State, migrationInfoLayout, readDeviceState, readInfoField, stateOfBits } from '../uapi/migration-info.js';
import type { Errno } from './errno.js';
import type { Faults } from './faults.js';
import type { RegionMemory } from './region-memory.js';
import type { Outcome } from './state-machine.js';
import { SaveSession, type Session } from './state-stream.js';

/** The page that holds the struct; the data section follows. */
const headerBytes = 0x1000;
const halfBytes = 0x8000;

/**
 * The data section has two halves, which the driver uses in turn: the first can be mapped, the second is trapped only, so that
 * a user meets both.
 */
const halves = [headerBytes, headerBytes + halfBytes] as const;

/** The migration region: its size, and what of it can be mapped, bytes. */
export const v1RegionShape: { readonly size: number; readonly areas: readonly Area[] } = {
  size: headerBytes + 2 * halfBytes,
  areas: [{ offset: headerBytes, size: halfBytes }],
};

/** What the region needs of its driver. */
export interface V1Surroundings {
  readonly memory: RegionMemory;
  readonly machine: {
    readonly state: State;
    readonly session: Session | undefined;
    set(to: State, done: (outcome: Outcome) => void): void;
  };
  readonly faults: Faults;
}

/**
 * The migration region of v1 from the driver's side: fields that act when they are read or written, over the same sessions
 * that the data_fds of v2 have.
 */
export class V1Registers {
  readonly #around: V1Surroundings;
  /** The session that `#half` and `#staged` belong to. */
  #session: Session | undefined;
  #half = 0;
  /** The chunk that lies in the data section: from a read of data_offset to the read of pending_bytes that follows. */
  #staged: Area | undefined;

  constructor(around: V1Surroundings) {
    this.#around = around;
  }

  /** pread. A field is read whole or not at all. */
  read(offset: number, bytes: number): Uint8Array | Errno {
    if (offset >= headerBytes) return this.#around.memory.read(offset, bytes);
    const answer = this.#field(offset, bytes);
    if (typeof answer !== 'string') this.#around.faults.spoil('migration', offset, answer);
    return answer;
  }

  /** pwrite of anything but device_state. */
  write(offset: number, bytes: Uint8Array): Errno | undefined {
    if (offset >= headerBytes) {
      this.#around.memory.write(offset, bytes);
      return undefined;
    }
    if (offset !== migrationInfoLayout.data_size || bytes.length !== 8) return 'EINVAL';
    return this.#take(readInfoField(bytes));
  }

  /** pwrite of device_state: returns when the driver has gone there, or not. */
  writeState(bytes: Uint8Array, done: (outcome: Outcome) => void): void {
    let to: State;
    try {
      to = stateOfBits(readDeviceState(bytes), { operation: 'device_state' });
    } catch {
      done({ errno: 'EINVAL' });
      return;
    }
    this.#around.machine.set(to, done);
  }

  #field(offset: number, bytes: number): Uint8Array | Errno {
    const { state } = this.#around.machine;
    if (bytes === 4) {
      if (offset === migrationInfoLayout.device_state) return encodeDeviceState(isV1State(state) ? bitsOfState(state) : 0);
      return offset === migrationInfoLayout.reserved ? new Uint8Array(4) : 'EINVAL';
    }
    if (bytes !== 8) return 'EINVAL';
    this.#follow();
    switch (offset) {
      case migrationInfoLayout.pending_bytes: {
        // What was staged before is consumed by this.
        this.#staged = undefined;
        return encodeInfoField(this.#session instanceof SaveSession ? this.#session.pendingBytes : 0);
      }
      case migrationInfoLayout.data_offset: return encodeInfoField(this.#stage());
      case migrationInfoLayout.data_size: return encodeInfoField(this.#staged?.size ?? 0);
      default: return 'EINVAL';
    }
  }

  /** A new session begins with an empty data section. */
  #follow(): void {
    const { session } = this.#around.machine;
    if (session === this.#session) return;
    this.#session = session;
    this.#staged = undefined;
  }

  /** Puts the next chunk into the data section, if there is one and none lies there. Where it lies, or where one may be put. */
  #stage(): number {
    const session = this.#session;
    const offset = halves[this.#half % 2] ?? headerBytes;
    if (!(session instanceof SaveSession)) return offset;
    if (this.#staged !== undefined) return this.#staged.offset;
    const chunk = session.read(halfBytes);
    if (typeof chunk === 'string' || chunk.kind !== 'bytes') return offset;
    this.#around.memory.write(offset, chunk.bytes);
    this.#staged = { offset, size: chunk.bytes.length };
    this.#half += 1;
    return offset;
  }

  /** The user has put so many bytes where data_offset said. */
  #take(size: bigint): Errno | undefined {
    this.#follow();
    const session = this.#session;
    if (session === undefined || session instanceof SaveSession) return 'EINVAL';
    const offset = halves[this.#half % 2] ?? headerBytes;
    // A user may fill the data section to its end.
    if (size > BigInt(v1RegionShape.size - offset)) return 'EINVAL';
    const errno = session.write(this.#around.memory.read(offset, Number(size)));
    if (errno === undefined) this.#half += 1;
    return errno;
  }
}
