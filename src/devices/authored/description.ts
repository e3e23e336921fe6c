import { VfioError } from '../../errors.js';
import type { ConfigCapability } from './config-image.js';

/** A base address register, and the region behind it. */
export interface PciBarDescription {
  /** 0 to 5. */
  readonly index: number;
  readonly kind: 'io' | 'memory';
  /** Bytes, a power of two: 4 to 256 of I/O, 16 or more of memory. */
  readonly size: number;
}

/** Where the table of MSI-X stands: in a memory BAR, which then needs 16 bytes a vector there, and 8 bytes for each 64 of them behind that. */
export interface MsixDescription {
  /** 1 to 2048. */
  readonly vectors: number;
  readonly bar: number;
  /** In the BAR, bytes: a multiple of 8. Default 0. */
  readonly offset?: number;
}

/** How a device interrupts. A user chooses one of them at a time. */
export interface InterruptsDescription {
  /** A level line, pin A. Default: none. */
  readonly intx?: boolean;
  /** Vectors of MSI: 1, 2, 4, 8, 16 or 32. Default: none. */
  readonly msi?: number;
  readonly msix?: MsixDescription;
}

/** What a PCI device is to whoever looks at it: all that does not change. */
export interface PciDeviceDescription {
  /** How messages name the device. Default: its ids, as `1b36:0002`. */
  readonly name?: string;
  readonly vendorId: number;
  readonly deviceId: number;
  /** Default: those of the device. */
  readonly subsystem?: { readonly vendorId: number; readonly deviceId: number };
  readonly revision?: number;
  /** 24 bits: base class, subclass, programming interface. */
  readonly classCode: number;
  readonly bars: readonly PciBarDescription[];
  readonly interrupts?: InterruptsDescription;
  /** Beside those of its interrupts, in this order: `vendorCapability` makes one. */
  readonly capabilities?: readonly ConfigCapability[];
}

/** A description, checked. */
export interface PciDeviceShape extends PciDeviceDescription {
  readonly name: string;
  readonly msix: Required<MsixDescription> & { readonly pba: number; readonly end: number } | undefined;
}

const hex4 = (value: number): string => value.toString(16).padStart(4, '0');

/** Throws VFIO_E_RANGE where the description is of no device that could be. */
export function shapeOfPciDevice(description: PciDeviceDescription): PciDeviceShape {
  const { vendorId, deviceId, bars, classCode, interrupts = {}, revision = 0, subsystem = { vendorId, deviceId } } = description;
  const name = description.name ?? `${hex4(vendorId)}:${hex4(deviceId)}`;
  const demand = (holds: boolean, what: string): void => {
    if (!holds) throw new VfioError('VFIO_E_RANGE', what, { operation: 'pciDevice', device: name });
  };
  for (const id of [vendorId, deviceId, subsystem.vendorId, subsystem.deviceId]) demand(whole(id, 0, 0xffff), `${id} is no id of 16 bits`);
  demand(vendorId !== 0xffff, 'vendor 0xffff says that there is no device');
  demand(whole(classCode, 0, 0xff_ffff), `class code ${classCode} has more than 24 bits`);
  demand(whole(revision, 0, 0xff), `revision ${revision} has more than 8 bits`);
  for (const { index, kind, size } of bars) {
    demand(whole(index, 0, 5), `there is no BAR ${index}`);
    demand(bars.filter((other) => other.index === index).length === 1, `BAR ${index} is described twice`);
    const [least, most] = kind === 'io' ? [4, 256] : [16, 2 ** 31];
    demand(whole(size, least, most) && Number.isInteger(Math.log2(size)), `BAR ${index} (${kind}) has ${size} bytes: a power of two from ${least} to ${most}`);
  }
  const { msi, msix } = interrupts;
  demand(msi === undefined || [1, 2, 4, 8, 16, 32].includes(msi), `MSI has 1, 2, 4, 8, 16 or 32 vectors, not ${msi}`);
  return { ...description, name, msix: msix === undefined ? undefined : shapeOfMsix(msix, bars, demand) };
}

function shapeOfMsix(msix: MsixDescription, bars: readonly PciBarDescription[], demand: (holds: boolean, what: string) => void): PciDeviceShape['msix'] {
  const { vectors, bar, offset = 0 } = msix;
  demand(whole(vectors, 1, 2048), `MSI-X has 1 to 2048 vectors, not ${vectors}`);
  demand(whole(offset, 0, 2 ** 31) && offset % 8 === 0, `the table of MSI-X stands at a multiple of 8, not at ${offset}`);
  const pba = offset + 16 * vectors;
  const end = pba + 8 * Math.ceil(vectors / 64);
  const found = bars.find(({ index }) => index === bar);
  demand(found?.kind === 'memory' && end <= found.size, `the table of MSI-X needs bytes ${offset} to ${end} of a memory BAR, and BAR ${bar} has none there`);
  return { vectors, bar, offset, pba, end };
}

function whole(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most;
}
