import { concatMap, lastValueFrom, map, Observable, ReplaySubject } from 'rxjs';
import type { Clock } from '../../clock.js';
import { errnoError, stateErrnoError, VfioError, type VfioErrorCode } from '../../errors.js';
import { closeBoundMs, directCall, nowCall } from '../call.js';
import type {
  AccessRequest, Area, Call, DeviceInfo, DevicePort, DmaLimits, DmaMapRequest, DmaMemory, IovaRange, IrqAct, IrqHandle, IrqInfo, IrqLine, IrqOptions, Mapping, MigrationTraits, PortTraits,
  RegionInfo, ReleaseReport, State, StateReply,
} from '../port.js';
import { IrqRegistry } from '../protocol/irq-registry.js';
import { queryDeviceInfo } from '../uapi/device-info.js';
import { queryIrqInfo } from '../uapi/irq-info.js';
import type { IrqSet } from '../uapi/irq-set.js';
import { queryRegionInfo } from '../uapi/region-info.js';
import { accessDevice } from './access.js';
import { SoftwareDma } from './dma.js';
import { SoftwareDmaLogging } from './dma-logging.js';
import type { Errno } from './errno.js';
import type { SoftEventfd } from './eventfd.js';
import { SoftwareIrqHandle } from './irq-handle.js';
import { lateCall } from './late-call.js';
import { SoftwareMigration } from './migration.js';
import { pageSize } from './options.js';
import type { Outcome } from './state-machine.js';
import type { Timers } from './timers.js';
import type { VendorDriver } from './vendor-driver.js';

const defaultScanMs = 1;

/** A late subscriber sees the last so many steps of a teardown: more than a device has irqs and mappings. */
const keptReports = 1024;

/** The port of a software device: the driver's errnos and bytes as calls. Opened already; `close()` releases the driver. */
export class SoftwarePort implements DevicePort {
  readonly name: string;
  readonly clock: Clock;
  readonly traits: PortTraits = { remapInOneTurn: true, syncAccess: true, pageSize };
  readonly dmaLogging: SoftwareDmaLogging;
  readonly released: Observable<ReleaseReport>;
  readonly #driver: VendorDriver;
  readonly #migration: SoftwareMigration;
  readonly #timers: Timers;
  readonly #dma: SoftwareDma;
  readonly #irqs: IrqRegistry<SoftEventfd | undefined, SoftwareIrqHandle>;
  readonly #reports = new ReplaySubject<ReleaseReport>(keptReports);
  #closed = false;
  #stateCalls = 0;
  #stateIdle: (() => void) | undefined;
  #scanning = false;

  constructor(driver: VendorDriver, timers: Timers) {
    this.#driver = driver;
    this.#timers = timers;
    this.name = driver.shape.name;
    this.#dma = new SoftwareDma({
      device: this.name,
      iommu: driver.dma,
      timers,
      requireOpen: (operation) => { this.#requireOpen(operation); },
      shows: (mapping, area) => driver.isMapped(mapping, area),
      fails: (call) => driver.faults.take(call),
    });
    this.dmaLogging = new SoftwareDmaLogging({
      device: this.name,
      log: driver.dma.log,
      timers,
      requireOpen: (operation) => { this.#requireOpen(operation); },
      fails: (call) => (driver.gone ? 'ENODEV' : driver.faults.take(`dma ${call}`)),
    });
    this.clock = timers.clock;
    this.released = this.#reports.asObservable();
    const irq = {
      device: this.name,
      timers,
      act: (act: IrqAct) => { this.#irqs.act(act); },
      release: (line: Required<IrqLine>) => { this.#irqs.release(line.index, line.vector); },
    };
    this.#irqs = new IrqRegistry<SoftEventfd | undefined, SoftwareIrqHandle>({
      name: this.name,
      none: undefined,
      pci: () => this.#info().pci,
      info: (index) => this.#irqInfo(index),
      make: (index, vector, withAck) => {
        this.#check(driver.faults.take('irq'), 'eventfd');
        return new SoftwareIrqHandle(irq, { index, vector }, withAck);
      },
      set: (set) => { this.#setIrqs(set); },
    });
    this.#migration = new SoftwareMigration({
      driver,
      timers,
      regionInfo: (index) => this.#regionIfThere(index),
      stateCall: (operation, begin, read) => this.#stateCall(operation, begin, read),
      requireOpen: (operation) => { this.#requireOpen(operation); },
    });
  }

  info(): Call<DeviceInfo> {
    return this.#now('VFIO_DEVICE_GET_INFO', () => this.#info());
  }

  regionInfo(index: number): Call<RegionInfo> {
    return this.#now(`VFIO_DEVICE_GET_REGION_INFO(${index})`, (operation) => this.#regionInfo(index, operation));
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
    return this.#now('VFIO_DEVICE_SET_IRQS', () => { this.#irqs.act(act); });
  }

  map(region: number, area: Area): Call<Mapping> {
    return this.#map(region, area);
  }

  mapInto(region: number, area: Area, memory: ArrayBufferLike): Call<Mapping> {
    return this.#map(region, area, memory);
  }

  unmap(mapping: Mapping, area: Area = mapping.area): Call<void> {
    return this.#now('munmap', (operation) => {
      this.#requirePages(area, operation);
      const { offset, size } = mapping.area;
      if (area.offset < offset || area.offset + area.size > offset + size) {
        throw this.#error('VFIO_E_RANGE', `${print(area)} is not inside the mapping ${print(mapping.area)} of region ${mapping.region}`, operation, undefined);
      }
      this.#dma.requireOut(mapping, area);
      this.#driver.munmap(mapping, area);
    });
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
    return lateCall(this.#timers, () => this.accessNow(request));
  }

  accessNow(request: AccessRequest): Uint8Array {
    this.#requireOpen(request.write === undefined ? 'pread' : 'pwrite');
    return accessDevice(this.#driver, request);
  }

  migration(): Call<MigrationTraits | undefined> {
    return this.#now('VFIO_DEVICE_FEATURE_MIGRATION', (operation) => this.#migration.traits(operation));
  }

  getState(): Call<State> {
    return this.#migration.getState();
  }

  setState(to: State): Call<StateReply> {
    return this.#migration.setState(to);
  }

  reset(): Call<void> {
    return this.#stateCall('VFIO_DEVICE_RESET', (done) => { this.#driver.reset(done); }, () => { this.#migration.wasReset(); });
  }

  lowPower(enter: boolean): Call<void> {
    const operation = enter ? 'VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY' : 'VFIO_DEVICE_FEATURE_LOW_POWER_EXIT';
    return lateCall(this.#timers, () => {
      this.#requireOpen(operation);
      this.#check(this.#driver.lowPower(enter), operation);
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const irq of this.#irqs.registered) {
      irq.release();
      this.#reports.next({ what: `irq ${irq.line.index}${irq.vector === 0 ? '' : `, vector ${irq.vector},`} disabled` });
    }
    const finish = (): void => {
      this.#dma.leave((what, error) => { this.#reports.next(error === undefined ? { what } : { what, error }); });
      for (const mapping of this.#driver.mappings) {
        const what = `region ${mapping.region} ${print(mapping.area)} unmapped`;
        try {
          this.#dma.requireOut(mapping, mapping.area);
          this.#driver.munmap(mapping, mapping.area);
          this.#reports.next({ what });
        } catch (error) {
          this.#reports.next({ what, error });
        }
      }
      this.#driver.release();
      this.#reports.next({ what: 'device closed' });
      this.#reports.complete();
    };
    if (this.#stateCalls === 0) {
      this.#timers.soon(finish);
      return;
    }
    const bound = this.#timers.afterMs(closeBoundMs, () => {
      const error = this.#error('VFIO_E_DEADLINE', `a call has not returned from the vendor driver ${closeBoundMs} ms after the irqs were disabled; the device is released when it does`, 'close', undefined);
      this.#reports.next({ what: 'call stuck', error });
    });
    this.#stateIdle = () => {
      bound.unsubscribe();
      this.#reports.next({ what: 'device_state call returned' });
      finish();
    };
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return lastValueFrom(this.released.pipe(map(() => undefined)), { defaultValue: undefined });
  }

  #map(region: number, area: Area, memory?: ArrayBufferLike): Call<Mapping> {
    return this.#now('mmap', (operation) => {
      this.#requirePages(area, operation);
      if (memory !== undefined && memory.byteLength !== area.size) throw this.#error('VFIO_E_RANGE', `${memory.byteLength} bytes of memory are not ${print(area)}`, operation, undefined);
      const mapping = this.#driver.mmap(region, area, memory);
      if (mapping === 'EINVAL') throw this.#error('VFIO_E_RANGE', `region ${region} does not offer ${print(area)} now: ask for its layout again`, operation, mapping);
      if (mapping === 'EBUSY') throw this.#error('VFIO_E_BUSY', `some of ${print(area)} of region ${region} is mapped already, and this device gives a page to one mapping at a time`, operation, mapping);
      if (typeof mapping === 'string') throw errnoError(mapping, operation, this.name);
      if (region === this.#driver.shape.mailbox) this.#scan();
      return mapping;
    });
  }

  /** A call on the state lane: begun in a later turn, answered in one later still, counted until then. */
  #stateCall<T>(operation: string, begin: (done: (outcome: Outcome) => void) => void, read: (outcome: Outcome & { errno?: never }) => T): Call<T> {
    return directCall<T>((asker) => {
      if (this.#closed) { asker.failed(this.#closedError(operation)); return undefined; }
      this.#stateCalls += 1;
      let wanted = true;
      const fail = (error: unknown): void => { if (wanted) asker.failed(error); };
      const answer = (deliver: () => void): void => {
        this.#timers.later(() => {
          this.#stateCalls -= 1;
          deliver();
          if (this.#stateCalls === 0) this.#stateIdle?.();
        });
      };
      this.#timers.later(() => {
        try {
          this.#requireOpen(operation);
          begin((outcome) => {
            answer(() => {
              if (outcome.errno !== undefined) { fail(stateErrnoError(outcome.errno, operation, this.name)); return; }
              const value = read(outcome);
              if (wanted) asker.answered(value);
            });
          });
        } catch (error) {
          answer(() => { fail(error); });
        }
      });
      return () => (wanted = false);
    });
  }

  #info(): DeviceInfo {
    return queryDeviceInfo((buffer) => { this.#check(this.#driver.info(buffer), 'VFIO_DEVICE_GET_INFO'); }, this.name);
  }

  #irqInfo(index: number): IrqInfo {
    const operation = `VFIO_DEVICE_GET_IRQ_INFO(${index})`;
    return queryIrqInfo(index, (buffer) => {
      const errno = this.#driver.irqInfo(index, buffer);
      if (errno === 'EINVAL') throw this.#error('VFIO_E_NO_IRQ', `this device has no irq ${index}`, operation, errno);
      this.#check(errno, operation);
    }, this.name);
  }

  #regionInfo(index: number, operation: string): RegionInfo {
    return queryRegionInfo(index, (buffer) => {
      const errno = this.#driver.regionInfo(index, buffer);
      if (errno === 'EINVAL') throw this.#error('VFIO_E_NO_REGION', `this device has no region ${index}`, operation, errno);
      this.#check(errno, operation);
    }, this.name);
  }

  #setIrqs(set: IrqSet<SoftEventfd | undefined>): void {
    const { index, action, data } = set;
    const operation = `VFIO_DEVICE_SET_IRQS(${index}) ${action} by ${data}`;
    const errno = this.#driver.setIrqs(set);
    if (errno === 'EINVAL') throw this.#error('VFIO_E_NO_IRQ', `this device does not take this for irq ${index} now`, operation, errno);
    this.#check(errno, operation);
  }

  #regionIfThere(index: number): RegionInfo | undefined {
    try {
      return this.#regionInfo(index, `VFIO_DEVICE_GET_REGION_INFO(${index})`);
    } catch (error) {
      if (VfioError.is(error) && error.code === 'VFIO_E_NO_REGION') return undefined;
      throw error;
    }
  }

  #now<T>(operation: string, body: (operation: string) => T): Call<T> {
    return nowCall(() => {
      this.#requireOpen(operation);
      return body(operation);
    });
  }

  /** Looks through the mapped mailbox from time to time, for as long as there is something mapped. */
  #scan(): void {
    const scanMs = this.#driver.shape.scanMs ?? (this.clock.virtual ? false : defaultScanMs);
    if (scanMs === false || this.#scanning) return;
    this.#scanning = true;
    const again = (): void => {
      this.#timers.afterMs(scanMs, () => {
        if (this.#driver.scan()) again();
        else this.#scanning = false;
      });
    };
    again();
  }

  #requireOpen(operation: string): void {
    if (this.#closed) throw this.#closedError(operation);
  }

  #requirePages(area: Area, operation: string): void {
    const whole = (value: number): boolean => Number.isSafeInteger(value) && value >= 0 && value % pageSize === 0;
    if (whole(area.offset) && whole(area.size) && area.size > 0) return;
    throw this.#error('VFIO_E_RANGE', `${print(area)} is not made of whole pages of ${pageSize} bytes`, operation, 'EINVAL');
  }

  #check(errno: Errno | undefined, operation: string): void {
    if (errno !== undefined) throw errnoError(errno, operation, this.name);
  }

  #closedError(operation: string): VfioError {
    return this.#error('VFIO_E_CLOSED', 'this device is closed', operation, undefined);
  }

  #error(code: VfioErrorCode, message: string, operation: string, errno: Errno | undefined): VfioError {
    return new VfioError(code, message, { operation, device: this.name, errno });
  }
}

function print(area: Area): string {
  return `0x${area.offset.toString(16)}+0x${area.size.toString(16)}`;
}
