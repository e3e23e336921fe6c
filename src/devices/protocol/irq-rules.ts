import type { VfioErrorCode } from '../../errors.js';
import type { IrqInfo } from '../uapi/irq-info.js';
import { maxVectors, vectorsOf, type IrqAction, type IrqData, type IrqSet } from '../uapi/irq-set.js';

/** What an irq index stands for. On a PCI device the first five have a meaning of their own; any other index speaks through its flags. */
export type IrqKind = 'intx' | 'msi' | 'msi-x' | 'err' | 'req' | 'remap' | 'device';

/** Which data each action of VFIO_DEVICE_SET_IRQS takes. */
export type IrqRow = Readonly<Record<IrqAction, readonly IrqData[]>>;

const all: readonly IrqData[] = ['none', 'bool', 'eventfd'];
const now: readonly IrqData[] = ['none', 'bool'];
const triggerOnly: IrqRow = { trigger: all, mask: [], unmask: [] };

/**
 * DATA x ACTION as vfio-pci has it. TRIGGER by none or bool is a loopback, as if the device had signalled; by eventfd it registers.
 * UNMASK by eventfd registers one whose every write unmasks.
 * Source: drivers/vfio/pci/vfio_pci_intrs.c.
 */
export const pciIrqRows: Readonly<Record<'intx' | 'msi' | 'msi-x' | 'err' | 'req', IrqRow>> = {
  intx: { trigger: all, mask: now, unmask: all },
  msi: triggerOnly,
  'msi-x': triggerOnly,
  err: triggerOnly,
  req: triggerOnly,
};

const pciKinds = ['intx', 'msi', 'msi-x', 'err', 'req'] as const;

/** A PCI device interrupts in one of these ways at a time. */
const exclusive: ReadonlySet<IrqKind> = new Set(['intx', 'msi', 'msi-x']);

export function irqKind(info: IrqInfo, pci: boolean): IrqKind {
  if (info.remap !== undefined) return 'remap';
  return (pci ? pciKinds[info.index] : undefined) ?? 'device';
}

/** The row of an irq: the table's for what PCI defines, else what its flags say. */
export function irqRow(kind: IrqKind, info: IrqInfo): IrqRow {
  switch (kind) {
    case 'remap':
      // Its ack fd, where it has one, is registered by UNMASK; nobody but the driver has anything to signal.
      return { trigger: ['eventfd'], mask: [], unmask: info.remap?.subtype === 'region-remap' && !info.remap.noAck ? ['eventfd'] : [] };
    case 'device':
      return { trigger: info.eventfd ? all : [], mask: info.maskable ? now : [], unmask: info.maskable || info.automasked ? all : [] };
    default:
      return pciIrqRows[kind];
  }
}

/** An irq index and what is registered there at this moment. */
export interface IrqUse {
  readonly kind: IrqKind;
  readonly info: IrqInfo;
  /** The vectors 0 to this, less one, are enabled; 0 where the index is off. */
  readonly enabled: number;
  /** Every irq kind that is on, this one's own too. */
  readonly on: ReadonlySet<IrqKind>;
}

export interface IrqRefusal {
  readonly code: VfioErrorCode;
  readonly message: string;
}

/** Why the device would not take this call of VFIO_DEVICE_SET_IRQS now; undefined where nothing speaks against it. */
export function irqRefusal(set: IrqSet<unknown>, { kind, info, enabled, on }: IrqUse): IrqRefusal | undefined {
  const { index, action, data } = set;
  const { start, count } = vectorsOf(set);
  const refuse = (code: VfioErrorCode, message: string): IrqRefusal => ({ code, message });
  if (info.count === 0) return refuse('VFIO_E_NO_IRQ', `the device has no irq ${index}`);
  if (action === 'trigger' && data === 'none' && count === 0) {
    // Also to turn all of them off the first one named must be there.
    if (!whole(start) || start >= info.count) return refuse('VFIO_E_NO_IRQ', `irq ${index} has ${info.count} vectors, so no vector ${start}`);
    return enabled > 0 ? undefined : refuse('VFIO_E_RANGE', `irq ${index} is not enabled`);
  }
  if (!irqRow(kind, info)[action].includes(data)) return refuse('VFIO_E_UNSUPPORTED', `irq ${index} (${kind}) does not take ${action} by ${data}`);
  if (!whole(start) || !whole(count) || count === 0) return refuse('VFIO_E_RANGE', `${count} vectors from ${start} on are none`);
  if (start + count > info.count) return refuse('VFIO_E_NO_IRQ', `irq ${index} has ${info.count} vectors, so no vector ${start + count - 1}`);
  if (action === 'trigger' && data === 'eventfd') return enabling(kind, info, enabled, on, start + count);
  if (start + count > enabled) return refuse('VFIO_E_RANGE', `vector ${start + count - 1} of irq ${index} is not enabled`);
  return undefined;
}

function enabling(kind: IrqKind, info: IrqInfo, enabled: number, on: ReadonlySet<IrqKind>, end: number): IrqRefusal | undefined {
  const rival = exclusive.has(kind) ? [...on].find((other) => other !== kind && exclusive.has(other)) : undefined;
  if (rival !== undefined) {
    return { code: 'VFIO_E_BUSY', message: `${rival} is enabled, and a PCI device interrupts by one of intx, msi and msi-x at a time: close that irq before this one (${kind})` };
  }
  if (enabled === 0 || end <= enabled || !info.noResize) return undefined;
  return { code: 'VFIO_E_BUSY', message: `irq ${info.index} is enabled with ${enabled} vectors and cannot be resized: close all of them, then ask for all that you need in one call` };
}

function whole(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

/** How many vectors are enabled once the device has taken the call. `none`: what stands for no eventfd. */
export function enabledAfter<Fd>(set: IrqSet<Fd>, kind: IrqKind, enabled: number, none: Fd): number {
  if (set.action !== 'trigger') return enabled;
  const { start, count } = vectorsOf(set);
  if (set.data === 'none' && count === 0) return 0;
  if (set.data !== 'eventfd') return enabled;
  // These have no mode of their own beside their one eventfd: without it they are off.
  if ((kind === 'err' || kind === 'req') && set.fds.every((fd) => fd === none)) return 0;
  return Math.max(enabled, start + count);
}

/** Why these vectors cannot be registered together now, said before the device has taken any; undefined where nothing speaks against it. */
export function registrationRefusal(vectors: readonly number[], withAck: boolean, taken: ReadonlySet<number>, use: IrqUse): IrqRefusal | undefined {
  const { info, enabled } = use;
  const { index } = info;
  const refuse = (code: VfioErrorCode, message: string): IrqRefusal => ({ code, message });
  if (vectors.length === 0 || new Set(vectors).size < vectors.length) return refuse('VFIO_E_RANGE', 'name at least one vector, and none twice');
  for (const vector of vectors) {
    if (!whole(vector) || vector >= maxVectors) return refuse('VFIO_E_RANGE', `${vector} is no vector`);
    if (vector >= info.count) return refuse('VFIO_E_NO_IRQ', info.count === 0 ? `the device has no irq ${index}` : `irq ${index} has ${info.count} vectors, so no vector ${vector}`);
    if (taken.has(vector)) return refuse('VFIO_E_BUSY', `irq ${index}, vector ${vector} is in use: share() its stream, or close its handle first`);
  }
  const [first, last] = [Math.min(...vectors), Math.max(...vectors)];
  const fds = new Array<undefined>(last - first + 1).fill(undefined);
  const trigger = irqRefusal({ index, action: 'trigger', data: 'eventfd', start: first, fds }, use);
  if (trigger !== undefined || !withAck) return trigger;
  return irqRefusal({ index, action: 'unmask', data: 'eventfd', start: first, fds }, { ...use, enabled: Math.max(enabled, last + 1) });
}
