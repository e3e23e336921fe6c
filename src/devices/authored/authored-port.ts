import { concatMap, defer, lastValueFrom, map, Observable, of, ReplaySubject } from 'rxjs';
import type { Clock } from '../../clock.js';
import { errnoError, VfioError, type VfioErrorCode } from '../../errors.js';
import { nowCall } from '../call.js';
import type {
  AccessRequest, Call, DeviceInfo, DevicePort, DmaLimits, DmaMapRequest, DmaMemory, IovaRange, IrqAct, IrqHandle, IrqInfo, IrqLine, IrqOptions, Mapping, MigrationTraits, PortTraits,
  RegionInfo, ReleaseReport, RemoteDmaRequest, State, StateReply,
} from '../port.js';
import { IrqRegistry } from '../protocol/irq-registry.js';
import { SoftwareDma, Iommu } from '../software/dma.js';
import { SoftwareDmaLogging } from '../software/dma-logging.js';
import type { SoftEventfd } from '../software/eventfd.js';
import { SoftwareIrqHandle } from '../software/irq-handle.js';
import { lateCall } from '../software/late-call.js';
import { pageSize } from '../software/options.js';
import type { Timers } from '../software/timers.js';
import { steps, type Steps } from '../steps.js';
import {
  VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE,
} from '../uapi/constants.js';
import type { IrqSet } from '../uapi/irq-set.js';
import { piecesOf, type Piece } from './access.js';
import { RunningBehaviour, type DeviceBehaviour } from './behaviour.js';
import { configImage } from './config-image.js';
import { ConfigRegisters } from './config-registers.js';
import type { PciDeviceShape } from './description.js';
import { DeviceMemory } from './guest-memory.js';
import { AuthoredIrqs } from './irqs.js';
import { MsixTable } from './msix-table.js';

/** Steps of a teardown that a late subscriber is told. */
const keptReports = 1024;

/** Of one access, before the loop has its turn. */
const registersPerTurn = 256;

const nothing = new Uint8Array(0);

/** The port of a device that its author describes and writes as a stream: configuration space, irqs and memory are kept here, the registers are the author's. */
export class AuthoredPort implements DevicePort {
  readonly name: string;
  readonly clock: Clock;
  readonly traits: PortTraits = { remapInOneTurn: true, syncAccess: false, pageSize };
  readonly dmaLogging: SoftwareDmaLogging;
  readonly released: Observable<ReleaseReport>;
  readonly #shape: PciDeviceShape;
  readonly #behaviour: DeviceBehaviour;
  readonly #timers: Timers;
  readonly #config: ConfigRegisters;
  readonly #table: MsixTable | undefined;
  readonly #irqs: AuthoredIrqs;
  readonly #registry: IrqRegistry<SoftEventfd | undefined, SoftwareIrqHandle>;
  readonly #dma: SoftwareDma;
  readonly #memory: DeviceMemory;
  readonly #reports = new ReplaySubject<ReleaseReport>(keptReports);
  #running: RunningBehaviour;
  #closed = false;

  constructor(shape: PciDeviceShape, behaviour: DeviceBehaviour, timers: Timers) {
    this.#shape = shape;
    this.#behaviour = behaviour;
    this.#timers = timers;
    this.name = shape.name;
    this.clock = timers.clock;
    this.released = this.#reports.asObservable();
    this.#config = new ConfigRegisters(configImage(shape));
    this.#table = shape.msix === undefined ? undefined : new MsixTable(shape.msix);
    this.#irqs = new AuthoredIrqs(shape, this.#config, timers.clock);
    this.#registry = this.#makeRegistry();
    const requireOpen = (operation: string): void => { this.#requireOpen(operation); };
    const iommu = new Iommu(undefined);
    this.#dma = new SoftwareDma({ device: this.name, iommu, timers, requireOpen, shows: () => false, fails: () => undefined });
    this.dmaLogging = new SoftwareDmaLogging({ device: this.name, log: undefined, timers, requireOpen, fails: () => undefined });
    this.#memory = new DeviceMemory(this.name, iommu, () => this.#config.command.busMaster);
    this.#running = this.#start();
  }

  info(): Call<DeviceInfo> {
    return this.#now('VFIO_DEVICE_GET_INFO', () => ({ flags: VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI, regions: VFIO_PCI_NUM_REGIONS, irqs: VFIO_PCI_NUM_IRQS, pci: true, reset: true }));
  }

  regionInfo(index: number): Call<RegionInfo> {
    return this.#now(`VFIO_DEVICE_GET_REGION_INFO(${index})`, (operation) => {
      const size = this.#sizeOf(index, operation);
      const flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
      return { index, flags, readable: true, writable: true, mmappable: false, size, fileOffset: index * 2 ** 40, areas: [], msixMappable: false };
    });
  }

  irqInfo(index: number): Call<IrqInfo> {
    return this.#now(`VFIO_DEVICE_GET_IRQ_INFO(${index})`, (operation) => this.#irqInfo(index, operation));
  }

  irq(line: IrqLine, options?: IrqOptions): Call<IrqHandle> {
    return this.irqs(line.index, [line.vector ?? 0], options).pipe(concatMap((handles) => handles));
  }

  irqs(index: number, vectors: readonly number[], options: IrqOptions = {}): Call<readonly IrqHandle[]> {
    return this.#now('VFIO_DEVICE_SET_IRQS', () => this.#registry.register(index, vectors, options.ackFd === true));
  }

  setIrqs(act: IrqAct): Call<void> {
    return this.#now('VFIO_DEVICE_SET_IRQS', () => { this.#registry.act(act); });
  }

  map(region: number): Call<Mapping> {
    return this.#now('mmap', (operation) => {
      throw this.#error('VFIO_E_RANGE', `the registers of region ${region} are messages to whoever wrote this device: none of them can be mapped`, operation);
    });
  }

  unmap(mapping: Mapping): Call<void> {
    return this.#now('munmap', (operation) => {
      throw this.#error('VFIO_E_RANGE', `nothing of region ${mapping.region} is mapped`, operation);
    });
  }

  allocateDma(bytes: number): Call<DmaMemory> {
    return this.#now('allocate DMA memory', () => this.#dma.allocate(bytes));
  }

  importDma(memory: ArrayBufferLike): Call<DmaMemory> {
    return this.#now('import DMA memory', () => this.#dma.adopt(memory));
  }

  dmaMap(request: DmaMapRequest): Call<IovaRange> {
    return defer(() => {
      if (this.#memory.hasRemote(request)) throw this.#error('VFIO_E_BUSY', 'the range overlaps one that is mapped already', 'VFIO_IOMMU_MAP_DMA');
      return this.#dma.map(request);
    });
  }

  dmaMapRemote(request: RemoteDmaRequest): Call<IovaRange> {
    return this.#now('VFIO_IOMMU_MAP_DMA', () => {
      this.#memory.addRemote(request);
      return { iova: request.iova, size: request.size };
    });
  }

  dmaUnmap(range: IovaRange): Call<number> {
    return defer(() => this.#dma.unmap(range)).pipe(map((bytes) => bytes + this.#memory.removeRemote(range)));
  }

  dmaLimits(): Call<DmaLimits> {
    return this.#dma.limits();
  }

  access(request: AccessRequest): Call<Uint8Array> {
    return defer(() => {
      const operation = request.write === undefined ? 'pread' : 'pwrite';
      this.#requireOpen(operation);
      const { region, offset, write, readBytes } = request;
      if ((write === undefined) === (readBytes === undefined)) throw this.#error('VFIO_E_RANGE', 'an access has exactly one of write and readBytes', operation);
      const bytes = write?.length ?? readBytes ?? 0;
      const size = this.#sizeOf(region, operation);
      if (!Number.isSafeInteger(offset) || offset < 0 || !Number.isSafeInteger(bytes) || bytes < 1 || offset + bytes > size) {
        throw this.#error('VFIO_E_RANGE', `${bytes} bytes at 0x${offset.toString(16)} are not inside region ${region} of ${size} bytes`, operation);
      }
      if ((bytes === 2 || bytes === 4 || bytes === 8) && offset % bytes !== 0) throw this.#error('VFIO_E_RANGE', `${bytes} bytes at 0x${offset.toString(16)} are not naturally aligned`, operation);
      if (region === VFIO_PCI_CONFIG_REGION_INDEX) return of(this.#configAccess(offset, bytes, write));
      // A long one has several turns, and the bytes are the caller's.
      const written = write !== undefined && bytes > registersPerTurn ? new Uint8Array(write) : write;
      return steps(() => this.#registers(region, offset, bytes, written, operation));
    });
  }

  accessNow(request: AccessRequest): Uint8Array {
    throw this.#error('VFIO_E_WOULD_BLOCK', 'registers may be answered later: use request()', request.write === undefined ? 'pread' : 'pwrite');
  }

  migration(): Call<MigrationTraits | undefined> {
    return this.#now('VFIO_DEVICE_FEATURE_MIGRATION', () => undefined);
  }

  getState(): Call<State> {
    return this.#noFeature('VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE');
  }

  setState(): Call<StateReply> {
    return this.#noFeature('VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE');
  }

  reset(): Call<void> {
    return lateCall(this.#timers, () => {
      this.#requireOpen('VFIO_DEVICE_RESET');
      this.#running.stop(this.#error('VFIO_E_CANCELED', 'the device was reset meanwhile', 'register access'));
      this.#config.reset();
      this.#table?.reset();
      this.#irqs.reset();
      this.#running = this.#start();
    });
  }

  lowPower(enter: boolean): Call<void> {
    return this.#noFeature(`VFIO_DEVICE_FEATURE_LOW_POWER_${enter ? 'ENTRY' : 'EXIT'}`);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#running.stop(this.#closedError('register access'));
    for (const irq of this.#registry.registered) {
      irq.release();
      this.#reports.next({ what: `irq ${irq.line.index}${irq.vector === 0 ? '' : `, vector ${irq.vector},`} disabled` });
    }
    this.#timers.soon(() => {
      this.#dma.leave((what, error) => { this.#reports.next(error === undefined ? { what } : { what, error }); });
      this.#reports.next({ what: 'device closed' });
      this.#reports.complete();
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return lastValueFrom(this.released.pipe(map(() => undefined)), { defaultValue: undefined });
  }

  #start(): RunningBehaviour {
    return new RunningBehaviour(this.#behaviour, { device: this.name, timers: this.#timers, memory: this.#memory, irq: (irq) => { this.#irqs.emitted(irq); } });
  }

  #makeRegistry(): IrqRegistry<SoftEventfd | undefined, SoftwareIrqHandle> {
    const context = {
      device: this.name,
      timers: this.#timers,
      act: (act: IrqAct) => { this.#registry.act(act); },
      release: (line: Required<IrqLine>) => { this.#registry.release(line.index, line.vector); },
    };
    return new IrqRegistry<SoftEventfd | undefined, SoftwareIrqHandle>({
      name: this.name,
      none: undefined,
      pci: () => true,
      info: (index) => this.#irqInfo(index, 'VFIO_DEVICE_SET_IRQS'),
      make: (index, vector, withAck) => new SoftwareIrqHandle(context, { index, vector }, withAck),
      set: (set) => { this.#setIrqs(set); },
    });
  }

  #setIrqs(set: IrqSet<SoftEventfd | undefined>): void {
    const errno = this.#irqs.set(set);
    if (errno !== undefined) throw errnoError(errno, `VFIO_DEVICE_SET_IRQS(${set.index}) ${set.action} by ${set.data}`, this.name);
  }

  #irqInfo(index: number, operation: string): IrqInfo {
    if (!Number.isInteger(index) || index < 0 || index >= VFIO_PCI_NUM_IRQS) throw this.#error('VFIO_E_NO_IRQ', `this device has no irq ${index}`, operation);
    return this.#irqs.info(index);
  }

  #sizeOf(region: number, operation: string): number {
    if (region === VFIO_PCI_CONFIG_REGION_INDEX) return this.#config.size;
    const size = this.#shape.bars.find(({ index }) => index === region)?.size;
    if (size === undefined) throw this.#error('VFIO_E_NO_REGION', `this device has no region ${region}`, operation);
    return size;
  }

  #configAccess(offset: number, bytes: number, write: Uint8Array | undefined): Uint8Array {
    if (write === undefined) return this.#config.read(offset, bytes);
    this.#config.write(offset, write);
    this.#irqs.commanded();
    return nothing;
  }

  /** Register by register. A long access has several turns of the loop: others have theirs in between, and what stops the device stops it. */
  *#registers(bar: number, offset: number, bytes: number, write: Uint8Array | undefined, operation: string): Steps<Uint8Array> {
    const running = this.#running;
    const whole = new Uint8Array(write === undefined ? bytes : 0);
    let made = 0;
    for (const piece of piecesOf(offset, bytes)) {
      if (made > 0 && made % registersPerTurn === 0) {
        yield lateCall(this.#timers, () => undefined);
        this.#requireOpen(operation);
        if (running !== this.#running) throw this.#error('VFIO_E_CANCELED', 'the device was reset meanwhile', operation);
      }
      made += 1;
      const at = piece.offset - offset;
      const part = (yield this.#piece(bar, piece, write?.subarray(at, at + piece.size))) as Uint8Array;
      if (write === undefined) whole.set(part, at);
    }
    return whole;
  }

  #piece(bar: number, piece: Piece, write: Uint8Array | undefined): Call<Uint8Array> {
    const table = this.#table?.has(bar, piece.offset) === true ? this.#table : undefined;
    if (write === undefined) return table === undefined ? this.#running.read(bar, piece) : of(table.read(piece.offset, piece.size));
    if (table === undefined) this.#running.write(bar, piece, write);
    else table.write(piece.offset, write);
    return of(nothing);
  }

  #noFeature<T>(operation: string): Call<T> {
    return lateCall(this.#timers, () => {
      this.#requireOpen(operation);
      throw errnoError('ENOTTY', operation, this.name);
    });
  }

  #now<T>(operation: string, body: (operation: string) => T): Call<T> {
    return nowCall(() => {
      this.#requireOpen(operation);
      return body(operation);
    });
  }

  #requireOpen(operation: string): void {
    if (this.#closed) throw this.#closedError(operation);
  }

  #closedError(operation: string): VfioError {
    return this.#error('VFIO_E_CLOSED', 'this device is closed', operation);
  }

  #error(code: VfioErrorCode, message: string, operation: string): VfioError {
    return new VfioError(code, message, { operation, device: this.name });
  }
}
