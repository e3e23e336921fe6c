import { concat, concatMap, defer, from, ignoreElements, lastValueFrom, map, merge, tap, type Observable } from 'rxjs';
import { Cell } from '../cell.js';
import type { Clock } from '../clock.js';
import { VfioError } from '../errors.js';
import { absentIsEmpty, nowCall } from './call.js';
import { ConfigSpace } from './config-space.js';
import { Decoding } from './decoding.js';
import type { Call, DeviceInfo, DevicePort, IrqInfo, MigrationTraits, RegionInfo, ReleaseReport, State } from './port.js';
import { Region, type Layouts, type NotMapped, type RegionGate } from './regions.js';
import { isRegistered, type RemapSession } from './remap-session.js';
import { StateLayouts } from './state-layouts.js';
import { explainRefusal } from './state-refusals.js';
import { StateWriter, type StateView, type WrittenState } from './state-writer.js';
import { StuckCalls } from './stuck-calls.js';
import { subtractAreas } from './protocol/areas.js';
import { offeredAreas, sameLayout } from './protocol/layout-diff.js';
import { layoutIn } from './protocol/saving-layout.js';
import { VFIO_PCI_CONFIG_REGION_INDEX } from './uapi/constants.js';

/** What `openDevice` learnt before the device was handed out. */
export interface OpenedDevice {
  readonly info: DeviceInfo;
  readonly regions: readonly RegionInfo[];
  readonly migration: MigrationTraits | undefined;
  readonly state: State;
}

const resetOperation = 'VFIO_DEVICE_RESET';

/** How long closing waits for holders to let go, ms. */
const closeBudgetMs = 100;

/**
 * One device over any port. It owns the port: closing it disables the irqs, frees a blocked write of device_state, unmaps
 * and closes; using it after that fails with VFIO_E_CLOSED.
 *
 * Made by `openDevice` or `withDevice`; streams and operators take it as their first argument.
 */
export class VfioDevice implements AsyncDisposable {
  readonly info: DeviceInfo;
  /** The calls that its driver keeps; `health` tells them. @internal */
  readonly stuck = new StuckCalls();
  /** undefined: the device cannot migrate. */
  readonly migration: MigrationTraits | undefined;
  /** Configuration space; undefined: not a PCI device. */
  readonly config: ConfigSpace | undefined;
  readonly port: DevicePort;
  readonly #layouts: Cell<Layouts>;
  readonly #regions: ReadonlyMap<number, Region>;
  readonly #writer: StateWriter;
  readonly #decoding: Decoding;
  #session: RemapSession | undefined;
  /** The one that was there when the driver was last asked for a state. */
  #sessionAtWrite: RemapSession | undefined;
  #closed = false;

  /** @internal */
  constructor(port: DevicePort, opened: OpenedDevice) {
    this.port = port;
    this.info = opened.info;
    this.migration = opened.migration;
    this.#layouts = new Cell<Layouts>(new Map(opened.regions.map((info) => [info.index, info])));
    this.#writer = new StateWriter(port, opened.state, {
      mayStart: () => this.#session?.atRest(),
      prepare: (to) => layouts.prepare(to),
      // Holders may take their time, and the device be closed meanwhile: the driver is not asked any more.
      aboutToAsk: (to) => this.#aboutToWrite(`device_state ${to}`),
      explain: (error, to) => explainRefusal(error, { device: port.name, registered: this.#registeredThroughout(), irqs: this.irqs(), mapped: (refused) => layouts.refusal(refused, to) }),
      adopt: (state) => layouts.adopt(state),
      lookAgain: () => this.#session?.requeryAll(),
    });
    const config = opened.info.pci ? opened.regions.find(({ index }) => index === VFIO_PCI_CONFIG_REGION_INDEX) : undefined;
    this.#decoding = new Decoding(port, config, () => this.#regions.values());
    const gate: RegionGate = {
      checkOpen: (operation) => this.checkOpen(operation),
      mayBlock: () => this.#writer.outstanding || this.#decoding.mayBlock,
      access: (request) => this.#decoding.access(request),
      accessNow: (request) => this.#decoding.accessNow(request),
    };
    this.#regions = new Map(opened.regions.map((info) => [info.index, new Region(port, this.#layouts, info, gate)]));
    const layouts = new StateLayouts(
      { port, regions: this.#regions, toldByIrq: () => isRegistered(this.#session), settle: (infos) => this.settle(infos) },
      opened.regions,
      opened.state,
    );
    const space = config === undefined ? undefined : this.#regions.get(config.index);
    this.config = space === undefined ? undefined : new ConfigSpace(space, port.name);
  }

  #aboutToWrite(operation: string): void {
    this.checkOpen(operation);
    this.#sessionAtWrite = this.#session;
  }

  /** A pipeline that has begun meanwhile says nothing about what the driver had found. */
  #registeredThroughout(): boolean {
    return this.#session === this.#sessionAtWrite && isRegistered(this.#session);
  }

  get name(): string {
    return this.port.name;
  }

  get clock(): Clock {
    return this.port.clock;
  }

  /** The layouts of all regions, now and after every batch that changed one. */
  get layouts(): Observable<Layouts> {
    return this.#layouts.values;
  }

  get layoutsNow(): Layouts {
    return this.#layouts.current;
  }

  /** device_state, now and at every change. */
  get state(): Observable<StateView> {
    return this.#writer.cell.values;
  }

  get currentState(): StateView {
    return this.#writer.cell.current;
  }

  /** The regions that the device has, by index. */
  get regions(): ReadonlyMap<number, Region> {
    return this.#regions;
  }

  /** Fails with VFIO_E_NO_REGION. */
  region(index: number): Region {
    const region = this.#regions.get(index);
    if (region !== undefined) return region;
    throw new VfioError('VFIO_E_NO_REGION', `the device has the regions ${[...this.#regions.keys()].join(', ')}`, { operation: `region ${index}`, device: this.name });
  }

  /** Maps what the layout of one region offers and is not mapped yet; the remap pipeline does this by itself for the regions that its driver declares (for all of them where layouts are static). */
  mapRegion(index: number): Call<readonly NotMapped[]> {
    return defer(() => {
      const region = this.region(index);
      return this.port.regionInfo(index).pipe(
        map((info) => layoutIn(info, this.currentState.state)),
        concatMap((info) => {
          const { areas, size } = region.mapped;
          return region.attach(subtractAreas(offeredAreas(info, size), areas)).pipe(tap(() => this.settle([info])));
        }),
      );
    });
  }

  /**
   * VFIO_DEVICE_RESET: back to RUNNING, registers as after power-on, configuration space as it was. Counts as a write of
   * device_state: one at a time (VFIO_E_BUSY), and the remap pipeline looks at every region once more before it completes. Every
   * accessor traps meanwhile, and holders are asked to let go (VFIO_E_HOLDER: the device was not reset). Fails with
   * VFIO_E_UNSUPPORTED where the device says that it cannot be reset.
   */
  reset(): Call<void> {
    return defer(() => {
      this.checkOpen(resetOperation);
      if (!this.info.reset) throw new VfioError('VFIO_E_UNSUPPORTED', 'the device has no reset: close it, its driver brings it back', { operation: resetOperation, device: this.name });
      return this.#writer.reset((call) => this.#decoding.reset(call)).pipe(map(() => undefined));
    });
  }

  /**
   * Lets the device sleep (VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY), or wakes it (LOW_POWER_EXIT). While it sleeps mapped memory would
   * fault, so every accessor traps and holders have let go; `request()` wakes it for one access. Fails with VFIO_E_UNSUPPORTED
   * where kernel or driver have no such feature.
   */
  lowPower(enter: boolean): Call<void> {
    return defer(() => {
      this.checkOpen('low power');
      return this.#decoding.lowPower(enter, this.port.lowPower(enter));
    });
  }

  /** Every irq that the device has. An index that is not there is left out (VFIO_E_NO_IRQ); any other error fails the call. */
  irqs(): Call<readonly IrqInfo[]> {
    return defer(() => {
      const found: IrqInfo[] = [];
      const scan = from(Array.from({ length: this.info.irqs }, (_, index) => index)).pipe(
        concatMap((index) => this.port.irqInfo(index).pipe(absentIsEmpty('VFIO_E_NO_IRQ'))),
        tap((info) => found.push(info)),
        ignoreElements(),
      );
      return concat(scan, nowCall(() => found));
    });
  }

  // ── for streams and operators ──────────────────────────────────────────────────────────────────────────────────────

  /** The remap pipeline that serves this device, if one does. */
  get remapSession(): RemapSession | undefined {
    return this.#session;
  }

  /** One pipeline per device: a second one fails with VFIO_E_BUSY. Returns how to give the place back. */
  claimRemap(session: RemapSession): () => void {
    this.checkOpen('remap');
    if (this.#session !== undefined) {
      throw new VfioError('VFIO_E_BUSY', 'a remap pipeline serves this device already: share() its stream instead of subscribing twice', { operation: 'remap', device: this.name });
    }
    this.#session = session;
    return () => {
      if (this.#session === session) this.#session = undefined;
    };
  }

  /** Writes device_state, and lets the remap pipeline look at every region once more; prefer `transition`, which knows the arcs and a deadline. */
  writeState(to: State, begun?: () => void): Call<WrittenState> {
    return this.#writer.write(to, begun);
  }

  /** The last step of a batch: accessors use the new mappings, and the layouts are told once, together. */
  settle(infos: Iterable<RegionInfo>): void {
    // A batch may outlive close(): its accessors must not come back to memory that is going.
    this.checkOpen('remap');
    const layouts = new Map(this.#layouts.current);
    let changed = false;
    for (const info of infos) {
      this.region(info.index).settle(info);
      changed ||= !sameLayout(layouts.get(info.index), info);
      layouts.set(info.index, info);
    }
    if (changed) this.#layouts.set(layouts);
  }

  checkOpen(operation: string): void {
    if (this.#closed) throw new VfioError('VFIO_E_CLOSED', 'the device is closed: open it again', { operation, device: this.name });
  }

  // ── closing ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** What the teardown did, in order; completes when nothing is held any more. */
  get released(): Observable<ReleaseReport> {
    return this.port.released;
  }

  /**
   * Refuses new calls, traps every accessor, ends the remap pipeline (this frees a blocked write of device_state), has holders
   * let go, then releases in reverse order. Idempotent.
   * The one Promise of this class, outside every remap path; settles when nothing is held.
   */
  close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      for (const region of this.#regions.values()) region.close();
      this.#session?.deviceClosed();
      // A holder in another thread must be out of the memory before it goes; one that stays there keeps (empty) address space.
      merge(...[...this.#regions.values()].map((region) => region.releaseHolders(closeBudgetMs))).subscribe({
        error: () => this.port.close({ keepViews: true }),
        complete: () => this.port.close(),
      });
      this.#layouts.complete();
      const sinceNs = this.clock.nowNs();
      this.port.released.subscribe({
        next: ({ error }) => {
          if (VfioError.is(error) && error.code === 'VFIO_E_DEADLINE') this.stuck.report({ call: 'close', sinceNs }, this.port.released);
        },
        error: () => undefined,
        complete: () => {
          // A write that was outstanding still says where it ended.
          this.#writer.cell.complete();
          this.stuck.complete();
        },
      });
    }
    return lastValueFrom(this.port.released.pipe(ignoreElements()), { defaultValue: undefined });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
