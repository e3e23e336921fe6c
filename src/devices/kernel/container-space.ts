import { concatMap, map, of, throwError } from 'rxjs';
import type { Call, DmaLimits, IovaRange } from '../port.js';
import { IovaTable } from '../protocol/dma-ranges.js';
import { bytesNeeded, initialAnswerBytes, maxAnswerBytes, maxAttempts, neverSettles } from '../uapi/argsz.js';
import { VFIO_IOMMU_GET_INFO, VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA } from '../uapi/constants.js';
import { encodeDmaMap, encodeDmaUnmap, encodeIommuInfoQuery, readIommuInfo, readUnmapped } from '../uapi/dma.js';
import type { DmaCaller, DmaEntry, DmaSpace } from './dma-space.js';

/** The addresses of a container with a type1v2 IOMMU. */
export class ContainerSpace implements DmaSpace {
  readonly iovas = new IovaTable<DmaEntry>();
  readonly operations = { limits: 'VFIO_IOMMU_GET_INFO', map: 'VFIO_IOMMU_MAP_DMA', unmap: 'VFIO_IOMMU_UNMAP_DMA' } as const;
  readonly noAreas = undefined;
  readonly #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
  }

  limits(caller: DmaCaller): Call<DmaLimits> {
    return this.#query(initialAnswerBytes, maxAttempts, caller).pipe(map((bytes) => readIommuInfo(bytes, caller.device)));
  }

  map(range: Parameters<typeof encodeDmaMap>[0], caller: DmaCaller): Call<unknown> {
    return this.#ioctl(VFIO_IOMMU_MAP_DMA, encodeDmaMap(range), this.operations.map, caller);
  }

  unmap(range: IovaRange, caller: DmaCaller): Call<number> {
    return this.#ioctl(VFIO_IOMMU_UNMAP_DMA, encodeDmaUnmap(range), this.operations.unmap, caller).pipe(map((bytes) => readUnmapped(bytes, range.size, caller.device)));
  }

  #query(bytes: number, attempts: number, caller: DmaCaller): Call<Uint8Array> {
    const origin = { operation: this.operations.limits, device: caller.device };
    if (attempts === 0) return throwError(() => neverSettles(bytes, origin));
    return this.#ioctl(VFIO_IOMMU_GET_INFO, encodeIommuInfoQuery(bytes), origin.operation, caller).pipe(
      concatMap((answer) => {
        const needed = bytesNeeded(answer, maxAnswerBytes, origin);
        return needed === undefined ? of(answer) : this.#query(needed, attempts - 1, caller);
      }),
    );
  }

  #ioctl(request: number, argument: Uint8Array, operation: string, { device, submit }: DmaCaller): Call<Uint8Array> {
    return submit({ op: 'ioctl', fd: this.#fd, request, argument, operation, device }).pipe(map(({ bytes }) => bytes));
  }
}
