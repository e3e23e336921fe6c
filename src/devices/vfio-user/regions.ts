import { concatMap, defer, map, of } from 'rxjs';
import { VfioError } from '../../errors.js';
import { ask, directCall, type Asker, type Leave } from '../call.js';
import { KernelMappings } from '../kernel/mappings.js';
import { fileHolds } from '../linux/file-bounds.js';
import type { Syscalls } from '../linux/syscalls.js';
import type { AccessRequest, Area, Call, Mapping, RegionInfo } from '../port.js';
import { coversAreas } from '../protocol/areas.js';
import { steps } from '../steps.js';
import { initialAnswerBytes, maxAnswerBytes, maxAttempts, neverSettles } from '../uapi/argsz.js';
import { protocolError, requireU32, viewOf } from '../uapi/bytes.js';
import { VFIO_REGION_INFO_FLAG_MMAP } from '../uapi/constants.js';
import { readRegionInfo } from '../uapi/region-info.js';
import type { UserConnection } from './connection.js';
import { encodeRegionInfoQuery } from './messages/infos.js';
import { encodeRegionAccess, readRegionPart } from './messages/region-access.js';
import { RegionRead } from './region-read.js';

/** What regions need of their port. */
export interface UserRegionParts {
  readonly device: string;
  readonly calls: Syscalls;
  readonly request: UserConnection['request'];
  readonly exchange: UserConnection['exchange'];
  /** The largest count that the server takes, bytes. */
  readonly maxDataBytes: () => number;
  readonly requireOpen: (operation: string) => void;
  /** Throws while any of the area is shown to the server by DMA. */
  readonly requireOut: (mapping: Mapping, area: Area) => void;
}

/** What of a region's place does not change with its layout. */
interface Place {
  readonly size: number;
  /** Where it can be mapped: the latest fd that the server sent. */
  fd: number | undefined;
  fileOffset: number;
}

/** The regions of a served device: layouts by message, accesses by message, mappings of what the server gave a fd for. */
export class UserRegions {
  readonly #parts: UserRegionParts;
  readonly #mappings: KernelMappings;
  readonly #places = new Map<number, Place>();

  constructor(parts: UserRegionParts) {
    this.#parts = parts;
    this.#mappings = new KernelMappings(-1, parts.calls, parts.device, parts.requireOut);
  }

  /** A region that the server offers for mmap without a fd is one that cannot be mapped. */
  info(index: number): Call<RegionInfo> {
    const operation = `VFIO_DEVICE_GET_REGION_INFO(${index})`;
    return defer(() => {
      this.#parts.requireOpen(operation);
      requireU32(index, 'a region index', { operation, device: this.#parts.device });
      return this.#ask(index, operation, initialAnswerBytes, maxAttempts);
    });
  }

  map(region: number, area: Area): Call<Mapping> {
    return this.info(region).pipe(
      map((layout) => {
        this.#parts.requireOpen(`mmap region ${region}`);
        const fd = this.#places.get(region)?.fd ?? -1;
        if (fd >= 0 && coversAreas(layout.areas, [area]) && !fileHolds(fd, layout.fileOffset + area.offset, area.size)) {
          throw new VfioError('VFIO_E_PROTOCOL', 'the file that the server sent for this region ends before the area: report that there', { operation: `mmap region ${region}`, device: this.#parts.device });
        }
        return this.#mappings.map(layout, area, fd);
      }),
    );
  }

  unmap(mapping: Mapping, area: Area): void {
    this.#mappings.unmap(mapping, area);
  }

  shows(mapping: Mapping, area: Area): boolean {
    return this.#mappings.shows(mapping, area);
  }

  /** The file of a mapping, and where the mapping begins in it. */
  fileOf({ region, area }: Mapping): { readonly fd: number; readonly offset: number } | undefined {
    const place = this.#places.get(region);
    return place?.fd === undefined ? undefined : { fd: place.fd, offset: place.fileOffset + area.offset };
  }

  access(request: AccessRequest): Call<Uint8Array> {
    return directCall((asker) => {
      try {
        return this.#access(request, asker);
      } catch (error) {
        asker.failed(error);
        return undefined;
      }
    });
  }

  close(keepViews: boolean, step: (what: string, release: () => void) => void): void {
    this.#mappings.close(keepViews, step);
    for (const [index, { fd }] of this.#places) if (fd !== undefined) step(`fd of region ${index} closed`, () => this.#parts.calls.close(fd, this.#parts.device));
    this.#places.clear();
  }

  #ask(index: number, operation: string, argsz: number, attempts: number): Call<RegionInfo> {
    const { device, request, calls } = this.#parts;
    if (attempts === 0) throw neverSettles(argsz, { operation, device });
    return request('DEVICE_GET_REGION_INFO', operation, encodeRegionInfoQuery({ index, argsz })).pipe(
      concatMap(({ payload, fds }) => {
        const [fd, ...more] = fds;
        let kept = false;
        try {
          if (more.length > 0) throw protocolError({ operation, device }, 0, `${fds.length} file descriptors came with one region`);
          const needed = payload.length < 4 ? 0 : viewOf(payload).getUint32(0, true);
          if (needed > payload.length && needed <= maxAnswerBytes && needed > argsz) return this.#ask(index, operation, needed, attempts - 1);
          const info = readRegionInfo(payload, index, device);
          this.#parts.requireOpen(operation);
          kept = this.#keep(info, fd);
          return of(kept || (info.flags & VFIO_REGION_INFO_FLAG_MMAP) === 0 ? info : { ...info, mmappable: false, areas: [] });
        } finally {
          for (const one of kept ? more : fds) calls.binding.close(one);
        }
      }),
    );
  }

  /** True where the fd was kept. */
  #keep({ index, size, fileOffset, mmappable }: RegionInfo, fd: number | undefined): boolean {
    const place = this.#places.get(index) ?? { size, fd: undefined, fileOffset };
    this.#places.set(index, place);
    if (fd === undefined || !mmappable) return false;
    if (place.fd !== undefined) this.#parts.calls.binding.close(place.fd);
    place.fd = fd;
    place.fileOffset = fileOffset;
    return true;
  }

  #access(request: AccessRequest, asker: Asker<Uint8Array>): Leave | undefined {
    const { region, offset, write, readBytes = 0 } = request;
    const operation = `${write === undefined ? 'REGION_READ' : 'REGION_WRITE'} region ${region}`;
    this.#parts.requireOpen(operation);
    const place = this.#places.get(region);
    if (place === undefined) return ask(this.info(region).pipe(concatMap(() => this.access(request))), asker);
    this.#requireInside(request, place.size, operation);
    const most = this.#parts.maxDataBytes();
    if (write !== undefined) return ask(this.#write(request, write, operation, most), asker);
    // A register's, as most are: one message.
    if (readBytes <= most) this.#parts.exchange(new RegionRead(region, offset, readBytes, this.#parts.device, asker));
    else return ask(this.#read(request, readBytes, most), asker);
    return undefined;
  }

  #requireInside({ offset, write, readBytes }: AccessRequest, size: number, operation: string): void {
    const length = write?.byteLength ?? readBytes ?? 0;
    if (length > 0 && Number.isSafeInteger(length) && Number.isSafeInteger(offset) && offset >= 0 && offset + length <= size) return;
    throw new VfioError('VFIO_E_RANGE', `${length} bytes at ${offset}: the region has ${size} bytes`, { operation, device: this.#parts.device });
  }

  #read({ region, offset }: AccessRequest, length: number, most: number): Call<Uint8Array> {
    const read = (at: number): Call<Uint8Array> => this.access({ region, offset: offset + at, readBytes: Math.min(most, length - at) });
    return steps(function* () {
      const whole = new Uint8Array(length);
      for (let at = 0; at < length; at += most) whole.set((yield read(at)) as Uint8Array, at);
      return whole;
    });
  }

  #write({ region, offset }: AccessRequest, bytes: Uint8Array, operation: string, most: number): Call<Uint8Array> {
    const write = (at: number, data: Uint8Array): Call<void> => {
      const part = { region, offset: offset + at, count: data.length };
      return this.#parts.request('REGION_WRITE', operation, encodeRegionAccess(part, data)).pipe(map(({ payload }) => this.#same(readRegionPart(payload), part, operation)));
    };
    return steps(function* () {
      // The bytes are the caller's once a part is on its way.
      const whole = bytes.length > most ? new Uint8Array(bytes) : bytes;
      for (let at = 0; at < whole.length; at += most) yield write(at, whole.subarray(at, at + most));
      return bytes;
    });
  }

  #same(answer: { readonly region: number; readonly offset: number; readonly count: number }, asked: typeof answer, operation: string): void {
    if (answer.region === asked.region && answer.offset === asked.offset && answer.count === asked.count) return;
    throw protocolError({ operation, device: this.#parts.device }, 0, `${answer.count} bytes at ${answer.offset} of region ${answer.region} answered, ${asked.count} at ${asked.offset} of region ${asked.region} were asked`);
  }
}
