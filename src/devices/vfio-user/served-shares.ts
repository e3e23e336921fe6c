import { catchError, concat, concatMap, defaultIfEmpty, defer, EMPTY, from, ignoreElements, map, of, tap, type Observable } from 'rxjs';
import { giveBackWhenUnseen } from '../kernel/dma.js';
import { runAll } from '../kernel/run-all.js';
import { mapRegion, type MappedMemory } from '../linux/mapped-memory.js';
import type { Syscalls } from '../linux/syscalls.js';
import type { Area, DevicePort, Mapping, RegionInfo } from '../port.js';
import { intersectAreas, subtractAreas } from '../protocol/areas.js';
import { VFIO_REGION_INFO_FLAG_MMAP } from '../uapi/constants.js';
import type { UserRegionInfo } from './messages/infos.js';

/** What a client is told of a region. The fd stays this side's. */
export interface SharedRegion {
  readonly info: UserRegionInfo;
  readonly fd?: number;
}

/** A part of a region whose bytes are in the file. */
interface Piece {
  readonly mapping: Mapping;
  readonly memory: MappedMemory;
  live: readonly Area[];
}

/** Areas that have left the layout; they leave the file as soon as the client has acked so much. */
interface Leaving {
  readonly areas: readonly Area[];
  readonly target: bigint;
}

/** One region's file, as long as the region: an area stands in it where it stands in the region. */
interface Shared {
  readonly index: number;
  readonly fd: number;
  pieces: readonly Piece[];
  leaving: readonly Leaving[];
}

/**
 * Memory of a device that its client maps: memfds, in which the port puts its mappings.
 *
 * What was handed over cannot be taken back: a client that keeps a mapping sees that file for ever. So revocation is the other way round: once the client has acked
 * it, the device takes its bytes home, and what is written into the file from then on changes nothing, until the layout offers that area again.
 */
export class ServedShares {
  readonly #port: DevicePort;
  readonly #calls: Syscalls;
  readonly #regions = new Map<number, Shared>();
  /** From before the port is asked: it may have put its bytes there when the client goes. */
  readonly #memories = new Set<MappedMemory>();

  constructor(port: DevicePort, calls: Syscalls) {
    this.#port = port;
    this.#calls = calls;
  }

  /** What of this layout can be shared. A region that is not both readable and writable is not: its file would be. */
  offer(info: RegionInfo): Observable<SharedRegion> {
    const trapped: UserRegionInfo = { ...info, flags: info.flags & ~VFIO_REGION_INFO_FLAG_MMAP, areas: [], msixMappable: false };
    const areas = info.savingAreas === undefined ? info.areas : intersectAreas(info.areas, info.savingAreas);
    if (this.#port.mapInto === undefined || areas.length === 0 || !info.readable || !info.writable) return of({ info: trapped });
    return defer(() => {
      const shared = this.#regions.get(info.index) ?? this.#open(info);
      shared.leaving = without(shared.leaving, areas);
      const missing = subtractAreas(areas, liveOf(shared));
      return concat(...missing.map((area) => this.#add(shared, area))).pipe(
        ignoreElements(),
        defaultIfEmpty(undefined),
        map((): SharedRegion => {
          const live = intersectAreas(areas, liveOf(shared));
          return live.length === 0 ? { info: trapped } : { info: { ...info, fileOffset: 0, areas: live }, fd: shared.fd };
        }),
      );
    }).pipe(catchError(() => of({ info: trapped })));
  }

  /** A signal of this page's irq is about to be told: what has left the layouts leaves the files when `target` is acked. */
  signalled(page: number, target: bigint): Observable<never> {
    return from(this.#of(page)).pipe(
      concatMap((shared) =>
        this.#port.regionInfo(shared.index).pipe(
          tap(({ areas }) => {
            const lost = subtractAreas(liveOf(shared), areas);
            const before = shared.leaving.map((one) => ({ ...one, areas: intersectAreas(one.areas, lost) }));
            const fresh = subtractAreas(lost, before.flatMap((one) => one.areas));
            shared.leaving = [...before, { areas: fresh, target }].filter((one) => one.areas.length > 0);
          }),
          // A query that fails is the device's to answer for, when the client asks.
          catchError(() => EMPTY),
        ),
      ),
      ignoreElements(),
    );
  }

  /** So much is acked: the device takes home what the client has let go. */
  acked(page: number, sum: bigint): Observable<never> {
    return from(this.#of(page)).pipe(
      concatMap((shared) => {
        const going = shared.leaving.filter(({ target }) => target <= sum).flatMap(({ areas }) => areas);
        shared.leaving = shared.leaving.filter(({ target }) => target > sum);
        return this.#takeAllHome(shared, going);
      }),
      ignoreElements(),
    );
  }

  /** The irq is off: nobody will ack what has left the layouts, so it goes home at once. A wait that failed by that has left the layout as it was. */
  forget(page: number): Observable<never> {
    return from(this.#of(page)).pipe(
      concatMap((shared) => {
        shared.leaving = [];
        return this.#port.regionInfo(shared.index).pipe(
          concatMap(({ areas }) => this.#takeAllHome(shared, subtractAreas(liveOf(shared), areas))),
          // The irq is off, whatever becomes of memory.
          catchError(() => EMPTY),
        );
      }),
      ignoreElements(),
    );
  }

  /** When the port has let go of it. */
  release(): void {
    runAll([...this.#memories].map((memory) => () => this.#giveBack(memory)));
    for (const { fd } of this.#regions.values()) this.#calls.binding.close(fd);
    this.#regions.clear();
  }

  #open({ index, size }: RegionInfo): Shared {
    const page = this.#calls.binding.pageSize;
    const shared: Shared = { index, fd: this.#calls.memfd(`vfio-rx region ${index}`, Math.ceil(size / page) * page), pieces: [], leaving: [] };
    this.#regions.set(index, shared);
    return shared;
  }

  /** An area that cannot be put there stays trapped. */
  #add(shared: Shared, area: Area): Observable<never> {
    return defer(() => {
      const memory = mapRegion(shared.fd, BigInt(area.offset), area.size, { read: true, write: true }, this.#calls, this.#port.name);
      this.#memories.add(memory);
      const mapped = this.#port.mapInto?.(shared.index, area, memory.memory) ?? EMPTY;
      return mapped.pipe(
        tap({
          next: (mapping) => (shared.pieces = [...shared.pieces, { mapping, memory, live: [area] }]),
          error: () => this.#giveBack(memory),
        }),
      );
    }).pipe(ignoreElements(), catchError(() => EMPTY));
  }

  #takeAllHome(shared: Shared, going: readonly Area[]): Observable<void> {
    return concat(...shared.pieces.flatMap((piece) => intersectAreas(piece.live, going).map((area) => this.#takeHome(shared, piece, area))));
  }

  #takeHome(shared: Shared, piece: Piece, area: Area): Observable<void> {
    return this.#port.unmap(piece.mapping, area).pipe(
      tap(() => {
        piece.live = subtractAreas(piece.live, [area]);
        if (piece.live.length > 0) return;
        shared.pieces = shared.pieces.filter((one) => one !== piece);
        this.#giveBack(piece.memory);
      }),
    );
  }

  #giveBack(memory: MappedMemory): void {
    this.#memories.delete(memory);
    memory.revoke();
    giveBackWhenUnseen(memory, this.#calls);
  }

  #of(page: number): readonly Shared[] {
    return [...this.#regions.values()].filter(({ index }) => Math.floor(index / regionsOfPage) === page);
  }
}

const regionsOfPage = 64;

function liveOf({ pieces }: Shared): readonly Area[] {
  return pieces.flatMap(({ live }) => live);
}

/** What is offered again does not leave. */
function without(leaving: readonly Leaving[], offered: readonly Area[]): readonly Leaving[] {
  return leaving.map((one) => ({ ...one, areas: subtractAreas(one.areas, offered) })).filter(({ areas }) => areas.length > 0);
}
