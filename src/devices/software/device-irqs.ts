import {
  VFIO_IRQ_INFO_AUTOMASKED, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE, VFIO_IRQ_INFO_NORESIZE, VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_REQ_IRQ_INDEX,
} from '../uapi/constants.js';
import type { IrqSet } from '../uapi/irq-set.js';
import type { Errno } from './errno.js';
import { outsideCallbacks, type SoftEventfd } from './eventfd.js';
import type { Trace } from './trace.js';

/** Which irqs a software device has beside its remap irqs. */
export interface SoftwareIrqs {
  /** A level line, automasked. Default true; only with the PCI face. */
  readonly intx?: boolean;
  /** Vectors of MSI, enabled all at once. Default 4; 0: none. */
  readonly msi?: number;
  /** Vectors of MSI-X. Default 0. */
  readonly msix?: number;
  /** MSI-X vectors may be added while others are enabled. Default true, as Linux has it since 6.5. */
  readonly dynamicMsix?: boolean;
  readonly err?: boolean;
  readonly req?: boolean;
  /** A maskable irq of the device's own, and how many vectors it has: at the first index after those of PCI and of remaps, at 0 without the PCI face. Default: none; 1 without the PCI face. */
  readonly device?: number;
}

type Kind = 'intx' | 'msi' | 'msi-x' | 'err' | 'req' | 'device';

/** An irq of the device, as its info tells of it. */
export interface IrqFact {
  readonly kind: Kind;
  readonly index: number;
  readonly count: number;
  readonly flags: number;
}

const eventfdOnly = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE;
const maskable = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE;

/** The irqs that stand at an index of their own, as VFIO_DEVICE_GET_IRQ_INFO tells of them. */
export function irqFacts(irqs: SoftwareIrqs, face: 'pci' | 'non-pci'): readonly IrqFact[] {
  if (face === 'non-pci') return present([{ kind: 'device', index: 0, count: irqs.device ?? 1, flags: maskable }]);
  return present([
    { kind: 'intx', index: VFIO_PCI_INTX_IRQ_INDEX, count: (irqs.intx ?? true) ? 1 : 0, flags: maskable | VFIO_IRQ_INFO_AUTOMASKED },
    { kind: 'msi', index: VFIO_PCI_MSI_IRQ_INDEX, count: irqs.msi ?? 4, flags: eventfdOnly },
    { kind: 'msi-x', index: VFIO_PCI_MSIX_IRQ_INDEX, count: irqs.msix ?? 0, flags: (irqs.dynamicMsix ?? true) ? VFIO_IRQ_INFO_EVENTFD : eventfdOnly },
    { kind: 'err', index: VFIO_PCI_ERR_IRQ_INDEX, count: irqs.err === true ? 1 : 0, flags: eventfdOnly },
    { kind: 'req', index: VFIO_PCI_REQ_IRQ_INDEX, count: irqs.req === true ? 1 : 0, flags: eventfdOnly },
  ]);
}

/** The same, and what a PCI device has beyond them and its remap irqs. */
export function withOwnIrq(facts: readonly IrqFact[], irqs: SoftwareIrqs, face: 'pci' | 'non-pci', remaps: readonly { readonly irqIndex: number }[]): readonly IrqFact[] {
  if (face === 'non-pci') return facts;
  const index = Math.max(VFIO_PCI_NUM_IRQS, ...remaps.map(({ irqIndex }) => irqIndex + 1));
  return present([...facts, { kind: 'device', index, count: irqs.device ?? 0, flags: maskable }]);
}

function present(facts: readonly IrqFact[]): readonly IrqFact[] {
  return facts.filter(({ count }) => count > 0);
}

/** One vector from the driver's side. */
interface Vector {
  trigger: SoftEventfd | undefined;
  unmaskFd: SoftEventfd | undefined;
  masked: boolean;
  /** INTx: the line is asserted. Else: something came while it was masked. */
  pending: boolean;
}

interface Line extends IrqFact {
  /** Vectors below this are enabled. */
  enabled: number;
  readonly vectors: readonly Vector[];
}

/**
 * A device's irqs as vfio-pci serves VFIO_DEVICE_SET_IRQS: what a call is refused with (ENOTTY: no such action; EINVAL: not here,
 * not now), what it does, and what the device's own signals do then. It trusts nothing that a port may have checked before.
 */
export class DeviceIrqs {
  readonly #lines: ReadonlyMap<number, Line>;
  readonly #trace: Trace;
  readonly #heldElsewhere: (eventfd: SoftEventfd) => boolean;

  constructor(facts: readonly IrqFact[], trace: Trace, heldElsewhere: (eventfd: SoftEventfd) => boolean) {
    this.#lines = new Map(facts.map((fact) => [fact.index, { ...fact, enabled: 0, vectors: Array.from({ length: fact.count }, freshVector) }]));
    this.#trace = trace;
    this.#heldElsewhere = heldElsewhere;
  }

  info(index: number): { readonly flags: number; readonly count: number } | undefined {
    return this.#lines.get(index);
  }

  /** Eventfds registered, in all roles. */
  get eventfds(): number {
    let count = 0;
    for (const { vectors } of this.#lines.values()) for (const { trigger, unmaskFd } of vectors) count += (trigger === undefined ? 0 : 1) + (unmaskFd === undefined ? 0 : 1);
    return count;
  }

  holds(eventfd: SoftEventfd): boolean {
    return [...this.#lines.values()].some(({ vectors }) => vectors.some(({ trigger, unmaskFd }) => trigger === eventfd || unmaskFd === eventfd));
  }

  /** The device signals: asserts INTx until `lower`, sends one message of any other. */
  raise(index: number, vector = 0): void {
    const line = this.#lines.get(index);
    const one = line?.vectors[vector];
    if (line === undefined || one === undefined) throw new RangeError(`this device has no irq ${index}, vector ${vector}`);
    if (vector >= line.enabled) {
      // A line stays up until somebody looks; a message that nobody takes is lost.
      one.pending = line.kind === 'intx';
      return;
    }
    if (one.masked || line.kind === 'intx') one.pending = true;
    if (!one.masked) this.#deliver(line, one);
  }

  /** INTx: the device's cause has been cleared. */
  lower(index: number): void {
    for (const one of this.#lines.get(index)?.vectors ?? []) one.pending = false;
  }

  set(set: IrqSet<SoftEventfd | undefined>): Errno | undefined {
    const line = this.#lines.get(set.index);
    if (line === undefined) return 'EINVAL';
    const { start = 0 } = set;
    const count = set.data === 'none' ? set.count : set.data === 'bool' ? set.vectors.length : set.fds.length;
    if (start >= line.count || start + count > line.count || (count === 0 && set.data !== 'none')) return 'EINVAL';
    if (set.action !== 'trigger') return line.kind === 'intx' || line.kind === 'device' ? this.#mask(line, set, start, count) : 'ENOTTY';
    if (set.data === 'none' && count === 0) return this.#off(line);
    if (this.#rivalOf(line) !== undefined) return 'EINVAL';
    if (set.data === 'eventfd') return this.#register(line, start, set.fds);
    if (start + count > line.enabled) return 'EINVAL';
    for (const one of chosen(line, set, start, count)) one.trigger?.add(1n);
    return undefined;
  }

  /** Everything is off: the device was closed. */
  close(): void {
    for (const line of this.#lines.values()) if (line.enabled > 0) this.#off(line);
  }

  #rivalOf(line: Line): Line | undefined {
    const exclusive = (kind: Kind): boolean => kind === 'intx' || kind === 'msi' || kind === 'msi-x';
    return [...this.#lines.values()].find((other) => other !== line && other.enabled > 0 && exclusive(other.kind) && exclusive(line.kind));
  }

  #register(line: Line, start: number, fds: readonly (SoftEventfd | undefined)[]): Errno | undefined {
    const { kind } = line;
    const end = start + fds.length;
    const fixed = (line.flags & VFIO_IRQ_INFO_NORESIZE) !== 0;
    if (fixed && line.enabled > 0 && end > line.enabled) return 'EINVAL';
    if (fds.some((fd) => fd !== undefined && this.#heldElsewhere(fd))) return 'EINVAL';
    if ((kind === 'err' || kind === 'req') && fds[0] === undefined) {
      this.#off(line);
      return undefined;
    }
    line.enabled = Math.max(line.enabled, end);
    fds.forEach((fd, n) => this.#give(line, start + n, fd));
    for (const one of line.vectors.slice(start, end)) if (one.pending && !one.masked) this.#deliver(line, one);
    return undefined;
  }

  #give(line: Line, vector: number, fd: SoftEventfd | undefined): void {
    const one = line.vectors[vector];
    if (one === undefined) return;
    if (one.trigger !== undefined) this.#told('unregister', line.kind, vector);
    one.trigger = fd;
    if (fd !== undefined) this.#told('register', line.kind, vector);
  }

  #mask(line: Line, set: IrqSet<SoftEventfd | undefined>, start: number, count: number): Errno | undefined {
    if (count === 0 || start + count > line.enabled) return 'EINVAL';
    if (set.data === 'eventfd') {
      if (set.action === 'mask') return 'ENOTTY';
      if (set.fds.some((fd) => fd !== undefined && this.#heldElsewhere(fd))) return 'EINVAL';
      set.fds.forEach((fd, n) => this.#giveUnmask(line, start + n, fd));
      return undefined;
    }
    for (const one of chosen(line, set, start, count)) {
      if (set.action === 'mask') one.masked = true;
      else this.#unmask(line, one);
    }
    return undefined;
  }

  #giveUnmask(line: Line, vector: number, fd: SoftEventfd | undefined): void {
    const one = line.vectors[vector];
    if (one === undefined) return;
    if (one.unmaskFd !== undefined) {
      one.unmaskFd.listen(undefined);
      this.#told('unregister', 'unmask', vector);
    }
    one.unmaskFd = fd;
    if (fd === undefined) return;
    this.#told('register', 'unmask', vector);
    fd.listen({
      written: () => {
        fd.take();
        // A line that is still up signals again: not in here.
        outsideCallbacks(() => { this.#unmask(line, one); });
      },
      hungUp: () => { this.#giveUnmask(line, vector, undefined); },
    });
  }

  #unmask(line: Line, one: Vector): void {
    one.masked = false;
    if (one.pending) this.#deliver(line, one);
  }

  #deliver(line: Line, one: Vector): void {
    if (line.kind === 'intx') one.masked = true;
    else one.pending = false;
    one.trigger?.add(1n);
  }

  #off(line: Line): Errno | undefined {
    if (line.enabled === 0) return 'EINVAL';
    line.enabled = 0;
    line.vectors.forEach((one, vector) => {
      this.#give(line, vector, undefined);
      this.#giveUnmask(line, vector, undefined);
      one.masked = false;
      if (line.kind !== 'intx') one.pending = false;
    });
    return undefined;
  }

  #told(event: 'register' | 'unregister', role: string, vector: number): void {
    this.#trace.add(event, { role, ...(vector === 0 ? {} : { vector }) });
  }
}

function freshVector(): Vector {
  return { trigger: undefined, unmaskFd: undefined, masked: false, pending: false };
}

/** The vectors that a call without eventfds is about. */
function chosen(line: Line, set: IrqSet<SoftEventfd | undefined>, start: number, count: number): readonly Vector[] {
  const range = line.vectors.slice(start, start + count);
  return set.data === 'bool' ? range.filter((_, n) => set.vectors[n] === true) : range;
}
