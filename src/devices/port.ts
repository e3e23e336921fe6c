import type { Observable } from 'rxjs';
import type { Clock } from '../clock.js';
import type { DeviceInfo } from './uapi/device-info.js';
import type { DmaLimits, IovaRange } from './uapi/dma.js';
import type { IrqInfo } from './uapi/irq-info.js';
import type { IrqAct } from './uapi/irq-set.js';
import type { Area, RegionInfo } from './uapi/region-info.js';
import type { State } from './uapi/migration-state.js';
import type { PrecopyInfo } from './uapi/precopy-info.js';

export type { Area, DeviceInfo, DmaLimits, IovaRange, IrqAct, IrqInfo, PrecopyInfo, RegionInfo, State };

/**
 * One call: one subscription is one call to the device; exactly one value, then complete, or one `VfioError`.
 *
 * A call is not a value: a second subscriber is a second ioctl. Unsubscribing detaches and does not interrupt the kernel;
 * what a detached call brings home late (a data_fd) is disposed of by the port.
 */
export type Call<T> = Observable<T>;

/**
 * The one seam between this library and a device. Every port keeps the rules that are numbered here; `checkPort` of
 * `vfio-rx/testing` finds out.
 *
 * - **PORT-1** Nothing happens before subscribe; each subscription is one call.
 * - **PORT-2** A call marked *now* answers inside `subscribe()` where `traits.remapInOneTurn` is true.
 * - **PORT-3** `regionInfo` is never cached: it is the layout of this instant.
 * - **PORT-4** `map` takes only a part of an area that the latest layout offers; a mapping shows the device's memory until it is unmapped.
 * - **PORT-5** When `unmap` completes, the device sees that part no longer mapped; a stale view does not fault and does not reach the device,
 *   until that area is offered and mapped again.
 * - **PORT-6** An irq is armed only between the subscription of `next()` and its value; what the driver adds meanwhile stays in the eventfd, and counts add.
 *   A line has one handle at a time.
 * - **PORT-7** `setState` may be outstanding for seconds; meanwhile every *now* call, trapped access and ack goes on.
 * - **PORT-8** Closing the irq's handle (and so close) frees a `setState` that waits for this irq's ack: it fails with VFIO_E_CANCELED.
 * - **PORT-9** After `close()` every call fails with VFIO_E_CLOSED; closing twice is fine; `released` completes when no fd, mapping or registration is left, and so
 *   waits for a call that is outstanding, however long the driver keeps it; after ten seconds it says so (an error VFIO_E_DEADLINE).
 * - **PORT-10** What the device answers is checked: a hostile answer is VFIO_E_PROTOCOL, never a crash.
 * - **PORT-11** `readNow` takes the count of the trigger eventfd at once, and what it took no `next()` delivers. Without an ack eventfd an ack is
 *   written to the trigger eventfd: a write of 0 changes no count, any other is read back.
 * - **PORT-12** A range enters the IOMMU whole and leaves it whole. Before the kernel is asked `dmaMap` refuses what overlaps another range (VFIO_E_BUSY) and what is
 *   not made of whole pages, or lies outside source or IOMMU (VFIO_E_RANGE); `dmaUnmap` what would cut a range, or is another device's (VFIO_E_RANGE).
 * - **PORT-13** Nothing is unmapped or freed while any of it is in the IOMMU: `unmap` and `free` fail with VFIO_E_BUSY. `close()` takes this device's ranges out before its areas.
 * - **PORT-14** What an irq does not take (`irqRefusal`) is refused before the device is asked, and `irqs` registers all of its vectors or none.
 * - **PORT-15** An automasked irq gives one signal and no more until it is unmasked, by call or through its ack eventfd; a level that is active
 *   still signals again then.
 * - **PORT-16** A session of saving says in the PRE_COPY states what there is to read (`precopy`), and nowhere else (VFIO_E_RANGE); once all of that is read, reads are `quiet`.
 * - **PORT-17** `dmaLogging` keeps one log at a time (VFIO_E_BUSY), or fails with VFIO_E_UNSUPPORTED in all its calls; what no log can be about is refused before the device is asked (VFIO_E_RANGE).
 */
export interface DevicePort extends AsyncDisposable {
  /** How messages name the device: a BDF, an mdev uuid, a software device's name. */
  readonly name: string;
  readonly clock: Clock;
  readonly traits: PortTraits;
  /** *Now.* VFIO_DEVICE_GET_INFO. */
  info(): Call<DeviceInfo>;
  /** *Now.* VFIO_DEVICE_GET_REGION_INFO. Fails with VFIO_E_NO_REGION where the device has none at this index. */
  regionInfo(index: number): Call<RegionInfo>;
  /** *Now.* VFIO_DEVICE_GET_IRQ_INFO. Fails with VFIO_E_NO_IRQ where the device has none at this index. */
  irqInfo(index: number): Call<IrqInfo>;
  /** *Now.* `irqs` with one vector. */
  irq(line: IrqLine, options?: IrqOptions): Call<IrqHandle>;
  /**
   * *Now.* VFIO_DEVICE_SET_IRQS with fresh eventfds for several vectors of one index: DATA_EVENTFD | ACTION_TRIGGER, and with `ackFd` a second
   * one each by ACTION_UNMASK. All of them or none; the handles come in the order of `vectors`.
   *
   * The first call for an index enables the vectors up to the highest one that it names. Where its info says `noResize` (MSI; MSI-X
   * before Linux 6.5) later calls can only have what was enabled then, so ask for all at once; else they may add more.
   * Fails with VFIO_E_NO_IRQ; VFIO_E_BUSY while a handle of the same line is open (the kernel would replace it silently), while another
   * of INTx, MSI and MSI-X is enabled, or where the index cannot be resized; VFIO_E_UNSUPPORTED for an `ackFd` that the irq does not take;
   * VFIO_E_RANGE for vectors that are none; VFIO_E_LIMIT.
   */
  irqs(index: number, vectors: readonly number[], options?: IrqOptions): Call<readonly IrqHandle[]>;
  /**
   * *Now.* VFIO_DEVICE_SET_IRQS without eventfds, on vectors that are enabled: TRIGGER (loopback, as if the device had signalled), MASK or
   * UNMASK, of a range of vectors (DATA_NONE) or of some in it (DATA_BOOL). `pciIrqRows` says which irq of a PCI device takes what; any other
   * goes by its info's flags. Fails with VFIO_E_UNSUPPORTED, VFIO_E_RANGE, VFIO_E_NO_IRQ.
   */
  setIrqs(act: IrqAct): Call<void>;
  /** *Now.* Maps a page-aligned part of a region. */
  map(region: number, area: Area): Call<Mapping>;
  /**
   * *Now.* The same, into memory of whoever asks, as large as the area: what a server of the device shows its client. While it is mapped the device's bytes are there,
   * and nowhere else; it lives until `released` completes. Missing where a device's memory cannot be put anywhere.
   */
  mapInto?(region: number, area: Area, memory: ArrayBufferLike): Call<Mapping>;
  /** *Now.* Takes a page-aligned part of the mapping (all of it without `area`) away from the user. */
  unmap(mapping: Mapping, area?: Area): Call<void>;
  /** *Now.* Zeroed memory of this process for DMA, whole pages (else VFIO_E_RANGE). It lives until it is freed or the device is closed; a child process does not get it. */
  allocateDma(bytes: number): Call<DmaMemory>;
  /**
   * *Now.* Memory of another process that is mapped here, as DMA memory of this port: what a server of the device needs. Whoever brings it keeps it mapped
   * until it is freed. Missing where the port cannot take any.
   */
  importDma?(memory: ArrayBufferLike): Call<DmaMemory>;
  /**
   * `dmaMap` of memory that is reached by calls only: what a server has of a client that hands over no file. It leaves by `dmaUnmap`. Missing where the
   * port cannot use any.
   */
  dmaMapRemote?(request: RemoteDmaRequest): Call<IovaRange>;
  /**
   * VFIO_IOMMU_MAP_DMA (IOMMU_IOAS_MAP) on the DMA lane: may block (the kernel pins every page), never behind `setState`. All devices of one process share
   * one container (one IOAS), and so its IO addresses: whatever is mapped, each of them reaches.
   * Fails with VFIO_E_BUSY and VFIO_E_RANGE (PORT-12), VFIO_E_LIMIT (ranges, locked memory), VFIO_E_UNSUPPORTED (memory that the IOMMU cannot reach; an area where an iommufd maps).
   */
  dmaMap(request: DmaMapRequest): Call<IovaRange>;
  /** VFIO_IOMMU_UNMAP_DMA on the DMA lane: every range inside the given one leaves. Emits how many bytes went; 0 where there was none. */
  dmaUnmap(range: IovaRange): Call<number>;
  /** VFIO_IOMMU_GET_INFO on the DMA lane: what `dmaMap` takes at this instant; it changes with the groups of the container. */
  dmaLimits(): Call<DmaLimits>;
  /** Trapped access (pread, pwrite) on the device's access lane: may block, never behind `setState`. */
  access(request: AccessRequest): Call<Uint8Array>;
  /** Trapped access at once, on the loop. Only where `traits.syncAccess`; the caller sees to it that no state write is outstanding. */
  accessNow(request: AccessRequest): Uint8Array;
  /** *Now.* VFIO_DEVICE_FEATURE_MIGRATION, else the migration region of v1; undefined where the device cannot migrate. */
  migration(): Call<MigrationTraits | undefined>;
  /** On the state lane: drivers may hold their state mutex. */
  getState(): Call<State>;
  /** A write of device_state, in the generation that the device speaks, on the state lane: blocks for as long as the vendor driver waits for an ack. */
  setState(to: State): Call<StateReply>;
  /** VFIO_DEVICE_RESET, on the state lane: back to RUNNING. */
  reset(): Call<void>;
  /**
   * VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY or _EXIT, never behind `setState`. While the device sleeps touching a mapping is SIGBUS, and
   * a trapped access wakes it. Fails with VFIO_E_UNSUPPORTED where there is no such feature.
   */
  lowPower(enter: boolean): Call<void>;
  /** The device's own log of what it writes by DMA: VFIO_DEVICE_FEATURE_DMA_LOGGING_*; a kernel port that is bound to an iommufd has the IOMMU's where the device keeps none. */
  readonly dmaLogging: DmaLogging;
  /**
   * Begins the teardown: refuses new calls, disables the irqs, then releases the rest; see `released`. Idempotent.
   * `keepViews`: a holder did not let go, so the address space of its pieces stays reserved (no memory of the device in it).
   */
  close(options?: { readonly keepViews?: boolean }): void;
  /** What teardown did, in order, replayed to late subscribers; completes when nothing is held. Never fails. */
  readonly released: Observable<ReleaseReport>;
}

/** What a port can do inside subscribe(), and in which pages; the same for as long as it is open. */
export interface PortTraits {
  /** Every *now* call answers inside subscribe(). */
  readonly remapInOneTurn: boolean;
  /** Trapped access without a round trip (`accessNow`). */
  readonly syncAccess: boolean;
  /** The granularity of map and unmap, bytes. */
  readonly pageSize: number;
  /** Of ports whose calls hold threads: how many calls about device_state may be blocked in this process at once; further ones wait for their turn. */
  readonly maxBlockedThreads?: number;
}

/** One interrupt: index as in VFIO_DEVICE_GET_IRQ_INFO, vector from 0 (default). */
export interface IrqLine {
  readonly index: number;
  readonly vector?: number;
}

/** How an irq is registered. */
export interface IrqOptions {
  /** With a second eventfd, registered by ACTION_UNMASK: it takes the acks of a remap irq, and each write of it unmasks a maskable one. */
  readonly ackFd?: boolean;
}

/** One delivery. `count` is what the eventfd held, raw: n signals before one read are one delivery of n. */
export interface IrqSignal {
  readonly line: IrqLine;
  readonly count: bigint;
  readonly atNs: bigint;
}

/** A registered irq. Owned by whoever called `irq()`. */
export interface IrqHandle {
  readonly line: IrqLine;
  /** Arms, waits, reads once, completes. Unsubscribing disarms. One at a time. */
  next(): Call<IrqSignal>;
  /** *Now.* Reads the trigger eventfd without arming: the raw count, undefined for none (EAGAIN). VFIO_E_BUSY while `next()` waits. */
  readNow(): Call<bigint | undefined>;
  /**
   * *Now.* Writes `count` to the ack eventfd (to the trigger eventfd where there is none). 1 <= count < 2^64 - 1; 0 too where
   * there is no ack eventfd: the driver hears that and no count changes. An eventfd that is too full fails with errno EAGAIN.
   */
  ack(count: bigint): Call<void>;
  /** *Now.* What the device signals rests until `unmask`. VFIO_E_UNSUPPORTED where the irq is not maskable (MSI, MSI-X, ERR, REQ). */
  mask(): Call<void>;
  /** *Now.* Ends `mask()` and the automask; a level that is active still signals at once. VFIO_E_UNSUPPORTED where `mask` is. */
  unmask(): Call<void>;
  /** *Now.* Loopback: the kernel signals as if the device had. VFIO_E_UNSUPPORTED for a remap irq. */
  trigger(): Call<void>;
  /** *Now.* Takes the vector away, the last one of its index with DATA_NONE and count 0, and closes its eventfds. Idempotent. */
  close(): Call<void>;
}

/** A mapped part of a region. Only `Region` and holders touch `memory`; everybody else uses accessors. */
export interface Mapping {
  readonly region: number;
  readonly area: Area;
  /** Byte 0 is `area.offset`. After unmap a stale view shows zeros or poison, and what it writes goes nowhere, until the area is mapped again. */
  readonly memory: ArrayBufferLike;
  /** Where `memory` begins in this process, for a view made in another thread; undefined where `memory` itself can be shared. */
  readonly address?: bigint;
}

/** Memory that a device may be given. A view of it that outlives `free` shows zeros, and what it writes goes nowhere. */
export interface DmaMemory {
  readonly memory: ArrayBufferLike;
  /** Bytes. */
  readonly size: number;
  /** *Now.* Gives it back. Idempotent; VFIO_E_BUSY while any of it is in the IOMMU. */
  free(): Call<void>;
}

/** A range that shall enter the IOMMU. */
export interface DmaMapRequest extends IovaRange {
  /** Memory from `allocateDma` of this port, or a mapping of its own: then other devices reach this one's area (peer to peer). */
  readonly source: DmaMemory | Mapping;
  /** Where in the source's memory the range begins, bytes. Default 0. All of it must be mapped. */
  readonly offset?: number;
  /** Devices may read it, may write it: at least one. */
  readonly read: boolean;
  readonly write: boolean;
}

/** Memory of somebody else that is reached by calls, at the IO addresses that it was given; 64 KiB at most with each. */
export interface RemoteMemory {
  read(iova: bigint, bytes: number): Call<Uint8Array>;
  write(iova: bigint, bytes: Uint8Array): Call<void>;
}

/** A range that shall enter the IOMMU, and who has its bytes. */
export interface RemoteDmaRequest extends IovaRange {
  readonly memory: RemoteMemory;
  readonly read: boolean;
  readonly write: boolean;
}

/** What a log of written pages is about. */
export interface DmaLoggingRequest {
  /** 1 to 256 ranges of whole pages, apart from one another (VFIO_E_RANGE). */
  readonly ranges: readonly IovaRange[];
  /** What the device is asked to track, bytes: a power of two, 4096 or more. It may choose another. */
  readonly pageSize: number;
}

/**
 * A device's log of what it writes by DMA. Calls are made one after the other in the order of their subscriptions, never behind `setState`.
 * Each fails with VFIO_E_UNSUPPORTED where the device keeps none.
 */
export interface DmaLogging {
  /** VFIO_DEVICE_FEATURE_DMA_LOGGING_START. Emits the page size that the device tracks. VFIO_E_BUSY while it keeps a log. */
  start(request: DmaLoggingRequest): Call<number>;
  /**
   * VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT of a part of a logged range: one bit a page of `pageSize`, low bits first, in whole u64s. What is reported is clean
   * again. At most 2 MiB of bits (VFIO_E_RANGE). After any other error all must be taken for written.
   */
  report(part: IovaRange & { readonly pageSize: number }): Call<Uint8Array>;
  /** VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP: what was not reported is forgotten. */
  stop(): Call<void>;
}

/** Exactly one of `write` and `readBytes`; 1, 2, 4 or 8 bytes naturally aligned, or a bulk of bytes. */
export interface AccessRequest {
  readonly region: number;
  readonly offset: number;
  readonly write?: Uint8Array;
  readonly readBytes?: number;
}

/** In which generation the device speaks of device_state, and which states it can reach. */
export interface MigrationTraits {
  /** 2: VFIO_DEVICE_FEATURE. 1: the retired migration region, which the proposal of 2020 was written for. Where both are offered, 2. */
  readonly version: 1 | 2;
  /** VFIO_MIGRATION_*. Version 1 has no flags of its own: it is STOP_COPY and PRE_COPY. */
  readonly flags: number;
}

/** Where a write of device_state ended. */
export interface StateReply {
  readonly state: State;
  /** The data_fd (in v1: the region's data section), where the path to this state made a new session. The receiver owns it. */
  readonly data?: DataChannel;
}

/** A data_fd, or a session over the data section of v1's region: device state is pulled and pushed by calls (law 8), at most one in flight. */
export interface DataChannel {
  readonly direction: 'save' | 'resume';
  /** @param into memory that the channel may fill in place of its own, until it answers and also where nobody waits for that any more: for who reads much, and is done with what it read last */
  read(maxBytes: number, into?: Uint8Array): Call<Chunk>;
  /** The bytes are the caller's again when it has answered. */
  write(bytes: Uint8Array): Call<void>;
  /**
   * VFIO_MIG_GET_PRECOPY_INFO (v1: from pending_bytes): what there is to read now. Fails with VFIO_E_RANGE (EINVAL) outside the PRE_COPY states, and
   * in a session of resuming; with VFIO_E_UNSUPPORTED where the port has no such call (vfio-user).
   */
  precopy(): Call<PrecopyInfo>;
  /** Idempotent. */
  close(): Call<void>;
}

/** `quiet`: no more for now (PRE_COPY); `end`: no more in this state of the device. */
export type Chunk =
  { readonly kind: 'bytes'; readonly bytes: Uint8Array } | { readonly kind: 'quiet' } | { readonly kind: 'end' };

/** One step of a teardown: `irq 5 disabled`, `device fd closed`. */
export interface ReleaseReport {
  readonly what: string;
  readonly error?: unknown;
}
