import type { Chunk } from '../port.js';
import type { Errno } from './errno.js';
import type { RegionMemory } from './region-memory.js';

/**
 * What flows through a data_fd: a header (magic, version, number of regions), then for each region its index, its size and
 * its bytes. The header is all that PRE_COPY has to say; the contents follow in STOP_COPY, when the device is stopped.
 */

const magic = 0x4554_4154_5358_5256n; // 'VRXSTATE'
const version = 1;
const headerBytes = 16;
const recordBytes = 16;

type Regions = ReadonlyMap<number, RegionMemory>;

/** A session of saving: one data_fd for as long as the device stays in the saving group. */
export class SaveSession {
  readonly direction = 'save';
  readonly #regions: Regions;
  #pending: Uint8Array[];
  #stopped = false;
  #over = false;

  constructor(regions: Regions) {
    this.#regions = regions;
    const header = new Uint8Array(headerBytes);
    const view = new DataView(header.buffer);
    view.setBigUint64(0, magic, true);
    view.setUint32(8, version, true);
    view.setUint32(12, regions.size, true);
    this.#pending = [header];
  }

  /** The device reached STOP_COPY, which a session does once: its contents can be read, and after them the stream ends. */
  stop(): void {
    this.#stopped = true;
    for (const [index, memory] of this.#regions) {
      const record = new Uint8Array(recordBytes);
      new DataView(record.buffer).setUint32(0, index, true);
      new DataView(record.buffer).setBigUint64(8, BigInt(memory.size), true);
      this.#pending.push(record, memory.read(0, memory.size));
    }
  }

  get pendingBytes(): number {
    return this.#pending.reduce((sum, { length }) => sum + length, 0);
  }

  /** The device left the saving group. */
  end(): void {
    this.#over = true;
    this.#pending = [];
  }

  read(maxBytes: number): Chunk | Errno {
    if (this.#over) return 'ENODEV';
    const [first, ...rest] = this.#pending;
    if (first === undefined) return this.#stopped ? { kind: 'end' } : { kind: 'quiet' };
    this.#pending = first.length > maxBytes ? [first.subarray(maxBytes), ...rest] : rest;
    return { kind: 'bytes', bytes: first.slice(0, maxBytes) };
  }
}

/** A session of resuming: collects what comes, and loads it when the device leaves RESUMING. */
export class ResumeSession {
  readonly direction = 'resume';
  readonly #regions: Regions;
  readonly #bytes: Uint8Array;
  #length = 0;
  #over = false;

  constructor(regions: Regions) {
    this.#regions = regions;
    let expected = headerBytes;
    for (const memory of regions.values()) expected += recordBytes + memory.size;
    this.#bytes = new Uint8Array(expected);
  }

  write(bytes: Uint8Array): Errno | undefined {
    if (this.#over) return 'ENODEV';
    if (this.#length + bytes.length > this.#bytes.length) return 'EINVAL';
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
    return undefined;
  }

  end(): void {
    this.#over = true;
  }

  /** All or nothing. A stream in which nothing was written loads nothing: the user thought better of it. */
  load(): Errno | undefined {
    if (this.#length === 0) return undefined;
    if (this.#length !== this.#bytes.length) return 'EINVAL';
    const view = new DataView(this.#bytes.buffer);
    if (view.getBigUint64(0, true) !== magic || view.getUint32(8, true) !== version || view.getUint32(12, true) !== this.#regions.size) return 'EINVAL';
    const loads: (() => void)[] = [];
    let at = headerBytes;
    for (const [index, memory] of this.#regions) {
      if (view.getUint32(at, true) !== index || view.getBigUint64(at + 8, true) !== BigInt(memory.size)) return 'EINVAL';
      const contents = this.#bytes.subarray(at + recordBytes, at + recordBytes + memory.size);
      loads.push(() => { memory.write(0, contents); });
      at += recordBytes + memory.size;
    }
    for (const load of loads) load();
    return undefined;
  }
}

export type Session = SaveSession | ResumeSession;
