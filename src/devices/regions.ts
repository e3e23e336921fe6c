import { catchError, concat, defer, distinctUntilChanged, EMPTY, filter, map, of, type Observable } from 'rxjs';
import type { Cell } from '../cell.js';
import { warningChannel } from '../diagnostics.js';
import { VfioError } from '../errors.js';
import type { Suspendable } from './decoding.js';
import { DmaHolds, type AreaDma, type DmaHold } from './dma-holds.js';
import { FastPath } from './fast-path.js';
import { Holders, pieceOf, type Hold, type Holder, type LivePiece, type MappedPiece } from './holders.js';
import type { AccessRequest, Area, Call, DevicePort, Mapping, RegionInfo } from './port.js';
import { coversAreas, intersectAreas, normalizeAreas, subtractAreas } from './protocol/areas.js';
import { offeredAreas, sameLayout, type MappedLayout } from './protocol/layout-diff.js';
import { steps, type Steps } from './steps.js';

/** The layouts of all regions of a device, as the last finished batch left them. */
export type Layouts = ReadonlyMap<number, RegionInfo>;

/** An area that stays trapped because mmap failed; it does not hold up the ack. */
export interface NotMapped {
  readonly index: number;
  readonly area: Area;
  readonly error: unknown;
}

const livePieces = (mapped: readonly LiveMapping[]): readonly LivePiece[] => mapped.flatMap(({ mapping, parts }) => parts.map((area) => ({ mapping, area })));

/** What a region asks its device before it touches the port, and how it makes trapped accesses. */
export interface RegionGate {
  /** Throws VFIO_E_CLOSED. */
  checkOpen(operation: string): void;
  /** A trapped access made now could wait: for a write of device_state, a reset, a device that wakes up. */
  mayBlock(): boolean;
  access(request: AccessRequest): Call<Uint8Array>;
  accessNow(request: AccessRequest): Uint8Array;
}

interface LiveMapping {
  readonly mapping: Mapping;
  /** The parts of it that are still mapped. */
  parts: readonly Area[];
}

/**
 * One region of a device; survives every remap.
 *
 * The synchronous methods use a mapping where there is one, else a trapped access, where the port can make one without a
 * round trip and no write of device_state is outstanding. Else they throw VFIO_E_WOULD_BLOCK, and `request()` is the way.
 * There is no raw view: a stale one would be a SIGSEGV, or memory that is no longer the device's.
 *
 * Offsets are bytes from the start of the region; 16, 32 and 64 bits must be naturally aligned (else VFIO_E_RANGE); values
 * are little-endian, as the bus has them.
 *
 * - **Width.** Mapped, an access is one load or store of its width. Trapped, it is one pread or pwrite of that width, and the
 *   driver decides what the device sees: vfio-pci makes two 32-bit accesses of one of 64 bits, the low half first (newer kernels
 *   one, where the processor can), and in configuration space never more than 32 bits at once. A device whose 64-bit registers
 *   must be touched as a whole wants a mapping; one that may be touched in halves is best given two of 32 bits.
 * - **Order.** The synchronous methods happen in program order, mapped and trapped alike. A `request()` happens on a thread: in
 *   order among requests of this device, and before whatever is done once it has answered.
 * - **Reading for effect.** An engine drops a load whose result nobody uses: use the value of a register that clears when read.
 *
 * Where the device does not decode its memory (Memory Space Enable is clear, D3hot) every access is trapped and fails with
 * VFIO_E_SUSPENDED; a raw view would be SIGBUS. In low power and during a reset `request()` goes on.
 */
export class Region implements Suspendable {
  readonly index: number;
  readonly #port: DevicePort;
  readonly #layouts: Cell<Layouts>;
  readonly #gate: RegionGate;
  readonly #holders: Holders;
  readonly #dma: DmaHolds;
  readonly #fast = new FastPath();
  readonly #mapped: LiveMapping[] = [];
  readonly #openedSize: number;
  /** What is being revoked: nobody is handed it any more, whatever a layout says meanwhile. */
  #leaving: readonly Area[] = [];
  #wanted = false;
  #mappingsHeld = false;
  #closed = false;
  #suspended = false;
  /** The layout that the accessors follow; undefined before the first. */
  #settled: RegionInfo | undefined;
  /** What is mapped, or may be used, has changed since then. */
  #moved = true;
  #rights: { readonly readable: boolean; readonly writable: boolean };

  /** @internal */
  constructor(port: DevicePort, layouts: Cell<Layouts>, info: RegionInfo, gate: RegionGate) {
    this.index = info.index;
    this.#port = port;
    this.#layouts = layouts;
    this.#gate = gate;
    this.#holders = new Holders(port.clock, port.name);
    this.#dma = new DmaHolds(port);
    this.#openedSize = info.size;
    this.#rights = { readable: info.readable, writable: info.writable };
  }

  /** This region's layout, now and whenever a batch changed it. */
  get layout(): Observable<RegionInfo> {
    return this.#layouts.values.pipe(
      map((layouts) => layouts.get(this.index)),
      filter((info) => info !== undefined),
      distinctUntilChanged(sameLayout),
    );
  }

  /** Bytes. A region that claims to have grown (against the protocol) keeps the size that it was opened with. */
  get size(): number {
    return Math.min(this.#openedSize, this.#layouts.current.get(this.index)?.size ?? this.#openedSize);
  }

  /** What is mapped now: what a layout is compared with. */
  get mapped(): MappedLayout {
    const { readable, writable } = this.#rights;
    return { readable, writable, areas: this.#mappedAreas(), size: this.#openedSize };
  }

  read8(offset: number): number {
    return this.#fast.read8(offset) ?? this.#trappedRead(offset, 1).getUint8(0);
  }

  read16(offset: number): number {
    return this.#fast.read16(offset) ?? this.#trappedRead(offset, 2).getUint16(0, true);
  }

  read32(offset: number): number {
    return this.#fast.read32(offset) ?? this.#trappedRead(offset, 4).getUint32(0, true);
  }

  read64(offset: number): bigint {
    return this.#fast.read64(offset) ?? this.#trappedRead(offset, 8).getBigUint64(0, true);
  }

  write8(offset: number, value: number): void {
    if (!this.#fast.write8(offset, value)) this.#trappedWrite(offset, 1, (view) => view.setUint8(0, value));
  }

  write16(offset: number, value: number): void {
    if (!this.#fast.write16(offset, value)) this.#trappedWrite(offset, 2, (view) => view.setUint16(0, value, true));
  }

  write32(offset: number, value: number): void {
    if (!this.#fast.write32(offset, value)) this.#trappedWrite(offset, 4, (view) => view.setUint32(0, value, true));
  }

  write64(offset: number, value: bigint): void {
    if (!this.#fast.write64(offset, value)) this.#trappedWrite(offset, 8, (view) => view.setBigUint64(0, value, true));
  }

  /** A trapped access as a call: never blocks the loop, possible at any time, also while device_state is being written. */
  request(access: Omit<AccessRequest, 'region'>): Call<Uint8Array> {
    return defer(() => {
      const length = access.write?.byteLength ?? access.readBytes ?? 0;
      this.#check(access.offset, length, access.write === undefined ? 'read' : 'write', 1);
      return this.#gate.access({ ...access, region: this.index });
    });
  }

  /**
   * Registers somebody who uses mapped areas outside these accessors. It is handed what is mapped now, within `budgetMs`.
   */
  hold(areas: readonly Area[], holder: Holder, budgetMs = 100): Call<Hold> {
    return defer(() => {
      this.#gate.checkOpen(`hold region ${this.index}`);
      return this.#holders.hold(holder, areas, this.#given(), budgetMs);
    });
  }

  /**
   * Lets devices reach an area by DMA (peer to peer): what is mapped of it enters the IOMMU now, what comes later with its
   * batch. A revoked part leaves the IOMMU before it is unmapped, together with the rest of its piece, which enters again
   * in the same batch: in between devices get a fault there. Whoever makes a device do such DMA is a `Holder` of the area.
   *
   * Emits when all that is mapped has entered. Fails with what `dmaMap` says (VFIO_E_RANGE for an area that is not whole
   * pages of the region, VFIO_E_BUSY for addresses of another hold); nothing of it stays then. An area that does not enter again later is a warning.
   */
  mapDma(area: Area, dma: AreaDma): Call<DmaHold> {
    return defer(() => {
      this.#gate.checkOpen(`DMA of region ${this.index}`);
      return this.#dma.hold(area, dma, this.size, this.#staying());
    });
  }

  // ── for operators ──────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Takes areas away: accessors trap, holders let go, what is mapped for DMA leaves the IOMMU, then munmap. In this order, so
   * that nobody is ever in mid-access. Fails with VFIO_E_HOLDER, or with what an unmap said; accessors then stay trapped.
   */
  revoke(areas: readonly Area[], budgetMs: number): Call<void> {
    return steps(() => this.#revoke(areas, budgetMs));
  }

  *#revoke(areas: readonly Area[], budgetMs: number): Steps<void> {
    this.#fast.remove(areas);
    this.#leaving = areas;
    this.#moved = true;
    try {
      if (this.hasHolders) yield this.#holders.release(areas, budgetMs);
      if (this.wantsDma) yield this.#dma.leave(areas);
      for (const live of [...this.#mapped]) {
        for (const part of intersectAreas(live.parts, areas)) {
          yield this.#port.unmap(live.mapping, part);
          this.#unmapped(live, part);
        }
      }
    } finally {
      if (this.#leaving === areas) this.#leaving = [];
      this.#moved = true;
    }
  }

  /** Maps areas that the latest layout offers, and has what is wanted there enter the IOMMU, without letting the accessors use them before `settle`. Never fails. */
  attach(areas: readonly Area[]): Call<readonly NotMapped[]> {
    return steps(() => this.#attach(areas));
  }

  *#attach(areas: readonly Area[]): Steps<readonly NotMapped[]> {
    this.want();
    if (this.#mappingsHeld) {
      const message = 'device_state is being written, and the layout follows it: mapped when that is done';
      const error = new VfioError('VFIO_E_BUSY', message, { operation: `map region ${this.index}`, device: this.#port.name });
      return areas.map((area) => ({ index: this.index, area, error }));
    }
    const failed: NotMapped[] = [];
    for (const wanted of areas) {
      // Somebody else may have mapped some of it since it was asked for.
      for (const area of subtractAreas([wanted], this.#mappedAreas())) {
        try {
          const mapping = (yield this.#port.map(this.index, area)) as Mapping;
          this.#mapped.push({ mapping, parts: [mapping.area] });
          this.#moved = true;
        } catch (error) {
          if (yield* this.#isOutdated(area, error)) continue;
          failed.push({ index: this.index, area, error });
          this.#warn(`an area could not be mapped and stays trapped: region ${this.index} at 0x${area.offset.toString(16)}, ${area.size} bytes`, error);
        }
      }
    }
    const warn = (error: unknown): void => this.#warn(`an area of region ${this.index} did not enter the IOMMU`, error);
    if (this.wantsDma) yield this.#dma.enter(this.#staying(), warn);
    return failed;
  }

  /** While held, `attach` maps nothing: a write of device_state moves the layout. */
  holdMappings(held: boolean): void {
    this.#mappingsHeld = held;
  }

  /** From now on what a later layout offers is mapped, too, whatever this one does. */
  want(): void {
    this.#wanted = true;
  }

  /** Somebody has asked for a mapping: what a later layout offers is mapped, too. */
  get wanted(): boolean {
    return this.#wanted;
  }

  /** The accessors' last step of a batch: they use what is both mapped and offered. */
  settle(info: RegionInfo): void {
    if (!this.#moved && sameLayout(this.#settled, info)) return;
    this.#moved = false;
    this.#settled = info;
    this.#rights = { readable: info.readable, writable: info.writable };
    const offered = info.mmappable ? info.areas : [];
    this.#fast.replace(
      this.#given().filter((piece) => subtractAreas([piece.area], offered).length === 0),
      info,
    );
  }

  /** Hands what is mapped to holders who lack it. A holder that fails is reported; its area stays mapped. Never fails. */
  offer(budgetMs: number): Call<void> {
    return concat(
      defer(() => this.#holders.regain(this.#given(), budgetMs)).pipe(
        catchError((error: unknown) => {
          this.#warn('a holder did not take an area that came back', error);
          return EMPTY;
        }),
      ),
      of(undefined),
    );
  }

  /** The live pieces of all mappings. */
  pieces(): readonly MappedPiece[] {
    return livePieces(this.#mapped).map(pieceOf);
  }

  /** The pieces that do not go. One that goes in part goes as a whole: what stays of it comes back with its batch. */
  #staying(): readonly LivePiece[] {
    if (this.#closed) return [];
    return livePieces(this.#mapped).filter(({ area }) => intersectAreas([area], this.#leaving).length === 0);
  }

  /** Those that may be touched. */
  #given(): readonly MappedPiece[] {
    return this.#suspended ? [] : this.#staying().map(pieceOf);
  }

  /** Asks every holder to let go of everything, as `revoke` does: the first step of closing. */
  releaseHolders(budgetMs: number): Observable<never> {
    return defer(() => this.#holders.release(this.mapped.areas, budgetMs));
  }

  /** Something of it is wanted in the IOMMU: a batch that maps nothing new may still have to bring in what was kept. */
  get wantsDma(): boolean {
    return this.#dma.size > 0;
  }

  get hasHolders(): boolean {
    return this.#holders.size > 0;
  }

  /** Holders have some of it, or were asked and have not let go. */
  get held(): boolean {
    return this.#holders.inUse;
  }

  /** Every accessor traps until `resume`: touching a mapping would fault. Nobody is handed a piece meanwhile. */
  suspend(): void {
    this.#suspended = true;
    this.#moved = true;
    this.#fast.clear();
  }

  resume(): void {
    this.#suspended = false;
    this.#moved = true;
    if (this.#settled !== undefined) this.settle(this.#settled);
  }

  /** Traps for good: what a batch that is still in flight settles or offers after this, nobody gets, since it is about to go. */
  close(): void {
    this.#closed = true;
    this.#fast.clear();
  }

  /** EINVAL for what the layout does not offer any more is a newer layout, not an error: its signal is unread, or on its way. */
  *#isOutdated(area: Area, error: unknown): Steps<boolean> {
    if (!VfioError.is(error) || error.errno !== 'EINVAL') return false;
    try {
      const info = (yield this.#port.regionInfo(this.index)) as RegionInfo;
      return !coversAreas(offeredAreas(info, this.#openedSize), [area]);
    } catch {
      return false;
    }
  }

  #unmapped(live: LiveMapping, area: Area): void {
    live.parts = subtractAreas(live.parts, [area]);
    if (live.parts.length === 0) this.#mapped.splice(this.#mapped.indexOf(live), 1);
  }

  #mappedAreas(): readonly Area[] {
    return normalizeAreas(this.#mapped.flatMap((live) => live.parts));
  }

  #trappedRead(offset: number, width: number): DataView {
    this.#check(offset, width, 'read', width);
    this.#checkSync('read');
    const bytes = this.#gate.accessNow({ region: this.index, offset, readBytes: width });
    return new DataView(bytes.buffer, bytes.byteOffset, width);
  }

  #trappedWrite(offset: number, width: number, fill: (view: DataView) => void): void {
    this.#check(offset, width, 'write', width);
    this.#checkSync('write');
    const write = new Uint8Array(width);
    fill(new DataView(write.buffer));
    this.#gate.accessNow({ region: this.index, offset, write });
  }

  #checkSync(operation: string): void {
    if (this.#port.traits.syncAccess && !this.#gate.mayBlock()) return;
    throw new VfioError('VFIO_E_WOULD_BLOCK', 'the area is trapped, and a write of device_state or a reset is outstanding, the device is in low power, or the port needs a round trip: use request()', {
      operation: `${operation} region ${this.index}`,
      device: this.#port.name,
    });
  }

  #check(offset: number, length: number, operation: 'read' | 'write', alignment: number): void {
    this.#gate.checkOpen(`${operation} region ${this.index}`);
    const rights = operation === 'read' ? this.#rights.readable : this.#rights.writable;
    const inside = Number.isSafeInteger(offset) && offset >= 0 && length > 0 && offset + length <= this.size;
    if (rights && inside && offset % alignment === 0) return;
    const why = !rights ? `the region is not ${operation === 'read' ? 'readable' : 'writable'}` : inside ? `offset must be a multiple of ${alignment}` : `the region has ${this.size} bytes`;
    throw new VfioError('VFIO_E_RANGE', `${length} bytes at offset ${offset}: ${why}`, { operation: `${operation} region ${this.index}`, device: this.#port.name });
  }

  #warn(what: string, error: unknown): void {
    if (warningChannel.hasSubscribers) warningChannel.publish({ device: this.#port.name, atNs: this.#port.clock.nowNs(), what, error });
  }
}
