import { concat, concatMap, defaultIfEmpty, defer, map, of, toArray, type Observable } from 'rxjs';
import { VfioError } from '../../errors.js';
import { absentIsEmpty } from '../call.js';
import type { DevicePort } from '../port.js';
import { viewOf } from '../uapi/bytes.js';
import type { Reply } from './connection.js';
import { encodeRegionInfo, readInfoQuery } from './messages/infos.js';
import { encodeRegionAccess, encodeWritesDone, readRegionData, readRegionPart, readWriteMulti } from './messages/region-access.js';
import type { ServedShares, SharedRegion } from './served-shares.js';

/** Of one command: all of them may be made in one turn of the loop. */
const mostWrites = 1024;

/** The regions of a port for a client of another process: their layouts, with the files of what is shared, and trapped access. */
export class ServedRegions {
  readonly #port: DevicePort;
  readonly #shares: ServedShares;

  constructor(port: DevicePort, shares: ServedShares) {
    this.#port = port;
    this.#shares = shares;
  }

  /** An index that the device does not use is a region of no bytes. The file comes with the whole answer only. */
  info(payload: Uint8Array): Observable<Reply> {
    const { index, argsz } = readInfoQuery(payload, 'DEVICE_GET_REGION_INFO');
    const unused: SharedRegion = { info: { index, flags: 0, size: 0, fileOffset: 0, areas: [], msixMappable: false } };
    return this.#port.info().pipe(
      concatMap(({ regions }) => {
        if (index >= regions) throw new VfioError('VFIO_E_NO_REGION', `there is no region ${index}`, { operation: 'serve', device: this.#port.name });
        return this.#port.regionInfo(index).pipe(absentIsEmpty('VFIO_E_NO_REGION'), concatMap((info) => this.#shares.offer(info)), defaultIfEmpty(unused));
      }),
      map(({ info, fd }) => {
        const reply = encodeRegionInfo(info, argsz);
        return { payload: reply, fds: fd === undefined || viewOf(reply).getUint32(0, true) > reply.length ? [] : [fd] };
      }),
    );
  }

  read(payload: Uint8Array): Observable<Uint8Array> {
    const part = readRegionPart(payload);
    if (part.count === 0) return of(encodeRegionAccess(part));
    return this.#port.access({ region: part.region, offset: part.offset, readBytes: part.count }).pipe(map((data) => encodeRegionAccess(part, data)));
  }

  write(payload: Uint8Array): Observable<Uint8Array> {
    const { data, ...part } = readRegionData(payload);
    if (part.count === 0) return of(encodeRegionAccess(part));
    return this.#port.access({ region: part.region, offset: part.offset, write: data }).pipe(map(() => encodeRegionAccess(part)));
  }

  writeMulti(payload: Uint8Array): Observable<Uint8Array> {
    const writes = readWriteMulti(payload);
    if (writes.length > mostWrites) throw new VfioError('VFIO_E_RANGE', `${writes.length} writes, at most ${mostWrites} are made in one turn`, { operation: 'serve', device: this.#port.name });
    const each = writes.map(({ region, offset, data }) => defer(() => this.#port.access({ region, offset, write: data })));
    return concat(...each).pipe(toArray(), map(() => encodeWritesDone(writes.length)));
  }
}
