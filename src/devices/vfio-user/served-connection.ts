import { constants } from 'node:os';
import { concat, concatMap, defaultIfEmpty, defer, map, of, toArray, type Observable } from 'rxjs';
import { VfioError, type VfioErrorCode } from '../../errors.js';
import { absentIsEmpty } from '../call.js';
import type { DevicePort } from '../port.js';
import { protocolError } from '../uapi/bytes.js';
import { VFIO_REGION_INFO_FLAG_MMAP } from '../uapi/constants.js';
import { UserConnection, type Answer, type CommandServer, type ConnectionParts } from './connection.js';
import type { CommandName } from './messages/header.js';
import { encodeDeviceInfo, encodeIrqInfo, encodeNoIoFds, encodeRegionInfo, readInfoQuery } from './messages/infos.js';
import { encodeRegionAccess, encodeWritesDone, readRegionData, readRegionPart, readWriteMulti } from './messages/region-access.js';
import { readUserIrqSet } from './messages/set-irqs.js';
import { encodeVersion, ownVersion, readVersion } from './messages/version.js';
import { ServedDma } from './served-dma.js';
import { ServedIrqs } from './served-irqs.js';
import { ServedState } from './served-state.js';

/** Commands that wait behind the one that is served; then the client is held up. */
const mostWaiting = 64;

interface Waiting {
  readonly name: CommandName | undefined;
  readonly payload: Uint8Array;
  readonly fds: readonly number[];
  readonly answer: Answer;
}

const nothing = new Uint8Array(0);

/**
 * One client of a port. Commands are served one after the other and answered in their order, as the protocol wants; a port whose driver keeps one of them keeps
 * the client. What the port cannot do over this socket it says by errno.
 */
export class ServedConnection implements CommandServer {
  readonly #port: DevicePort;
  readonly #connection: UserConnection;
  readonly #irqs: ServedIrqs;
  readonly #dma: ServedDma;
  readonly #state: ServedState;
  readonly #waiting: Waiting[] = [];
  readonly #ended: (error: VfioError | undefined) => void;
  #agreed = false;
  #serving = false;
  #error: VfioError | undefined;
  #over = false;

  /**
   * The fd and the port are its own from here on.
   *
   * @param ended called once, when the client has gone and the port is released; with an error where the client broke the protocol
   */
  constructor(fd: number, port: DevicePort, parts: ConnectionParts, ended: (error: VfioError | undefined) => void) {
    this.#port = port;
    this.#ended = ended;
    this.#irqs = new ServedIrqs({ port, calls: parts.calls, reactor: parts.reactor });
    this.#dma = new ServedDma(port, parts.calls);
    this.#state = new ServedState(port, () => this.#dma.ranges);
    this.#connection = new UserConnection(fd, parts, this);
  }

  command(name: CommandName | undefined, payload: Uint8Array, fds: readonly number[], answer: Answer): void {
    if (!this.#agreed) {
      this.#connection.closeFds(fds);
      this.#agree(name, payload, answer);
      return;
    }
    this.#waiting.push({ name, payload, fds, answer });
    if (this.#waiting.length >= mostWaiting) this.#connection.pause();
    if (!this.#serving) this.#next();
  }

  lost(error: VfioError | undefined): void {
    this.#error = error;
    this.close();
  }

  /** Takes everything of this client away; the client sees the end when the port is released. */
  close(): void {
    if (this.#over) return;
    this.#over = true;
    for (const { fds } of this.#waiting.splice(0)) this.#connection.closeFds(fds);
    this.#state.release();
    this.#irqs.release();
    this.#port.close();
    const released = (): void => {
      this.#dma.release();
      this.#connection.close(new VfioError('VFIO_E_CLOSED', 'the server has closed the device', { operation: 'serve', device: this.#port.name }));
      this.#ended(this.#error);
    };
    this.#port.released.subscribe({ complete: released, error: released });
  }

  /** VERSION comes first, and once; whatever else comes first is no vfio-user. */
  #agree(name: CommandName | undefined, payload: Uint8Array, answer: Answer): void {
    if (name !== 'VERSION') throw protocolError({ operation: 'vfio-user VERSION' }, 0, 'the client began with another message');
    readVersion(payload);
    this.#agreed = true;
    answer(encodeVersion(ownVersion));
  }

  #next(): void {
    const one = this.#waiting.shift();
    if (one === undefined || this.#over) return;
    if (this.#waiting.length < mostWaiting / 2) this.#connection.resume();
    const fds = [...one.fds];
    let reply: Uint8Array = nothing;
    const done = (answer: Uint8Array | number): void => {
      this.#connection.closeFds(fds.splice(0));
      this.#serving = false;
      try {
        one.answer(answer);
      } catch (error) {
        this.#error = error as VfioError;
        this.close();
        return;
      }
      this.#next();
    };
    this.#serving = true;
    defer(() => this.#serve(one, fds)).subscribe({
      next: (answer) => {
        reply = answer;
      },
      error: (error: unknown) => done(errnoOf(error)),
      complete: () => done(reply),
    });
  }

  #serve({ name, payload }: Waiting, fds: number[]): Observable<Uint8Array> {
    switch (name) {
      case 'DMA_MAP':
        return silent(this.#dma.map(payload, fds));
      case 'DMA_UNMAP':
        return this.#dma.unmap(payload);
      case 'DEVICE_GET_INFO':
        return this.#port.info().pipe(map(encodeDeviceInfo));
      case 'DEVICE_GET_REGION_INFO':
        return this.#regionInfo(payload);
      case 'DEVICE_GET_REGION_IO_FDS':
        return of(encodeNoIoFds(readInfoQuery(payload, name).index));
      case 'DEVICE_GET_IRQ_INFO':
        return this.#irqInfo(payload);
      case 'DEVICE_SET_IRQS':
        return this.#setIrqs(payload, fds);
      case 'REGION_READ':
        return this.#read(payload);
      case 'REGION_WRITE':
        return this.#write(payload);
      case 'REGION_WRITE_MULTI':
        return this.#writeMulti(payload);
      case 'DEVICE_RESET':
        return silent(this.#port.reset().pipe(map(() => this.#state.release())));
      case 'DEVICE_FEATURE':
        return this.#state.feature(payload);
      case 'MIG_DATA_READ':
        return this.#state.read(payload);
      case 'MIG_DATA_WRITE':
        return silent(this.#state.write(payload));
      default:
        throw protocolError({ operation: 'vfio-user' }, 2, 'no command for a server');
    }
  }

  /** An index that the device does not use is a region of no bytes. Memory of the device is not shared: accesses are messages. */
  #regionInfo(payload: Uint8Array): Observable<Uint8Array> {
    const { index, argsz } = readInfoQuery(payload, 'DEVICE_GET_REGION_INFO');
    const unused = { index, flags: 0, size: 0, fileOffset: 0, areas: [], msixMappable: false };
    const asked = this.#port.regionInfo(index).pipe(map((info) => ({ ...info, flags: info.flags & ~VFIO_REGION_INFO_FLAG_MMAP, areas: [], msixMappable: false })));
    return this.#port.info().pipe(
      concatMap(({ regions }) => {
        if (index >= regions) throw this.#refusal('VFIO_E_NO_REGION', `there is no region ${index}`);
        return asked.pipe(absentIsEmpty('VFIO_E_NO_REGION'), defaultIfEmpty(unused));
      }),
      map((info) => encodeRegionInfo(info, argsz)),
    );
  }

  /** An index that the device does not use is an irq of no vectors. So is a remap irq: its acks have no way through this socket that a driver could wait for. */
  #irqInfo(payload: Uint8Array): Observable<Uint8Array> {
    const { index } = readInfoQuery(payload, 'DEVICE_GET_IRQ_INFO');
    const unused = { index, flags: 0, count: 0 };
    return this.#port.info().pipe(
      concatMap(({ irqs }) => {
        if (index >= irqs) throw this.#refusal('VFIO_E_NO_IRQ', `there is no irq ${index}`);
        return this.#port.irqInfo(index).pipe(absentIsEmpty('VFIO_E_NO_IRQ'), map((info) => (info.remap === undefined ? info : unused)), defaultIfEmpty(unused));
      }),
      map(encodeIrqInfo),
    );
  }

  #setIrqs(payload: Uint8Array, fds: number[]): Observable<Uint8Array> {
    const set = readUserIrqSet(payload, fds.length);
    return this.#port.irqInfo(set.index).pipe(
      concatMap((info) => {
        if (info.remap !== undefined || set.start + set.count > info.count) throw this.#refusal('VFIO_E_NO_IRQ', `irq ${set.index} has no such vector`);
        return silent(this.#irqs.set(set, fds));
      }),
    );
  }

  #read(payload: Uint8Array): Observable<Uint8Array> {
    const part = readRegionPart(payload);
    if (part.count === 0) return of(encodeRegionAccess(part));
    return this.#port.access({ region: part.region, offset: part.offset, readBytes: part.count }).pipe(map((data) => encodeRegionAccess(part, data)));
  }

  #write(payload: Uint8Array): Observable<Uint8Array> {
    const { data, ...part } = readRegionData(payload);
    if (part.count === 0) return of(encodeRegionAccess(part));
    return this.#port.access({ region: part.region, offset: part.offset, write: data }).pipe(map(() => encodeRegionAccess(part)));
  }

  #writeMulti(payload: Uint8Array): Observable<Uint8Array> {
    const writes = readWriteMulti(payload);
    const each = writes.map(({ region, offset, data }) => defer(() => this.#port.access({ region, offset, write: data })));
    return concat(...each).pipe(toArray(), map(() => encodeWritesDone(writes.length)));
  }

  #refusal(code: VfioErrorCode, message: string): VfioError {
    return new VfioError(code, message, { operation: 'serve', device: this.#port.name });
  }
}

/** A call whose reply says nothing. */
function silent(call: Observable<unknown>): Observable<Uint8Array> {
  return call.pipe(toArray(), map(() => nothing));
}

const byCode: Partial<Readonly<Record<VfioErrorCode, keyof typeof constants.errno>>> = {
  VFIO_E_UNSUPPORTED: 'EOPNOTSUPP',
  VFIO_E_BUSY: 'EBUSY',
  VFIO_E_NO_DEVICE: 'ENODEV',
  VFIO_E_CLOSED: 'ENODEV',
  VFIO_E_LIMIT: 'ENOSPC',
  VFIO_E_REFUSED: 'EPERM',
  VFIO_E_ACK_TIMEOUT: 'ETIMEDOUT',
  VFIO_E_CANCELED: 'ECANCELED',
  VFIO_E_SUSPENDED: 'EIO',
  VFIO_E_IO: 'EIO',
};

/** What a device's or a client's fault is on the wire: the device's errno where there is one, EPROTO where it lied, EINVAL for what the client should not have asked. */
function errnoOf(error: unknown): number {
  if (!VfioError.is(error)) return constants.errno.EIO;
  if (error.code === 'VFIO_E_PROTOCOL') return error.operation.startsWith('vfio-user') ? constants.errno.EINVAL : constants.errno.EPROTO;
  const named = error.errno === undefined ? undefined : (constants.errno as Readonly<Record<string, number>>)[error.errno];
  return named ?? constants.errno[byCode[error.code] ?? 'EINVAL'];
}
