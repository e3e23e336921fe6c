import { catchError, concat, defer, EMPTY, finalize, from, ignoreElements, mergeMap, tap, type Observable } from 'rxjs';
import { VfioError } from '../errors.js';
import { absentIsEmpty, disregard, nowCall } from './call.js';
import type { LivePiece } from './holders.js';
import { intersectAreas, subtractAreas } from './protocol/areas.js';
import type { Area, Call, DevicePort, IovaRange, Mapping } from './port.js';

/** Where an area shall stand in the IOMMU, and what devices may do there. */
export interface AreaDma {
  /** Of the area's first byte; the others follow. */
  readonly iova: bigint;
  readonly read: boolean;
  readonly write: boolean;
}

/** An area that devices reach by DMA, given back when that is over. */
export interface DmaHold {
  /** What of it is in the IOMMU now: one range for each piece that is mapped. Empty while it is revoked. */
  readonly ranges: readonly IovaRange[];
  /** Takes it out for good. Fails with what the unmap says; it may be tried again. */
  release(): Call<void>;
}

interface Inside extends IovaRange {
  readonly area: Area;
  /** The port has been asked: from then on only an unmap takes it out. */
  begun: boolean;
}

interface Want extends AreaDma {
  readonly area: Area;
  readonly inside: Set<Inside>;
  over: boolean;
}

/** Calls that are asked of the DMA lane at once: it takes a bounded number. */
const atOnce = 16;

/**
 * The areas of one region that are mapped for DMA. type1v2 splits no range, and munmap of a part of one succeeds while the
 * IOMMU goes on to show it. So each mapped piece is a range of its own that enters and leaves whole: when a part of it
 * is revoked all of it leaves first, and what stays mapped enters again with the added areas of the same batch. In between
 * a device that reaches there gets a fault of the IOMMU: holders are asked before, and so can have their device pause.
 */
export class DmaHolds {
  readonly #port: DevicePort;
  readonly #wants = new Set<Want>();

  constructor(port: DevicePort) {
    this.#port = port;
  }

  /** How many areas are wanted in the IOMMU. */
  get size(): number {
    return this.#wants.size;
  }

  /**
   * Emits the hold when all that is mapped of the area has entered. Where that fails, or is not waited for, nothing of it stays.
   *
   * @param size the region's, bytes
   */
  hold(area: Area, dma: AreaDma, size: number, pieces: readonly LivePiece[]): Call<DmaHold> {
    return defer(() => {
      const page = this.#port.traits.pageSize;
      const whole = [area.offset, area.size].every((bytes) => Number.isSafeInteger(bytes) && bytes >= 0 && bytes % page === 0);
      if (!whole || area.size === 0 || area.offset + area.size > size || dma.iova % BigInt(page) !== 0n) {
        throw new VfioError('VFIO_E_RANGE', `${area.size} bytes at offset ${area.offset}, iova 0x${dma.iova.toString(16)}: not whole pages of a region of ${size} bytes`, { operation: 'mapDma', device: this.#port.name });
      }
      const want: Want = { ...dma, area, inside: new Set(), over: false };
      // Where nothing is mapped now the port would not see it, and one of the two would be left out when something is.
      const other = [...this.#wants].find((one) => one.iova < want.iova + BigInt(area.size) && want.iova < one.iova + BigInt(one.area.size));
      if (other !== undefined) {
        throw new VfioError('VFIO_E_BUSY', `iova 0x${want.iova.toString(16)} overlaps what is held for DMA from 0x${other.iova.toString(16)} on: release that first`, { operation: 'mapDma', device: this.#port.name });
      }
      this.#wants.add(want);
      let handedOver = false;
      const hold = nowCall((): DmaHold => {
        handedOver = true;
        return {
          get ranges() {
            return [...want.inside].filter(({ begun }) => begun).map(({ iova, size }) => ({ iova, size }));
          },
          release: () => this.#release(want),
        };
      });
      return concat(this.#enter(want, pieces), hold).pipe(
        finalize(() => {
          if (!handedOver) disregard(this.#release(want));
        }),
      );
    });
  }

  /** What is mapped and not yet in enters; `failed` is told of what does not, and that is tried again the next time. */
  enter(pieces: readonly LivePiece[], failed: (error: unknown) => void): Observable<never> {
    return from([...this.#wants]).pipe(
      mergeMap((want) =>
        this.#enter(want, pieces).pipe(
          catchError((error: unknown) => {
            failed(error);
            return EMPTY;
          }),
        ),
      ),
    );
  }

  /** Every range that shows any of the areas leaves, whole. Fails with what the unmap says: then nothing may be munmapped. */
  leave(areas: readonly Area[]): Observable<never> {
    return defer(() => from([...this.#wants])).pipe(mergeMap((want) => this.#leave(want, areas)));
  }

  #enter(want: Want, pieces: readonly LivePiece[]): Observable<never> {
    return defer(() => {
      if (want.over) return EMPTY;
      // All are noted before the first is asked for: a revocation that comes meanwhile finds them.
      const missing = pieces.flatMap(({ mapping, area }) =>
        subtractAreas(intersectAreas([area], [want.area]), [...want.inside].map((one) => one.area)).map((part) => {
          const one: Inside = { iova: want.iova + BigInt(part.offset - want.area.offset), size: part.size, area: part, begun: false };
          want.inside.add(one);
          return { mapping, one };
        }),
      );
      return from(missing).pipe(
        mergeMap(({ mapping, one }) => this.#enterOne(want, mapping, one), atOnce),
        finalize(() => {
          for (const { one } of missing) if (!one.begun) want.inside.delete(one);
        }),
      );
    });
  }

  #enterOne(want: Want, mapping: Mapping, one: Inside): Observable<never> {
    return defer(() => {
      if (!want.inside.has(one)) return EMPTY;
      one.begun = true;
      const { iova, size, area } = one;
      const { read, write } = want;
      return this.#port.dmaMap({ iova, size, source: mapping, offset: area.offset - mapping.area.offset, read, write }).pipe(
        tap({ error: () => want.inside.delete(one) }),
        ignoreElements(),
      );
    });
  }

  #leave(want: Want, areas: readonly Area[]): Observable<never> {
    return defer(() => {
      const going = [...want.inside].filter(({ area }) => intersectAreas([area], areas).length > 0);
      for (const one of going) if (!one.begun) want.inside.delete(one);
      return from(going.filter(({ begun }) => begun)).pipe(
        mergeMap((one) => this.#port.dmaUnmap({ iova: one.iova, size: one.size }).pipe(
          tap(() => want.inside.delete(one)),
          ignoreElements(),
        ), atOnce),
      );
    });
  }

  #release(want: Want): Call<void> {
    want.over = true;
    // A port that is closed has taken it out itself.
    return concat(this.#leave(want, [want.area]).pipe(absentIsEmpty('VFIO_E_CLOSED')), nowCall(() => void this.#wants.delete(want)));
  }
}
