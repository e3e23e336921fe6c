import { viewOf } from '../uapi/bytes.js';
import type { PrecopyInfo } from '../uapi/precopy-info.js';
import type { Chunk } from '../port.js';
import type { Errno } from './errno.js';
import type { RegionMemory } from './region-memory.js';

/**
 * What flows through a data_fd: a header (magic, version, number of regions), then for each region its index, its size and
 * its bytes. The header is what PRE_COPY has to say by itself; the contents follow in STOP_COPY, when the device is stopped.
 * A script adds records of filling in between (index 2^32 - 1), which mean nothing to who loads them.
 */

const magic = 0x4554_4154_5358_5256n; // 'VRXSTATE'
const version = 1;
const headerBytes = 16;
/** Also the least that a record of filling takes. */
export const recordBytes = 16;
const fillingIndex = 0xffff_ffff;

type Regions = ReadonlyMap<number, RegionMemory>;

/** A part of the stream that has not been read yet. */
interface Piece {
  initial: boolean;
  bytes: Uint8Array;
  /** So many zeros follow `bytes`. */
  zeros: number;
}

/** A session of saving: one data_fd for as long as the device stays in the saving group. */
export class SaveSession {
  readonly direction = 'save';
  private readonly regions: Regions;
  private pending: Piece[] = [];
  private begunAnew = false;
  private stopped = false;
  private over = false;

  constructor(regions: Regions) {
    this.regions = regions;
    const header = new Uint8Array(headerBytes);
    const view = viewOf(header);
    view.setBigUint64(0, magic, true);
    view.setUint32(8, version, true);
    view.setUint32(12, regions.size, true);
    this.add(header, true);
  }

  /** The device has so many bytes more to say, 16 at least. */
  fill(bytes: number, initial: boolean): void {
    this.add(recordOf(fillingIndex, bytes - recordBytes), initial, bytes - recordBytes);
  }

  /** What it has to say begins anew with so many initial bytes; what was dirty is among them. */
  reinit(bytes: number): void {
    for (const piece of this.pending) piece.initial = true;
    this.begunAnew = true;
    this.fill(bytes, true);
  }

  /** The device reached STOP_COPY, which a session does once: its contents can be read, and after them the stream ends. */
  stop(): void {
    this.stopped = true;
    for (const [index, memory] of this.regions) {
      this.add(recordOf(index, memory.size), false);
      this.add(memory.read(0, memory.size), false);
    }
  }

  get pendingBytes(): number {
    return this.sum(() => true);
  }

  /** VFIO_MIG_GET_PRECOPY_INFO. That there is new initial data is said once. */
  precopy(): PrecopyInfo | Errno {
    if (this.over) return 'ENODEV';
    if (this.stopped) return 'EINVAL';
    const reinit = this.begunAnew;
    this.begunAnew = false;
    return { initialBytes: BigInt(this.sum(({ initial }) => initial)), dirtyBytes: BigInt(this.sum(({ initial }) => !initial)), reinit };
  }

  /** The device left the saving group. */
  end(): void {
    this.over = true;
    this.pending = [];
  }

  read(maxBytes: number, into?: Uint8Array): Chunk | Errno {
    if (this.over) return 'ENODEV';
    const [piece] = this.pending;
    if (piece === undefined) return this.stopped ? { kind: 'end' } : { kind: 'quiet' };
    const bytes = memoryOf(Math.min(piece.bytes.length > 0 ? piece.bytes.length : piece.zeros, maxBytes), into);
    if (piece.bytes.length > 0) {
      bytes.set(piece.bytes.subarray(0, bytes.length));
      piece.bytes = piece.bytes.subarray(bytes.length);
    } else {
      bytes.fill(0);
      piece.zeros -= bytes.length;
    }
    if (piece.bytes.length + piece.zeros === 0) this.pending.shift();
    return { kind: 'bytes', bytes };
  }

  private add(bytes: Uint8Array, initial: boolean, zeros = 0): void {
    this.pending.push({ bytes, initial, zeros });
  }

  private sum(which: (piece: Piece) => boolean): number {
    return this.pending.filter(which).reduce((sum, { bytes, zeros }) => sum + bytes.length + zeros, 0);
  }
}

function memoryOf(size: number, into: Uint8Array | undefined): Uint8Array {
  if (into === undefined || into.length < size) return new Uint8Array(size);
  return into.length === size ? into : into.subarray(0, size);
}

function recordOf(index: number, size: number): Uint8Array {
  const record = new Uint8Array(recordBytes);
  viewOf(record).setUint32(0, index, true);
  viewOf(record).setBigUint64(8, BigInt(size), true);
  return record;
}

/** A session of resuming: collects what comes, filling aside, and loads it when the device leaves RESUMING. */
export class ResumeSession {
  readonly direction = 'resume';
  private readonly regions: Regions;
  private readonly bytes: Uint8Array;
  private length = 0;
  /** How much of `bytes` is known to be what; behind it begins a record. */
  private parsed = headerBytes;
  /** What is left of a record of filling. */
  private filling = 0;
  private over = false;

  constructor(regions: Regions) {
    this.regions = regions;
    let expected = headerBytes;
    for (const memory of regions.values()) expected += recordBytes + memory.size;
    // A record of filling stands behind the last region for as long as it is not known to be one.
    this.bytes = new Uint8Array(expected + recordBytes);
  }

  write(bytes: Uint8Array): Errno | undefined {
    if (this.over) return 'ENODEV';
    for (let at = 0; at < bytes.length; ) {
      const rest = bytes.length - at;
      const skip = Math.min(rest, this.filling);
      this.filling -= skip;
      at += skip;
      if (skip === rest) return undefined;
      // As far as the next record's header: it may turn out to be filling.
      const take = Math.min(bytes.length - at, this.parsed + recordBytes - this.length);
      if (this.length + take > this.bytes.length) return 'EINVAL';
      this.bytes.set(bytes.subarray(at, at + take), this.length);
      this.length += take;
      at += take;
      if (this.length === this.parsed + recordBytes) this.record();
    }
    return undefined;
  }

  end(): void {
    this.over = true;
  }

  /** All or nothing. A stream in which nothing was written loads nothing: the user thought better of it. */
  load(): Errno | undefined {
    if (this.length === 0) return undefined;
    if (this.length !== this.bytes.length - recordBytes || this.filling > 0) return 'EINVAL';
    const view = viewOf(this.bytes);
    if (view.getBigUint64(0, true) !== magic || view.getUint32(8, true) !== version || view.getUint32(12, true) !== this.regions.size) return 'EINVAL';
    const loads: (() => void)[] = [];
    let at = headerBytes;
    for (const [index, memory] of this.regions) {
      if (view.getUint32(at, true) !== index || view.getBigUint64(at + 8, true) !== BigInt(memory.size)) return 'EINVAL';
      const contents = this.bytes.subarray(at + recordBytes, at + recordBytes + memory.size);
      loads.push(() => { memory.write(0, contents); });
      at += recordBytes + memory.size;
    }
    for (const load of loads) load();
    return undefined;
  }

  /** The record that `parsed` stands at is there: filling is taken out again, anything else is skipped by its own word. */
  private record(): void {
    const view = viewOf(this.bytes);
    const size = view.getBigUint64(this.parsed + 8, true);
    const index = view.getUint32(this.parsed, true);
    // Hostile sizes end beyond everything that there is room for.
    const known = Number(size > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : size);
    if (index === fillingIndex) {
      this.filling = known;
      this.length = this.parsed;
    } else {
      this.parsed += recordBytes + known;
    }
  }
}

export type Session = SaveSession | ResumeSession;
