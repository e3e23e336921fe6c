import { concat, concatMap, defer, ignoreElements, lastValueFrom, map, Observable, of, ReplaySubject, Subject, throwError } from 'rxjs';
import type { Clock } from '../../clock.js';
import { VfioError, type VfioErrorCode } from '../../errors.js';
import { closeBoundMs, nowCall } from '../call.js';
import type { Reactor } from '../linux/reactor.js';
import type { Syscalls } from '../linux/syscalls.js';
import type {
  AccessRequest, Area, Call, DeviceInfo, DevicePort, DmaLimits, DmaMapRequest, DmaMemory, IovaRange, IrqAct, IrqHandle, IrqInfo, IrqLine, IrqOptions, Mapping, MigrationTraits, PortTraits,
  RegionInfo, ReleaseReport, State, StateReply,
} from '../port.js';
import { bytesNeeded, initialAnswerBytes, maxAnswerBytes, maxAttempts, neverSettles } from '../uapi/argsz.js';
import { requireU32 } from '../uapi/bytes.js';
import { readDeviceInfo } from '../uapi/device-info.js';
import { readIrqInfo } from '../uapi/irq-info.js';
import { UserConnection, type Answer, type Exchange } from './connection.js';
import { UserDma } from './dma.js';
import { UserDmaLogging } from './dma-logging.js';
import { UserIrqs } from './irqs.js';
import type { CommandName } from './messages/header.js';
import { encodeDeviceInfoQuery, encodeIrqInfoQuery, remapTravels } from './messages/infos.js';
import { defaultCapabilities, encodeVersion, ownVersion, readVersion, type Capabilities } from './messages/version.js';
import { UserMigration } from './migration.js';
import { UserRegions } from './regions.js';

/** What a client is made of. */
export interface UserPortParts {
  readonly calls: Syscalls;
  readonly reactor: Reactor;
  readonly clock: Clock;
}

/** A late subscriber of `released` is told so many steps. */
const mostReports = 1024;

const errno = { EINVAL: 22, ENOSYS: 38 } as const;

/**
 * A device that another process serves: every call is a message and its reply, so none answers inside subscribe(); only mapped memory and eventfds go
 * past the socket. When the connection is lost every outstanding call, and every later one, fails with VFIO_E_NO_DEVICE.
 *
 * Closing takes ranges, mappings and irqs away, ends the connection and waits for the server to close its side, which says that it has let go; after ten
 * seconds it waits no longer (reported: VFIO_E_DEADLINE), and what is outstanding fails with VFIO_E_CANCELED.
 */
export class UserPort implements DevicePort {
  readonly name: string;
  readonly clock: Clock;
  readonly traits: PortTraits;
  readonly dmaLogging: UserDmaLogging;
  readonly released: Observable<ReleaseReport>;
  readonly #connection: UserConnection;
  readonly #regions: UserRegions;
  readonly #irqs: UserIrqs;
  readonly #dma: UserDma;
  readonly #migration: UserMigration;
  readonly #reports = new ReplaySubject<ReleaseReport>(mostReports);
  readonly #lost = new ReplaySubject<never>(1);
  readonly #ended = new Subject<void>();
  #server: Capabilities = defaultCapabilities;
  #gone = false;
  #closed = false;

  /** The fd, a connected socket, is the port's from here on. */
  constructor(name: string, fd: number, parts: UserPortParts) {
    const { calls, reactor, clock } = parts;
    this.name = name;
    this.clock = clock;
    this.traits = { remapInOneTurn: false, syncAccess: false, pageSize: calls.binding.pageSize };
    this.released = this.#reports.asObservable();
    this.#connection = new UserConnection(fd, { calls, reactor, name }, {
      takesFds: false,
      command: (command, payload, fds, answer) => {
        this.#connection.closeFds(fds);
        this.#serve(command, payload, answer);
      },
      lost: (error) => this.#whenLost(error),
    });
    const requireOpen = (operation: string): void => this.#requireOpen(operation);
    const request: UserConnection['request'] = (command, operation, payload, fds, sink) => this.#connection.request(command, operation, payload, fds, sink);
    const exchange = (one: Exchange): void => this.#connection.exchange(one);
    const maxDataBytes = (): number => this.#server.maxDataBytes;
    this.#regions = new UserRegions({ device: name, calls, request, exchange, maxDataBytes, requireOpen, requireOut: (mapping, area) => this.#dma.requireOut(mapping, area) });
    this.#dma = new UserDma({
      device: name, calls, request, requireOpen,
      server: () => this.#server,
      shows: (mapping, area) => this.#regions.shows(mapping, area),
      fileOf: (mapping) => this.#regions.fileOf(mapping),
    });
    this.#irqs = new UserIrqs({
      device: name, calls, reactor, requireOpen,
      maxFds: () => this.#server.maxFds,
      pci: () => this.info().pipe(map(({ pci }) => pci)),
      info: (index) => this.irqInfo(index),
      send: (payload, operation, fds) => this.#connection.request('DEVICE_SET_IRQS', operation, payload, fds),
      lost: this.#lost,
    });
    this.#migration = new UserMigration({ device: name, request, maxDataBytes, requireOpen });
    this.dmaLogging = new UserDmaLogging({ device: name, requireOpen, maxDataBytes, feature: (operation, payload) => request('DEVICE_FEATURE', operation, payload) });
  }

  /** The first exchange: until it has been made nothing else may be asked. */
  negotiate(): Call<void> {
    return this.#connection.request('VERSION', 'vfio-user VERSION', encodeVersion(ownVersion)).pipe(
      map(({ payload }) => {
        const { minor, capabilities } = readVersion(payload);
        if (minor > ownVersion.minor) throw new VfioError('VFIO_E_PROTOCOL', `the server answers with version 0.${minor}, which was not proposed`, { operation: 'vfio-user VERSION', device: this.name });
        this.#server = capabilities;
      }),
    );
  }

  info(): Call<DeviceInfo> {
    const operation = 'VFIO_DEVICE_GET_INFO';
    return this.#open(operation, () => this.#connection.request('DEVICE_GET_INFO', operation, encodeDeviceInfoQuery()).pipe(map(({ payload }) => readDeviceInfo(payload, this.name))));
  }

  regionInfo(index: number): Call<RegionInfo> {
    return this.#absent('EINVAL', 'VFIO_E_NO_REGION', `the device has no region ${index}`, this.#regions.info(index));
  }

  irqInfo(index: number): Call<IrqInfo> {
    const operation = `VFIO_DEVICE_GET_IRQ_INFO(${index})`;
    const asked = this.#open(operation, () => {
      requireU32(index, 'an irq index', { operation, device: this.name });
      return this.#askIrq(index, operation, this.#server.remap ? initialAnswerBytes : undefined, maxAttempts);
    });
    return this.#absent('EINVAL', 'VFIO_E_NO_IRQ', `the device has no irq ${index}`, asked);
  }

  irq(line: IrqLine, options?: IrqOptions): Call<IrqHandle> {
    return this.irqs(line.index, [line.vector ?? 0], options).pipe(concatMap((handles) => handles));
  }

  irqs(index: number, vectors: readonly number[], options: IrqOptions = {}): Call<readonly IrqHandle[]> {
    return this.#irqs.register(index, vectors, options.ackFd === true);
  }

  setIrqs(act: IrqAct): Call<void> {
    return this.#irqs.act(act);
  }

  map(region: number, area: Area): Call<Mapping> {
    return this.#regions.map(region, area);
  }

  unmap(mapping: Mapping, area: Area = mapping.area): Call<void> {
    return this.#now(`munmap region ${mapping.region}`, () => this.#regions.unmap(mapping, area));
  }

  allocateDma(bytes: number): Call<DmaMemory> {
    return this.#now('allocate DMA memory', () => this.#dma.allocate(bytes));
  }

  dmaMap(request: DmaMapRequest): Call<IovaRange> {
    return this.#dma.map(request);
  }

  dmaUnmap(range: IovaRange): Call<number> {
    return this.#dma.unmap(range);
  }

  dmaLimits(): Call<DmaLimits> {
    return this.#dma.limits();
  }

  access(request: AccessRequest): Call<Uint8Array> {
    return this.#regions.access(request);
  }

  accessNow(): never {
    this.#requireOpen('access');
    throw new VfioError('VFIO_E_WOULD_BLOCK', 'a device behind a socket answers by message: use request()', { operation: 'access', device: this.name });
  }

  migration(): Call<MigrationTraits | undefined> {
    return this.#migration.traits();
  }

  getState(): Call<State> {
    return this.#migration.getState();
  }

  setState(to: State): Call<StateReply> {
    return this.#migration.setState(to);
  }

  reset(): Call<void> {
    return this.#migration.reset();
  }

  lowPower(enter: boolean): Call<void> {
    const operation = enter ? 'VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY' : 'VFIO_DEVICE_FEATURE_LOW_POWER_EXIT';
    return this.#open(operation, () => throwError(() => new VfioError('VFIO_E_UNSUPPORTED', 'vfio-user has no low power', { operation, device: this.name })));
  }

  /** For a port that nobody got: at once, without a word. */
  abandon(): void {
    this.#closed = true;
    this.#connection.close(new VfioError('VFIO_E_CLOSED', 'given up before it was open', { operation: 'open', device: this.name }));
  }

  close(options: { readonly keepViews?: boolean } = {}): void {
    if (this.#closed) return;
    this.#closed = true;
    const step = (what: string, release: () => void): void => this.#step(what, release);
    const bound = this.clock.scheduler.schedule(() => this.#giveUp(), closeBoundMs);
    const told = (what: string, error?: unknown): void => this.#reports.next(error === undefined ? { what } : { what, error });
    const away = defer(() => {
      this.#regions.close(options.keepViews === true, step);
      this.#dma.freeAll(step);
      this.#connection.end();
      return this.#gone ? of(undefined) : this.#ended;
    });
    this.#irqs.closeAll(step);
    const ended = (): void => {
      bound.unsubscribe();
      this.#reports.next({ what: 'connection closed' });
      this.#reports.complete();
    };
    concat(this.#dma.leave(told), away).subscribe({ complete: ended, error: ended });
  }

  /** Ends when the server has let go, or after ten seconds. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return lastValueFrom(this.released.pipe(ignoreElements()), { defaultValue: undefined });
  }

  #giveUp(): void {
    const error = new VfioError('VFIO_E_DEADLINE', `the server has not let go ${closeBoundMs} ms after it was told: the connection is cut`, { operation: 'close', device: this.name });
    this.#reports.next({ what: 'server stuck', error });
    this.#whenLost(new VfioError('VFIO_E_CANCELED', 'the device was closed, and the server did not answer', { operation: 'close', device: this.name }));
  }

  /** What the server asks of its client: DMA by message, and nothing else. */
  #serve(command: CommandName | undefined, payload: Uint8Array, answer: Answer): void {
    if (command !== 'DMA_READ' && command !== 'DMA_WRITE') {
      answer(errno.ENOSYS);
      return;
    }
    try {
      this.#dma.serve(command, payload, answer);
    } catch (error) {
      if (!VfioError.is(error) || error.code !== 'VFIO_E_PROTOCOL') throw error;
      answer(errno.EINVAL);
    }
  }

  #whenLost(error: VfioError | undefined): void {
    if (this.#gone) return;
    this.#gone = true;
    const reason = error ?? new VfioError('VFIO_E_NO_DEVICE', 'the server has closed the connection: open the device again', { operation: 'vfio-user', device: this.name });
    this.#connection.close(reason);
    this.#lost.error(reason);
    this.#ended.complete();
  }

  /** A remap irq is one only where both sides have said that they speak of remaps, and where its acks carry numbers: nothing else has a way through this socket. */
  #askIrq(index: number, operation: string, argsz: number | undefined, attempts: number): Call<IrqInfo> {
    if (attempts === 0) throw neverSettles(argsz ?? 0, { operation, device: this.name });
    return this.#connection.request('DEVICE_GET_IRQ_INFO', operation, encodeIrqInfoQuery(index, argsz)).pipe(
      concatMap(({ payload }) => {
        const needed = argsz === undefined || payload.length < 4 ? undefined : bytesNeeded(payload, maxAnswerBytes, { operation, device: this.name });
        if (needed !== undefined) return this.#askIrq(index, operation, needed, attempts - 1);
        const info = readIrqInfo(payload, index, this.name);
        if (info.remap === undefined || (this.#server.remap && remapTravels(info))) return of(info);
        return of({ index, flags: 0, count: 0, eventfd: false, maskable: false, automasked: false, noResize: false });
      }),
    );
  }

  #open<T>(operation: string, call: () => Observable<T>): Call<T> {
    return defer(() => {
      this.#requireOpen(operation);
      return call();
    });
  }

  #now<T>(operation: string, body: () => T): Call<T> {
    return nowCall(() => {
      this.#requireOpen(operation);
      return body();
    });
  }

  #absent<T>(errnoName: string, code: VfioErrorCode, message: string, call: Call<T>): Call<T> {
    return new Observable<T>((subscriber) =>
      call.subscribe({
        next: (value) => subscriber.next(value),
        error: (error: unknown) => subscriber.error(VfioError.is(error) && error.errno === errnoName ? new VfioError(code, message, { operation: error.operation, device: this.name, errno: errnoName, cause: error }) : error),
        complete: () => subscriber.complete(),
      }),
    );
  }

  #step(what: string, release: () => void): void {
    try {
      release();
      this.#reports.next({ what });
    } catch (error) {
      this.#reports.next({ what, error });
    }
  }

  #requireOpen(operation: string): void {
    if (this.#closed) throw new VfioError('VFIO_E_CLOSED', 'the device is closed: open it again', { operation, device: this.name });
  }
}
