import { catchError, concatMap, from, map, of, toArray, type Observable } from 'rxjs';
import { VfioError } from '../../errors.js';
import { disregard } from '../call.js';
import { runAll } from '../kernel/run-all.js';
import { fileHolds } from '../linux/file-bounds.js';
import { mapRegion, type MappedMemory } from '../linux/mapped-memory.js';
import type { Syscalls } from '../linux/syscalls.js';
import type { DevicePort, DmaMemory, IovaRange, RemoteMemory } from '../port.js';
import { encodeDmaUnmap, readDmaMap, readDmaUnmap } from './messages/dma.js';

interface Entry extends IovaRange {
  /** undefined where the client handed over no file: its memory is reached by messages. */
  readonly mapped?: MappedMemory;
  readonly memory?: DmaMemory;
}

/**
 * The most of one client. A range with a file is a mapping of this process, which has no more than vm.max_map_count (65,530) for all that it does; and a file may be mapped
 * often, and be far longer than any memory: of addresses a process has 128 TiB, and ends where it finds none for itself.
 */
const mostRanges = { all: 65_535, mapped: 32_768, mappedBytes: 8 * 2 ** 40 };

const operation = 'DMA_MAP';

/** A client's memory for the DMA of a port: what came with a file is mapped here, and given to the port; what came without is `remote`, if the port takes that. */
export class ServedDma {
  readonly #port: DevicePort;
  readonly #calls: Syscalls;
  readonly #remote: RemoteMemory;
  readonly #most: typeof mostRanges;
  readonly #entries = new Map<bigint, Entry>();
  /** From before the port is asked: it may have taken what it has not answered for when the client goes. */
  readonly #mapped = new Set<MappedMemory>();
  #mappedBytes = 0;

  constructor(port: DevicePort, calls: Syscalls, remote: RemoteMemory, most = mostRanges) {
    this.#most = most;
    this.#port = port;
    this.#calls = calls;
    this.#remote = remote;
  }

  map(payload: Uint8Array, fds: readonly number[]): Observable<unknown> {
    const request = readDmaMap(payload);
    const { iova, size, offset, read, write } = request;
    const [fd] = fds;
    if (this.#entries.size >= this.#most.all || (fd !== undefined && this.#mapped.size >= this.#most.mapped)) throw this.#error('VFIO_E_LIMIT', `${this.#entries.size} ranges are mapped already`);
    if (fd === undefined && this.#port.dmaMapRemote !== undefined) {
      return this.#port.dmaMapRemote({ iova, size, read, write, memory: this.#remote }).pipe(map(() => this.#entries.set(iova, { iova, size })));
    }
    if (fd === undefined || this.#port.importDma === undefined) throw this.#error('VFIO_E_UNSUPPORTED', 'this device takes memory by its file only, or none at all');
    if (this.#mappedBytes + size > this.#most.mappedBytes) throw this.#error('VFIO_E_LIMIT', `${this.#mappedBytes} bytes are mapped already, ${size} more are too many`);
    if (!fileHolds(fd, offset, size)) throw this.#error('VFIO_E_RANGE', `the file ends before ${size} bytes at ${offset}`);
    const mapped = mapRegion(fd, BigInt(offset), size, { read: true, write }, this.#calls, this.#port.name);
    this.#mapped.add(mapped);
    this.#mappedBytes += mapped.size;
    return this.#port.importDma(mapped.memory).pipe(
      concatMap((memory) => {
        return this.#port.dmaMap({ iova, size, read, write, source: memory }).pipe(
          map(() => this.#entries.set(iova, { iova, size, mapped, memory })),
          catchError((error: unknown) => {
            disregard(memory.free());
            throw error;
          }),
        );
      }),
      catchError((error: unknown) => {
        this.#giveBackIfPossible(mapped);
        throw error;
      }),
    );
  }

  unmap(payload: Uint8Array): Observable<Uint8Array> {
    const { iova, size, all } = readDmaUnmap(payload);
    const entry = this.#entries.get(iova);
    if (!all && entry?.size !== size) throw new VfioError('VFIO_E_RANGE', 'no such range is mapped', { operation: 'DMA_UNMAP', device: this.#port.name, errno: 'ENOENT' });
    const going = all ? [...this.#entries.values()] : entry === undefined ? [] : [entry];
    return from(going).pipe(concatMap((one) => this.#takeOut(one)), toArray(), map(() => encodeDmaUnmap({ iova, size })));
  }

  get ranges(): readonly IovaRange[] {
    return [...this.#entries.values()].map(({ iova, size }) => ({ iova, size }));
  }

  /** When the port has let go of it. One that cannot be unmapped keeps its addresses. */
  release(): void {
    runAll([...this.#mapped].map((mapped) => () => this.#giveBack(mapped)));
    this.#entries.clear();
  }

  #takeOut(entry: Entry): Observable<unknown> {
    return this.#port.dmaUnmap(entry).pipe(
      concatMap(() => entry.memory?.free() ?? of(undefined)),
      map(() => {
        this.#entries.delete(entry.iova);
        if (entry.mapped !== undefined) this.#giveBackIfPossible(entry.mapped);
      }),
    );
  }

  /** Unmapped for the port it is; what fails here (munmap: no memory) is tried again when the client has gone. */
  #giveBackIfPossible(mapped: MappedMemory): void {
    runAll([() => this.#giveBack(mapped)]);
  }

  /** No view is left: the port has none, and nobody else ever had. */
  #giveBack(mapped: MappedMemory): void {
    mapped.close();
    this.#mapped.delete(mapped);
    this.#mappedBytes -= mapped.size;
  }

  #error(code: 'VFIO_E_UNSUPPORTED' | 'VFIO_E_LIMIT' | 'VFIO_E_RANGE', message: string): VfioError {
    return new VfioError(code, message, { operation, device: this.#port.name });
  }
}
