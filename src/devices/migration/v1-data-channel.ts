import { concatMap, defer, map, of, tap } from 'rxjs';
import { errnoError, VfioError } from '../../errors.js';
import { nowCall, ownedCall } from '../call.js';
import type { Area, Call, Chunk, DataChannel, PrecopyInfo, RegionInfo } from '../port.js';
import { protocolError, type Origin } from '../uapi/bytes.js';
import { dataPlace, encodeInfoField, migrationInfoLayout, readInfoField } from '../uapi/migration-info.js';
import { notPreCopying, precopyOperation } from '../uapi/precopy-info.js';

/** What one access may move, bytes: a driver may announce more, and gets it in pieces. */
const mostBytes = 16 * 1024 * 1024;

const fieldBytes = 8;

type Field = 'pending_bytes' | 'data_offset' | 'data_size';

/** A trapped access to the migration region: exactly one of `write` and `readBytes`. */
export interface InfoAccess {
  readonly offset: number;
  readonly write?: Uint8Array;
  readonly readBytes?: number;
}

/** A mapped part of the data section. */
export interface MappedData {
  /** Byte 0 is the first of the area. */
  readonly bytes: Uint8Array;
  readonly release: () => void;
}

/** What the v1 interface needs of the port whose region it is. */
export interface V1Parts {
  readonly device: string;
  readonly region: RegionInfo;
  /** A write on `state` may block for as long as the driver waits for an ack; `data` never queues behind it. */
  readonly access: (lane: 'state' | 'data', access: InfoAccess, operation: string) => Call<Uint8Array>;
  /** Maps an area of the region; undefined where that cannot be done now, and the data is moved by trapped access. */
  readonly mapArea: (area: Area) => MappedData | undefined;
  /** Throws VFIO_E_CLOSED once the port is closed. */
  readonly requireOpen: (operation: string) => void;
}

/** What a session needs beside its region. */
export interface V1ChannelParts extends V1Parts {
  readonly direction: 'save' | 'resume';
  /** True where no pending bytes are the end for good: in STOP_COPY. */
  readonly final: () => boolean;
}

/**
 * A session over the data section of v1's region, with the face of a data_fd. It is over when the device leaves the saving
 * states, or RESUMING: calls then fail with VFIO_E_NO_DEVICE (ENODEV).
 *
 * Saving, each chunk is announced by `pending_bytes`, made by a read of `data_offset`, as long as `data_size` says, and
 * consumed for the driver by the next read of `pending_bytes`. Resuming, `data_offset` says where to put a chunk, and the write
 * of `data_size` hands it over. Whatever the driver says is checked against the region before anything is allocated or moved.
 * Source: struct vfio_device_migration_info in <linux/vfio.h> before 5.18.
 *
 * A driver may want its chunks back in the sizes in which it gave them: ask for no less than it stages (`maxBytes` of 16 MiB is
 * never less), and write what each read brought.
 */
export class V1DataChannel implements DataChannel {
  readonly direction: 'save' | 'resume';
  readonly #parts: V1ChannelParts;
  /** What is left of the chunk that the driver made last. */
  #staged: Area | undefined;
  /** `pending_bytes` has announced a chunk that is not staged yet: to read it again would tell the driver that the chunk was taken. */
  #announced = false;
  /** What `pending_bytes` said last, less what was taken since. */
  #pending = 0n;
  readonly #views = new Map<Area, MappedData | undefined>();
  #busy = false;
  #closed = false;
  #ended = false;

  constructor(parts: V1ChannelParts) {
    this.direction = parts.direction;
    this.#parts = parts;
  }

  /** At most 16 MiB at once (VFIO_E_RANGE). */
  read(maxBytes: number): Call<Chunk> {
    const origin = this.#origin('read migration data');
    return defer(() => {
      this.#require('save', origin);
      if (!Number.isSafeInteger(maxBytes) || maxBytes <= 0 || maxBytes > mostBytes) {
        throw new VfioError('VFIO_E_RANGE', `between 1 and ${mostBytes} bytes a read, not ${maxBytes}`, origin);
      }
      return this.#alone(origin, () => this.#readNext(maxBytes, origin));
    });
  }

  /** All of `bytes`, in as many chunks as the driver's data section needs. */
  write(bytes: Uint8Array): Call<void> {
    const origin = this.#origin('write migration data');
    return defer(() => {
      this.#require('resume', origin);
      return bytes.length === 0 ? of(undefined) : this.#alone(origin, () => this.#writeAll(bytes, origin));
    });
  }

  /** `pending_bytes` are dirty bytes: v1 has no initial ones. While a chunk is on its way they are what was said last, less what was taken. */
  precopy(): Call<PrecopyInfo> {
    const origin = this.#origin(precopyOperation);
    return defer(() => {
      this.#requireOpen(origin);
      if (this.direction === 'resume' || this.#parts.final()) throw notPreCopying(origin);
      return this.#alone(origin, () =>
        (this.#staged === undefined ? this.#readPending(origin) : of(true)).pipe(map(() => ({ initialBytes: 0n, dirtyBytes: this.#pending, reinit: false }))),
      );
    });
  }

  close(): Call<void> {
    return nowCall(() => {
      this.#closed = true;
      this.#letGo();
    });
  }

  /** The device has left the states of this session. */
  end(): void {
    this.#ended = true;
    this.#letGo();
  }

  /** A step that failed is made again by the next read, and none is skipped. */
  #readNext(maxBytes: number, origin: Origin): Call<Chunk> {
    if (this.#staged !== undefined) return this.#take(this.#staged, maxBytes, origin);
    // Asked before, not after: a state that changes meanwhile must not turn "no more for now" into the end.
    const final = this.#parts.final();
    const nothing: Chunk = { kind: final ? 'end' : 'quiet' };
    return this.#readPending(origin).pipe(
      concatMap((pending) => (pending ? this.#readPlace(origin) : of(undefined))),
      concatMap((place) => {
        if (place === undefined) return of(nothing);
        this.#announced = false;
        if (place.size === 0) {
          if (!final) return of(nothing);
          throw protocolError(origin, migrationInfoLayout.data_size, 'bytes are pending, and the driver stages none of them');
        }
        this.#staged = place;
        return this.#take(place, maxBytes, origin);
      }),
    );
  }

  #readPending(origin: Origin): Call<boolean> {
    if (this.#announced) return of(true);
    return this.#readField('pending_bytes', origin).pipe(map((pending) => {
      this.#pending = pending;
      return (this.#announced = pending > 0n);
    }));
  }

  #readPlace(origin: Origin): Call<Area> {
    return this.#readField('data_offset', origin).pipe(
      concatMap((offset) => this.#readField('data_size', origin).pipe(map((size) => dataPlace(offset, size, this.#parts.region.size, origin)))),
    );
  }

  #take(staged: Area, maxBytes: number, origin: Origin): Call<Chunk> {
    const size = Math.min(staged.size, maxBytes);
    return this.#readData({ offset: staged.offset, size }, origin).pipe(
      map((bytes): Chunk => {
        this.#pending = this.#pending > BigInt(size) ? this.#pending - BigInt(size) : 0n;
        this.#staged = size === staged.size ? undefined : { offset: staged.offset + size, size: staged.size - size };
        return { kind: 'bytes', bytes };
      }),
    );
  }

  #writeAll(bytes: Uint8Array, origin: Origin): Call<void> {
    return this.#readField('data_offset', origin).pipe(
      concatMap((at) => {
        const { offset } = dataPlace(at, 0n, this.#parts.region.size, origin);
        const chunk = bytes.subarray(0, Math.min(this.#parts.region.size - offset, mostBytes));
        return this.#writeData(offset, chunk, origin).pipe(
          concatMap(() => this.#access({ offset: migrationInfoLayout.data_size, write: encodeInfoField(chunk.length) }, origin)),
          concatMap(() => (chunk.length === bytes.length ? of(undefined) : this.#writeAll(bytes.subarray(chunk.length), origin))),
        );
      }),
    );
  }

  #readField(field: Field, origin: Origin): Call<bigint> {
    return this.#access({ offset: migrationInfoLayout[field], readBytes: fieldBytes }, origin).pipe(map(readInfoField));
  }

  #readData(area: Area, origin: Origin): Call<Uint8Array> {
    const mapped = this.#mapped(area);
    return mapped === undefined ? this.#access({ offset: area.offset, readBytes: area.size }, origin) : of(mapped.slice());
  }

  #writeData(offset: number, bytes: Uint8Array, origin: Origin): Call<unknown> {
    const mapped = this.#mapped({ offset, size: bytes.length });
    if (mapped === undefined) return this.#access({ offset, write: bytes }, origin);
    mapped.set(bytes);
    return of(undefined);
  }

  /** The bytes themselves, where all of them lie in one area that can be mapped. Each area is tried once in a session. */
  #mapped({ offset, size }: Area): Uint8Array | undefined {
    const area = this.#parts.region.areas.find((candidate) => offset >= candidate.offset && offset + size <= candidate.offset + candidate.size);
    if (area === undefined) return undefined;
    if (!this.#views.has(area)) this.#views.set(area, this.#parts.mapArea(area));
    return this.#views.get(area)?.bytes.subarray(offset - area.offset, offset - area.offset + size);
  }

  /** Every step asks anew whether it may be made: the session, or the port, may have ended since the last one. */
  #access(access: InfoAccess, origin: Origin): Call<Uint8Array> {
    return defer(() => {
      this.#require(this.direction, origin);
      return this.#parts.access('data', access, origin.operation);
    });
  }

  #require(direction: 'save' | 'resume', origin: Origin): void {
    this.#requireOpen(origin);
    if (direction !== this.direction) throw new VfioError('VFIO_E_RANGE', `a session of direction ${this.direction} takes no ${direction === 'save' ? 'read' : 'write'}`, origin);
  }

  #requireOpen(origin: Origin): void {
    if (this.#closed) throw new VfioError('VFIO_E_CLOSED', 'this session is closed', origin);
    this.#parts.requireOpen(origin.operation);
    if (this.#ended) throw errnoError('ENODEV', origin.operation, origin.device);
  }

  #alone<T>(origin: Origin, call: () => Call<T>): Call<T> {
    if (this.#busy) throw new VfioError('VFIO_E_BUSY', 'one read or write of a session at a time', origin);
    this.#busy = true;
    // Before the answer is delivered: whoever gets it may make the next call at once.
    const idle = (): void => {
      this.#busy = false;
    };
    return ownedCall(() => defer(call).pipe(tap({ next: idle, error: idle })));
  }

  #letGo(): void {
    const views = [...this.#views.values()];
    this.#views.clear();
    for (const view of views) view?.release();
  }

  #origin(operation: string): Origin & { readonly operation: string } {
    return { operation, device: this.#parts.device };
  }
}
