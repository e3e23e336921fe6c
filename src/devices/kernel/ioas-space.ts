import { catchError, map, of, throwError } from 'rxjs';
import { VfioError } from '../../errors.js';
import type { Syscalls } from '../linux/syscalls.js';
import type { Call, DmaLimits, IovaRange } from '../port.js';
import { IovaTable } from '../protocol/dma-ranges.js';
import { IOMMU_IOAS_IOVA_RANGES, IOMMU_IOAS_MAP, IOMMU_IOAS_UNMAP } from '../uapi/constants.js';
import { encodeIoasMap, encodeIoasUnmap, encodeIovaRanges, ioasIovaRangeLayout, readIoasUnmapped, readIovaRanges } from '../uapi/iommufd.js';
import type { DmaCaller, DmaEntry, DmaSpace } from './dma-space.js';
import { pointing } from './pointing.js';

/** Room for the ranges of an answer, bytes: one page at first, and no more than this for an IOMMU with very many holes. */
const mostRangeBytes = 65_536;

/** The addresses of an IOAS of an iommufd. */
export class IoasSpace implements DmaSpace {
  readonly iovas = new IovaTable<DmaEntry>();
  readonly operations = { limits: 'IOMMU_IOAS_IOVA_RANGES', map: 'IOMMU_IOAS_MAP', unmap: 'IOMMU_IOAS_UNMAP' } as const;
  readonly noAreas = "an iommufd maps memory, no areas of devices: open the devices by their groups (way: 'group'), where they shall reach one another";
  readonly #fd: number;
  readonly #ioas: number;
  readonly #calls: Syscalls;

  constructor(fd: number, ioas: number, calls: Syscalls) {
    this.#fd = fd;
    this.#ioas = ioas;
    this.#calls = calls;
  }

  limits(caller: DmaCaller): Call<DmaLimits> {
    return this.#ranges(this.#calls.binding.pageSize, caller);
  }

  map(range: Parameters<typeof encodeIoasMap>[1], caller: DmaCaller): Call<unknown> {
    return this.#ioctl(IOMMU_IOAS_MAP, encodeIoasMap(this.#ioas, range), this.operations.map, caller);
  }

  unmap(range: IovaRange, caller: DmaCaller): Call<number> {
    return this.#ioctl(IOMMU_IOAS_UNMAP, encodeIoasUnmap(this.#ioas, range), this.operations.unmap, caller).pipe(
      map((bytes) => readIoasUnmapped(bytes, range.size, caller.device)),
      // Nothing is there.
      catchError((error: unknown) => (VfioError.is(error) && error.errno === 'ENOENT' ? of(0) : throwError(() => error))),
    );
  }

  #ranges(bytes: number, caller: DmaCaller): Call<DmaLimits> {
    const ask = pointing(bytes, this.#calls, ({ address, memory }) => {
      const query = encodeIovaRanges(this.#ioas, bytes / ioasIovaRangeLayout.sizeof, address);
      return this.#ioctl(IOMMU_IOAS_IOVA_RANGES, query, this.operations.limits, caller).pipe(map((answer) => readIovaRanges(answer, new Uint8Array(memory), caller.device)));
    });
    return ask.pipe(
      catchError((error: unknown) => {
        const more = VfioError.is(error) && error.errno === 'EMSGSIZE' && bytes < mostRangeBytes;
        return more ? this.#ranges(bytes * 2, caller) : throwError(() => error);
      }),
    );
  }

  #ioctl(request: number, argument: Uint8Array, operation: string, { device, submit }: DmaCaller): Call<Uint8Array> {
    return submit({ op: 'ioctl', fd: this.#fd, request, argument, operation, device }).pipe(map(({ bytes }) => bytes));
  }
}
