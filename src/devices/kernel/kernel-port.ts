import { concatMap, defer, ignoreElements, lastValueFrom, map, ReplaySubject, type Observable } from 'rxjs';
import type { Clock } from '../../clock.js';
import { VfioError, type VfioErrorCode } from '../../errors.js';
import { closeBoundMs, nowCall } from '../call.js';
import type { LaneRequest } from '../linux/lane-request.js';
import type { LanePool } from '../linux/lanes.js';
import type { Reactor } from '../linux/reactor.js';
import type { Syscalls } from '../linux/syscalls.js';
import type { AccessRequest, Area, Call, DeviceInfo, DevicePort, DmaLimits, DmaLogging, DmaMapRequest, DmaMemory, IovaRange, IrqHandle, IrqInfo, IrqLine, IrqOptions, Mapping, MigrationTraits, PortTraits, RegionInfo, ReleaseReport, State, StateReply } from '../port.js';
import { IrqRegistry } from '../protocol/irq-registry.js';
import { VFIO_DEVICE_FEATURE, VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, VFIO_DEVICE_FEATURE_LOW_POWER_EXIT, VFIO_DEVICE_GET_INFO, VFIO_DEVICE_GET_IRQ_INFO, VFIO_DEVICE_GET_REGION_INFO, VFIO_DEVICE_RESET, VFIO_DEVICE_SET_IRQS } from '../uapi/constants.js';
import { encodeFeature } from '../uapi/device-feature.js';
import { queryDeviceInfo } from '../uapi/device-info.js';
import { queryIrqInfo } from '../uapi/irq-info.js';
import { encodeIrqSet, type IrqAct, type IrqSet } from '../uapi/irq-set.js';
import { queryRegionInfo } from '../uapi/region-info.js';
import { KernelDma } from './dma.js';
import { KernelDmaLogging, type DmaLoggingParts } from './dma-logging.js';
import { EitherLogging, HwptLogging } from './hwpt-logging.js';
import { KernelIrq } from './irq-handle.js';
import { LaneCalls } from './lane-calls.js';
import { KernelMappings } from './mappings.js';
import { KernelMigration } from './migration.js';
import type { OpenedDevice } from './opened-device.js';

/** What a kernel port is made of; tests put doubles between it and the kernel. */
export interface KernelParts {
  readonly calls: Syscalls;
  readonly reactor: Reactor;
  readonly pool: Pick<LanePool, 'lane'> & Partial<Pick<LanePool, 'maxBlockedThreads'>>;
  readonly clock: Clock;
}

/** A late subscriber of `released` is told so many steps: more than a device has irqs and mappings. */
const mostReports = 1024;

/**
 * A device of the kernel, whichever way it was opened: every call of the port is one ioctl, mmap, pread or pwrite.
 *
 * Closing waits for the calls that are out, however long that takes: a fd that is closed under a thread in a call on it
 * goes to the next file that is opened, and the thread, or a call that waits behind it, would work on that. A call that
 * does not return is reported in `released` after ten seconds (VFIO_E_DEADLINE); fds and mappings then stay, and
 * `released` stays open, until it does. Only the end of the process frees a driver that never answers, and
 * `process.exit()` waits for a blocked thread: `process.kill(process.pid, 'SIGKILL')` does not.
 */
export class KernelPort implements DevicePort {
  readonly name: string;
  readonly clock: Clock;
  readonly traits: PortTraits;
  readonly dmaLogging: DmaLogging;
  readonly released: Observable<ReleaseReport>;
  readonly #parts: KernelParts;
  readonly #fd: number;
  readonly #opened: OpenedDevice;
  readonly #mappings: KernelMappings;
  readonly #laneCalls: LaneCalls;
  readonly #dma: KernelDma;
  readonly #irqs: IrqRegistry<number, KernelIrq>;
  readonly #migration: KernelMigration;
  /** Where each region lies in the device's file: unlike its layout that never changes. */
  readonly #places = new Map<number, { readonly fileOffset: number; readonly size: number }>();
  readonly #reports = new ReplaySubject<ReleaseReport>(mostReports);
  #closed = false;

  constructor(opened: OpenedDevice, parts: KernelParts) {
    const { name, fd } = opened;
    this.name = name;
    this.clock = parts.clock;
    const { maxBlockedThreads } = parts.pool;
    this.traits = { remapInOneTurn: true, syncAccess: true, pageSize: parts.calls.binding.pageSize, ...(maxBlockedThreads === undefined ? {} : { maxBlockedThreads }) };
    this.released = this.#reports.asObservable();
    this.#parts = parts;
    this.#fd = fd;
    this.#opened = opened;
    this.#mappings = new KernelMappings(fd, parts.calls, name, (mapping, area) => this.#dma.requireOut(mapping, area));
    this.#laneCalls = new LaneCalls(parts.pool, name);
    const irq = {
      device: name,
      calls: parts.calls,
      reactor: parts.reactor,
      act: (act: IrqAct) => this.#irqs.act(act),
      release: (line: Required<IrqLine>) => this.#irqs.release(line.index, line.vector),
    };
    this.#irqs = new IrqRegistry({
      name,
      none: -1,
      pci: () => this.#deviceInfo().pci,
      info: (index) => this.#irqInfo(index),
      make: (index, vector, withAck) => new KernelIrq(irq, { index, vector }, withAck),
      set: (set) => this.#setIrqs(set),
    });
    this.#migration = new KernelMigration({
      device: name,
      fd,
      calls: parts.calls,
      laneCalls: this.#laneCalls,
      mappings: this.#mappings,
      ioctl: (request, argument, operation) => this.#ioctl(request, argument, operation),
      regionCount: () => this.#deviceInfo().regions,
      regionInfo: (index) => this.#queryIfThere(index),
      requireOpen: (operation) => this.#requireOpen(operation),
    });
    const log: DmaLoggingParts = {
      device: name,
      fd,
      calls: parts.calls,
      submit: (request) => this.#laneCalls.submit('dma log', request),
      requireOpen: (operation) => this.#requireOpen(operation),
    };
    const own = new KernelDmaLogging(log);
    this.dmaLogging = opened.tracking === undefined ? own : new EitherLogging(own, new HwptLogging(opened.tracking, log));
    this.#dma = new KernelDma({
      device: name,
      space: opened.space,
      calls: parts.calls,
      submit: (request) => this.#laneCalls.submit('dma', request),
      requireOpen: (operation) => this.#requireOpen(operation),
      shows: (mapping, area) => this.#mappings.shows(mapping, area),
    });
  }

  info(): Call<DeviceInfo> {
    return this.#now('VFIO_DEVICE_GET_INFO', () => this.#deviceInfo());
  }

  regionInfo(index: number): Call<RegionInfo> {
    return this.#now(`VFIO_DEVICE_GET_REGION_INFO(${index})`, () => this.#query(index));
  }

  irqInfo(index: number): Call<IrqInfo> {
    return this.#now(`VFIO_DEVICE_GET_IRQ_INFO(${index})`, () => this.#irqInfo(index));
  }

  irq(line: IrqLine, options?: IrqOptions): Call<IrqHandle> {
    return this.irqs(line.index, [line.vector ?? 0], options).pipe(concatMap((handles) => handles));
  }

  irqs(index: number, vectors: readonly number[], options: IrqOptions = {}): Call<readonly IrqHandle[]> {
    return this.#now('VFIO_DEVICE_SET_IRQS', () => this.#irqs.register(index, vectors, options.ackFd === true));
  }

  setIrqs(act: IrqAct): Call<void> {
    return this.#now('VFIO_DEVICE_SET_IRQS', () => this.#irqs.act(act));
  }

  map(region: number, area: Area): Call<Mapping> {
    return this.#now(`mmap region ${region}`, () => this.#mappings.map(this.#query(region), area));
  }

  unmap(mapping: Mapping, area: Area = mapping.area): Call<void> {
    return this.#now(`munmap region ${mapping.region}`, () => this.#mappings.unmap(mapping, area));
  }

  allocateDma(bytes: number): Call<DmaMemory> {
    return this.#now('allocate DMA memory', () => this.#dma.allocate(bytes));
  }

  importDma(memory: ArrayBufferLike): Call<DmaMemory> {
    return this.#now('import DMA memory', () => this.#dma.adopt(memory));
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
    return defer(() => {
      const { operation, position } = this.#locate(request);
      const { write, readBytes = 0 } = request;
      const where = { fd: this.#fd, offset: position, operation, device: this.name };
      const call: LaneRequest = write === undefined ? { op: 'pread', length: readBytes, ...where } : { op: 'pwrite', bytes: write, ...where };
      return this.#laneCalls.submit('access', call).pipe(map(({ value, bytes }) => this.#whole(value, write?.length ?? readBytes, operation, bytes)));
    });
  }

  accessNow(request: AccessRequest): Uint8Array {
    const { operation, position } = this.#locate(request);
    const names = { operation, device: this.name };
    const { write, readBytes = 0 } = request;
    const bytes = write ?? new Uint8Array(readBytes);
    const { calls } = this.#parts;
    const value = write === undefined ? calls.pread(this.#fd, bytes, position, names) : calls.pwrite(this.#fd, bytes, position, names);
    return this.#whole(value, bytes.length, operation, bytes);
  }

  migration(): Call<MigrationTraits | undefined> {
    return this.#now('VFIO_DEVICE_FEATURE_MIGRATION', () => this.#migration.traits());
  }

  getState(): Call<State> {
    return this.#migration.getState();
  }

  setState(to: State): Call<StateReply> {
    return this.#migration.setState(to);
  }

  reset(): Call<void> {
    const operation = 'VFIO_DEVICE_RESET';
    return defer(() => {
      this.#requireOpen(operation);
      return this.#laneCalls.submit('state', { op: 'ioctl', fd: this.#fd, request: VFIO_DEVICE_RESET, argument: 0, operation, device: this.name }).pipe(map(() => this.#migration.wasReset()));
    });
  }

  /** On the access lane: it may sleep, and a trapped access would only wait for it. */
  lowPower(enter: boolean): Call<void> {
    return defer(() => {
      const operation = enter ? 'VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY' : 'VFIO_DEVICE_FEATURE_LOW_POWER_EXIT';
      this.#requireOpen(operation);
      const argument = encodeFeature(enter ? VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY : VFIO_DEVICE_FEATURE_LOW_POWER_EXIT, 'set');
      return this.#laneCalls.submit('access', { op: 'ioctl', fd: this.#fd, request: VFIO_DEVICE_FEATURE, argument, operation, device: this.name }).pipe(map(() => undefined));
    });
  }

  close(options: { readonly keepViews?: boolean } = {}): void {
    if (this.#closed) return;
    this.#closed = true;
    // First of all: this frees a write of device_state that waits for an ack.
    for (const irq of this.#irqs.registered) this.#step(`irq ${irq.line.index}${irq.vector === 0 ? '' : `, vector ${irq.vector},`} disabled`, () => irq.release());
    this.#whenIdle(() => {
      this.#dma.leave((what, error) => this.#reports.next(error === undefined ? { what } : { what, error }));
      this.#whenIdle(() => this.#releaseRest(options.keepViews === true));
    });
  }

  /** No call is out, hence no thread can meet a fd that is closed then. */
  #whenIdle(then: () => void): void {
    let waited = false;
    this.#laneCalls.drain(this.clock.scheduler, closeBoundMs, {
      stuck: () => {
        waited = true;
        this.#reports.next({ what: 'call stuck', error: this.#stuckError() });
      },
      done: () => {
        if (waited) this.#reports.next({ what: 'stuck call returned' });
        then();
      },
    });
  }

  /** Ends when `released` completes: with a call that is stuck in the vendor driver, not before that returns. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return lastValueFrom(this.released.pipe(ignoreElements()), { defaultValue: undefined });
  }

  #releaseRest(keepViews: boolean): void {
    this.#migration.release((what, release) => this.#step(what, release));
    this.#mappings.close(keepViews, (what, release) => this.#step(what, release));
    this.#dma.freeAll((what, release) => this.#step(what, release));
    this.#opened.release((what, release) => this.#step(what, release));
    this.#reports.complete();
  }

  #stuckError(): VfioError {
    const message = `a call has not returned from the vendor driver ${closeBoundMs} ms after the irqs were disabled; the device is released when it does, or with the process (SIGKILL: a blocked thread holds up process.exit())`;
    return new VfioError('VFIO_E_DEADLINE', message, { operation: 'close', device: this.name });
  }

  #step(what: string, release: () => void): void {
    try {
      release();
      this.#reports.next({ what });
    } catch (error) {
      this.#reports.next({ what, error });
    }
  }

  #now<T>(operation: string, body: (operation: string) => T): Call<T> {
    return nowCall(() => {
      this.#requireOpen(operation);
      return body(operation);
    });
  }

  #deviceInfo(): DeviceInfo {
    return queryDeviceInfo((bytes) => this.#ioctl(VFIO_DEVICE_GET_INFO, bytes, 'VFIO_DEVICE_GET_INFO'), this.name);
  }

  #irqInfo(index: number): IrqInfo {
    const operation = `VFIO_DEVICE_GET_IRQ_INFO(${index})`;
    return this.#absent('VFIO_E_NO_IRQ', `the device has no irq ${index}`, () =>
      queryIrqInfo(index, (bytes) => this.#ioctl(VFIO_DEVICE_GET_IRQ_INFO, bytes, operation), this.name),
    );
  }

  #setIrqs(set: IrqSet): void {
    const { index, action, data } = set;
    const operation = `VFIO_DEVICE_SET_IRQS(${index}) ${action} by ${data}`;
    const left = this.#absent('VFIO_E_NO_IRQ', `the device does not take this for irq ${index} now`, () => this.#ioctl(VFIO_DEVICE_SET_IRQS, encodeIrqSet(set, this.name), operation));
    // Not an errno: so many vectors could have been had.
    if (left > 0) throw new VfioError('VFIO_E_LIMIT', `the kernel has no more than ${left} vectors for irq ${index} now; nothing was enabled`, { operation, device: this.name });
  }

  #queryIfThere(index: number): RegionInfo | undefined {
    try {
      return this.#query(index);
    } catch (error) {
      if (VfioError.is(error) && error.code === 'VFIO_E_NO_REGION') return undefined;
      throw error;
    }
  }

  #query(index: number): RegionInfo {
    const operation = `VFIO_DEVICE_GET_REGION_INFO(${index})`;
    const layout = this.#absent('VFIO_E_NO_REGION', `the device has no region ${index}`, () =>
      queryRegionInfo(index, (bytes) => this.#ioctl(VFIO_DEVICE_GET_REGION_INFO, bytes, operation), this.name),
    );
    this.#places.set(index, { fileOffset: layout.fileOffset, size: layout.size });
    return layout;
  }

  #ioctl(request: number, argument: Uint8Array, operation: string): number {
    return this.#parts.calls.ioctl(this.#fd, request, argument, { operation, device: this.name });
  }

  /** EINVAL is how the kernel says that an index is not there. */
  #absent<T>(code: VfioErrorCode, message: string, call: () => T): T {
    try {
      return call();
    } catch (error) {
      if (!VfioError.is(error) || error.errno !== 'EINVAL') throw error;
      throw new VfioError(code, message, { operation: error.operation, device: this.name, errno: error.errno, cause: error });
    }
  }

  /** Where in the device's file a trapped access goes. */
  #locate(request: AccessRequest): { readonly operation: string; readonly position: bigint } {
    const { region, offset, write, readBytes } = request;
    const operation = `${write === undefined ? 'pread' : 'pwrite'} region ${region}`;
    this.#requireOpen(operation);
    this.#migration.refuseStateWrite(request, operation);
    const { fileOffset, size } = this.#places.get(region) ?? this.#query(region);
    const length = write?.byteLength ?? readBytes ?? 0;
    if (!(length > 0) || !Number.isSafeInteger(offset) || offset < 0 || offset + length > size) {
      throw new VfioError('VFIO_E_RANGE', `${length} bytes at ${offset}: the region has ${size} bytes`, { operation, device: this.name });
    }
    return { operation, position: BigInt(fileOffset + offset) };
  }

  #whole(value: number, length: number, operation: string, bytes: Uint8Array): Uint8Array {
    if (value === length) return bytes;
    throw new VfioError('VFIO_E_PROTOCOL', `the driver moved ${value} of ${length} bytes`, { operation, device: this.name });
  }

  #requireOpen(operation: string): void {
    if (this.#closed) throw new VfioError('VFIO_E_CLOSED', 'the device is closed: open it again', { operation, device: this.name });
  }
}
