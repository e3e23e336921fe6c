import type { Area, IrqLine, Mapping, State } from '../port.js';
import { portChannel, type Lane } from '../../diagnostics.js';
import { coversAreas, subtractAreas } from '../protocol/areas.js';
import { deviceInfoLayout } from '../uapi/device-info.js';
import { irqInfoChainLayout } from '../uapi/irq-info.js';
import type { IrqSet } from '../uapi/irq-set.js';
import { regionInfoLayout } from '../uapi/region-info.js';
import { answerInto, deviceInfoAnswer, irqInfoAnswer, regionInfoAnswer, remapIrqInfoAnswer } from './answers.js';
import { DeviceIrqs } from './device-irqs.js';
import { Iommu } from './dma.js';
import { DmaLog } from './dma-log.js';
import type { PageWitness, SoftwareVendorDriver, Violation } from './driver-face.js';
import type { Errno } from './errno.js';
import type { SoftEventfd } from './eventfd.js';
import { Faults } from './faults.js';
import { Layouts, type LayoutChange } from './layouts.js';
import { Mailbox, type MailboxStats } from './mailbox.js';
import type { DeviceShape } from './options.js';
import { PciFace } from './pci-face.js';
import type { PreCopyScript } from './pre-copy-script.js';
import { RegionMemory } from './region-memory.js';
import type { RemapRole } from './remap-irq.js';
import { RemapPages } from './remap-pages.js';
import { bitOf, mayChange, maySignal } from './remap-shape.js';
import { layoutLagMs, StateMachine, type Outcome } from './state-machine.js';
import type { Timers } from './timers.js';
import { Trace, type TraceEvent } from './trace.js';
import { V1Registers } from './v1-registers.js';
import { Violations } from './violations.js';

/**
 * The vendor driver: what a kernel driver would answer, call by call, as errnos and bytes. It knows nothing of Observables;
 * the port above turns its answers into calls. Script and witness (`SoftwareVendorDriver`) are its other face.
 */
export class VendorDriver implements SoftwareVendorDriver {
  readonly faults = new Faults();
  readonly dma: Iommu;
  readonly shape: DeviceShape;
  readonly #trace: Trace;
  readonly #memory: ReadonlyMap<number, RegionMemory>;
  readonly #layouts: Layouts;
  readonly #mailbox: Mailbox | undefined;
  readonly #pci: PciFace;
  readonly #remap: RemapPages | undefined;
  readonly #lines: DeviceIrqs;
  readonly #machine: StateMachine;
  readonly v1: V1Registers | undefined;
  readonly #violations: Violations;
  #stale = 0;
  #user: Timers | undefined;
  #removed = false;

  constructor(shape: DeviceShape) {
    this.shape = shape;
    this.dma = new Iommu(shape.dmaLogging === undefined ? undefined : new DmaLog(shape.dmaLogging));
    this.#trace = new Trace(shape.traceEvents, () => this.#nowNs());
    this.#violations = new Violations(this.#trace, () => this.#nowNs());
    this.#layouts = new Layouts(shape.regions);
    this.#memory = new Map([...shape.regions].map(([index, { size }]) => [index, new RegionMemory(index, size, (write) => {
      if (!write.mapped) this.#stale += 1;
      this.#violations.add(write.mapped ? 'suspended-write' : 'stale-write', { region: write.region, offset: write.offset });
    })]));
    this.#pci = new PciFace(this.#memory, shape.lowPower);
    const mailbox = shape.mailbox === undefined ? undefined : this.#memory.get(shape.mailbox);
    this.#mailbox = mailbox === undefined ? undefined : new Mailbox(mailbox);
    const timers = (): Timers => {
      if (this.#user === undefined) throw new Error('the driver waits only for a user');
      return this.#user;
    };
    this.#remap = shape.remap === undefined ? undefined : new RemapPages({
      shape: shape.remap,
      timers,
      faults: this.faults,
      trace: this.#trace,
      inUse: (eventfd) => this.#lines.holds(eventfd),
      allGone: (page) => this.#allGone(page),
      signalled: (count) => { this.#publish('signal', String(count)); },
      overAcked: (value) => { this.#violations.add('ack-not-sent', { value }); },
    });
    this.#lines = new DeviceIrqs(shape.irqs, this.#trace, (eventfd) => this.#remap?.holds(eventfd) === true);
    this.#machine = new StateMachine({
      migration: shape.migration,
      maxWaits: shape.remap?.maxWaits ?? 1,
      refusesConflicts: shape.remap?.profile === 'saving-layout',
      regions: new Map([...this.#memory].filter(([index]) => index !== shape.migrationRegion)),
      layouts: this.#layouts,
      remap: this.#remap,
      timers,
      faults: this.faults,
      trace: this.#trace,
      announce: (changes) => { this.#announce(changes); },
      stillMapped: (region, area) => { this.#violations.add('acked-while-mapped', { region, offset: area.offset, value: BigInt(area.size) }); },
    });
    const v1 = shape.migrationRegion === undefined ? undefined : this.#memory.get(shape.migrationRegion);
    this.v1 = v1 === undefined ? undefined : new V1Registers({ memory: v1, machine: this.#machine, faults: this.faults });
  }

  // ── script ──────────────────────────────────────────────────────────────────────────────────────────────

  revoke(region: number): void {
    this.#changeOnOwnAccount(region, () => this.#layouts.withdraw(region));
  }

  restore(region: number): void {
    this.#changeOnOwnAccount(region, () => this.#layouts.giveBack(region));
  }

  get preCopy(): PreCopyScript { return this.#machine.preCopy; }

  raiseMsi(): void {
    this.raise({ index: this.shape.ownIrq });
  }

  raise(line: IrqLine): void {
    this.#lines.raise(line.index, line.vector);
  }

  lower(line: IrqLine): void {
    this.#lines.lower(line.index);
  }

  remove(): void {
    this.#removed = true;
    this.#machine.cancel();
  }

  // ── witness ─────────────────────────────────────────────────────────────────────────────────────────────

  get opens(): number { return this.#user === undefined ? 0 : 1; }

  get vmas(): number {
    let count = 0;
    for (const memory of this.#memory.values()) count += memory.vmas;
    return count;
  }

  get irqs(): number {
    return this.#lines.eventfds + (this.#remap?.eventfds ?? 0);
  }

  get waiters(): number {
    return this.#remap?.waiting === true ? 1 : 0;
  }

  get sent(): bigint {
    return this.#remap?.all[0]?.sent ?? 0n;
  }

  get acked(): bigint {
    return this.#remap?.all[0]?.acked ?? 0n;
  }

  get pages(): readonly PageWitness[] {
    return (this.#remap?.all ?? []).map(({ page, irqIndex, complete, waiting, sent, acked }) => ({ page, irqIndex, complete, waiting, sent, acked }));
  }

  get violations(): number {
    this.#checkPoison();
    return this.#violations.count;
  }

  get violationList(): readonly Violation[] {
    this.#checkPoison();
    return this.#violations.list;
  }

  get layout(): ReadonlyMap<number, readonly Area[]> {
    return new Map([...this.shape.regions.keys()].map((region) => [region, this.#layouts.offered(region)]));
  }

  get state(): State {
    return this.#machine.state;
  }

  get trace(): readonly TraceEvent[] {
    return this.#trace.events;
  }

  get mailbox(): MailboxStats {
    this.scan();
    this.#checkPoison();
    return { guests: this.#mailbox?.guests ?? [], stale: this.#stale };
  }

  readRegion(region: number, offset: number, bytes: number): Uint8Array {
    return this.#memory.get(region)?.read(offset, bytes) ?? new Uint8Array(0);
  }

  writeRegion(region: number, offset: number, bytes: Uint8Array): void {
    this.#memory.get(region)?.write(offset, bytes);
  }

  // ── what the port calls ─────────────────────────────────────────────────────────────────────────────────

  get gone(): boolean { return this.#removed; }

  open(user: Timers): Errno | undefined {
    if (this.#removed) return 'ENODEV';
    if (this.#user !== undefined) return 'EBUSY';
    this.#user = user;
    this.#pci.opened();
    this.#trace.add('open');
    return undefined;
  }

  /** The device fd is closed; irqs and mappings went before. */
  release(): void {
    this.#remap?.drop();
    this.dma.log?.stop();
    this.#machine.closed();
    this.#trace.add('close');
    this.#user = undefined;
  }

  info(buffer: Uint8Array): Errno | undefined {
    if (this.#removed) return 'ENODEV';
    answerInto(buffer, deviceInfoAnswer(this.shape.numRegions, this.shape.numIrqs, this.shape.face), deviceInfoLayout.sizeof, undefined);
    this.faults.spoil('info', 0, buffer);
    return undefined;
  }

  regionInfo(index: number, buffer: Uint8Array): Errno | undefined {
    if (this.#removed) return 'ENODEV';
    if (index >= this.shape.numRegions) return 'EINVAL';
    this.#trace.add('query', { region: index });
    const failure = this.faults.take(`query ${index}`);
    if (failure !== undefined) return failure;
    const region = this.shape.regions.get(index);
    // In profile saving-layout nothing of the answer changes: it says at once what each group of states offers.
    const both = this.shape.remap?.profile === 'saving-layout' && mayChange(this.shape.remap, index) ? region : undefined;
    const answer = regionInfoAnswer(index, region, both?.areas ?? this.#layouts.offered(index), both?.savingAreas);
    answerInto(buffer, answer, regionInfoLayout.sizeof, regionInfoLayout.cap_offset);
    this.faults.spoil('regionInfo', index, buffer);
    return undefined;
  }

  irqInfo(index: number, buffer: Uint8Array): Errno | undefined {
    if (this.#removed) return 'ENODEV';
    const { remap } = this.shape;
    const line = this.#lines.info(index);
    const page = remap?.pages.find(({ irqIndex }) => irqIndex === index);
    const answer = line !== undefined ? irqInfoAnswer(index, line) : remap !== undefined && page !== undefined ? remapIrqInfoAnswer({ shape: remap, page }) : undefined;
    if (answer === undefined) return 'EINVAL';
    answerInto(buffer, answer, irqInfoChainLayout.sizeof, irqInfoChainLayout.cap_offset);
    this.faults.spoil('irqInfo', index, buffer);
    return undefined;
  }

  /** VFIO_DEVICE_SET_IRQS. A remap irq has neither masks nor a loopback. */
  setIrqs(set: IrqSet<SoftEventfd | undefined>): Errno | undefined {
    if (this.#removed && !takesAway(set)) return 'ENODEV';
    const { index, action } = set;
    if (this.#remap?.at(index) === undefined) return this.#lines.set(set);
    if (action === 'mask' || set.data === 'bool' || (set.data === 'none' && (set.count > 0 || action !== 'trigger'))) return 'ENOTTY';
    const [eventfd] = set.data === 'eventfd' ? set.fds : [];
    if (eventfd !== undefined) return this.registerIrq(index, action === 'trigger' ? 'trigger' : 'ack', eventfd);
    // Disabling the trigger takes the ack fd along.
    if (action === 'trigger') this.disableIrq(index);
    return undefined;
  }

  /** The same for a remap irq and one eventfd: TRIGGER, or UNMASK for the role `ack`. */
  registerIrq(index: number, role: RemapRole, eventfd: SoftEventfd): Errno | undefined {
    if (this.#removed) return 'ENODEV';
    const page = this.#remap?.at(index);
    return page === undefined ? 'EINVAL' : page.register(role, eventfd);
  }

  /** And for DATA_NONE with count 0. */
  disableIrq(index: number): void {
    this.#remap?.at(index)?.disable();
  }

  mmap(region: number, area: Area, memory?: ArrayBufferLike): Mapping | Errno {
    if (this.#removed) return 'ENODEV';
    const failure = this.faults.take(`map ${region}`);
    if (failure !== undefined) return failure;
    if (!coversAreas(this.#layouts.offered(region), [area])) return 'EINVAL';
    const mapping = this.#memory.get(region)?.map(area, memory);
    if (mapping === undefined) return 'EBUSY';
    this.#trace.add('mmap', { region, ...hexArea(area) });
    return mapping;
  }

  /** munmap of what of the area is still mapped. It needs no driver, so it works on a device that is gone. */
  munmap(mapping: Mapping, area: Area): void {
    const { region } = mapping;
    if (this.dma.shows(mapping, area)) this.#violations.add('unmapped-in-iommu', { region, offset: area.offset, value: BigInt(area.size) });
    const gone = region === this.shape.mailbox ? this.#mailbox?.unmap(mapping, area) : this.#memory.get(region)?.unmap(mapping, area);
    for (const piece of gone ?? []) this.#trace.add('munmap', { region, ...hexArea(piece) });
    this.#remap?.settle();
  }

  isMapped(mapping: Mapping, area: Area): boolean {
    return this.#memory.get(mapping.region)?.isMapped(mapping, area) ?? false;
  }

  get mappings(): readonly Mapping[] {
    return [...this.#memory.values()].flatMap((memory) => memory.mappings);
  }

  /** pread. */
  read(region: number, offset: number, bytes: number): Uint8Array | Errno {
    if (this.#removed) return 'ENODEV';
    const shape = this.shape.regions.get(region);
    if (shape?.readable !== true || offset + bytes > shape.size) return 'EINVAL';
    if (this.#pci.isOff(region)) return 'EIO';
    if (region === this.shape.migrationRegion) return this.v1?.read(offset, bytes) ?? 'EINVAL';
    return this.readRegion(region, offset, bytes);
  }

  /** pwrite. */
  write(region: number, offset: number, bytes: Uint8Array): Errno | undefined {
    if (this.#removed) return 'ENODEV';
    const shape = this.shape.regions.get(region);
    if (shape?.writable !== true || offset + bytes.length > shape.size) return 'EINVAL';
    if (this.#pci.isOff(region)) return 'EIO';
    if (region === this.shape.migrationRegion) return this.v1?.write(offset, bytes);
    this.writeRegion(region, offset, bytes);
    this.#pci.written(region);
    if (region === this.shape.mailbox) this.#mailbox?.written(offset, bytes.length);
    return undefined;
  }

  get busy(): boolean { return this.#machine.busy; }

  setState(to: State, done: (outcome: Outcome) => void): void {
    if (this.#removed) done({ errno: 'ENODEV' });
    else if (this.shape.migration.flags === 0) done({ errno: 'ENOTTY' });
    else this.#machine.set(to, done);
  }

  reset(done: (outcome: Outcome) => void): void {
    if (this.#removed) done({ errno: 'ENODEV' });
    else {
      this.#trace.add('reset');
      this.#pci.reset();
      this.#machine.reset(done);
    }
  }

  /** VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY and _EXIT. */
  lowPower(enter: boolean): Errno | undefined {
    return this.#removed ? 'ENODEV' : this.#pci.lowPower(enter);
  }

  /** Takes what rests in the mailbox's mapped slots; true where there is something mapped to look at again. */
  scan(): boolean {
    this.#mailbox?.scan();
    return this.shape.mailbox !== undefined && (this.#memory.get(this.shape.mailbox)?.vmas ?? 0) > 0;
  }

  // ── inside ──────────────────────────────────────────────────────────────────────────────────────────────

  #changeOnOwnAccount(region: number, change: () => readonly LayoutChange[]): void {
    const { remap, name } = this.shape;
    if (this.#remap === undefined || !maySignal(remap, region)) throw new RangeError(`${name}: region ${region} is not among those that this driver may signal`);
    if (this.faults.signalBeforeLayout && this.#user !== undefined) {
      this.#remap.signal([region]);
      this.#user.afterMs(layoutLagMs, () => { this.#announce(change()); });
      return;
    }
    const changes = change();
    this.#announce(changes);
    this.#remap.signal(changes.map(({ region: changed }) => changed));
  }

  #allGone(page: number): boolean {
    return [...this.#memory].every(([index, memory]) => bitOf(index).page !== page || subtractAreas(memory.mappedAreas, this.#layouts.offered(index)).length === 0);
  }

  #announce(changes: readonly LayoutChange[]): void {
    for (const { region, revoked } of changes) {
      this.#trace.add('layout', { region, mmap: this.#layouts.offered(region).length > 0 ? 1 : 0 });
      this.#publish('driver', `${revoked.length > 0 ? 'revoke' : 'restore'}${region}`, region);
    }
  }

  #checkPoison(): void {
    for (const memory of this.#memory.values()) memory.checkPoison();
  }

  #nowNs(): bigint {
    return this.#user?.clock.nowNs() ?? 0n;
  }

  #publish(lane: Lane, label: string, region?: number): void {
    if (!portChannel.hasSubscribers) return;
    portChannel.publish({ device: this.shape.name, atNs: this.#nowNs(), lane, label, ...(region === undefined ? {} : { region }) });
  }
}

/** What a user gives back is taken also when the device is gone. */
function takesAway(set: IrqSet<SoftEventfd | undefined>): boolean {
  return set.data === 'eventfd' ? set.fds.every((fd) => fd === undefined) : set.data === 'none' && set.count === 0;
}

function hexArea(area: Area): { readonly offset: string; readonly size: string } {
  return { offset: `0x${area.offset.toString(16)}`, size: `0x${area.size.toString(16)}` };
}
