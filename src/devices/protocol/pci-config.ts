import { VfioError } from '../../errors.js';
import { protocolError, viewOf, type Origin } from '../uapi/bytes.js';
import { pciCommand, pciConfigLayout, walkCapabilities, walkExtendedCapabilities, type PciCapability, type PciExtendedCapability } from './pci-capabilities.js';

/** The command register. */
export interface PciCommand {
  /** All 16 bits. */
  readonly value: number;
  readonly ioSpace: boolean;
  /** The device answers to its memory BARs. */
  readonly memorySpace: boolean;
  /** The device may make DMA and send MSI. */
  readonly busMaster: boolean;
  readonly intxDisable: boolean;
}

/** A base address register. One that reads 0 is not implemented, or not assigned, and is left out. */
export interface PciBar {
  /** 0 to 5, as the index of its region; a 64-bit one takes the next place too. */
  readonly index: number;
  readonly kind: 'memory' | 'io';
  readonly bits: 32 | 64;
  readonly prefetchable: boolean;
  /** What stands in the register. A VFIO user sees a copy of its own: writing it moves nothing. */
  readonly address: bigint;
}

/** The header of PCI configuration space and its two capability lists. Source: <linux/pci_regs.h>. */
export interface PciConfig {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly command: PciCommand;
  readonly status: number;
  readonly revision: number;
  /** 24 bits: base class, subclass, programming interface. */
  readonly classCode: number;
  readonly kind: 'endpoint' | 'bridge' | 'cardbus' | 'unknown';
  readonly multifunction: boolean;
  /** Of an endpoint. */
  readonly subsystem?: { readonly vendorId: number; readonly deviceId: number };
  readonly bars: readonly PciBar[];
  /** 0: no INTx; 1 to 4: INTA to INTD. */
  readonly interruptPin: number;
  readonly interruptLine: number;
  /** In the order of the list. */
  readonly capabilities: readonly PciCapability[];
  /** Empty where configuration space ends at 256 bytes. */
  readonly extended: readonly PciExtendedCapability[];
}

const kinds = ['endpoint', 'bridge', 'cardbus'] as const;
const barsOf = { endpoint: 6, bridge: 2, cardbus: 0, unknown: 0 } as const;
const multifunctionBit = 0x80;

/** Bits of a base address register. */
const bar = { io: 1, ioAddress: 0xffff_fffc, type: 6, type64: 4, prefetchable: 8, memoryAddress: 0xffff_fff0 } as const;

/**
 * Reads configuration space: 64 bytes at least, 256 with the capabilities, 4,096 with the extended ones.
 * Throws VFIO_E_PROTOCOL where it is cut off, a list is broken (a loop, a pointer that leads out of its room) or a 64-bit BAR has
 * no upper half; VFIO_E_NO_DEVICE where it reads ones, as a device does that was pulled out.
 */
export function readPciConfig(bytes: Uint8Array, device?: string): PciConfig {
  const origin: Origin = { operation: 'read configuration space', device };
  if (bytes.length < pciConfigLayout.headerEnd) throw protocolError(origin, bytes.length, `cut off: ${bytes.length} of at least ${pciConfigLayout.headerEnd} bytes`);
  const view = viewOf(bytes);
  const u8 = (at: number): number => view.getUint8(at);
  const u16 = (at: number): number => view.getUint16(at, true);
  const vendorId = u16(pciConfigLayout.vendorId);
  if (vendorId === 0xffff) throw new VfioError('VFIO_E_NO_DEVICE', 'configuration space reads ones: the device was pulled out, or does not answer', origin);

  const type = u8(pciConfigLayout.headerType);
  const kind = kinds[type & ~multifunctionBit] ?? 'unknown';
  const subsystem = { vendorId: u16(pciConfigLayout.subsystemVendorId), deviceId: u16(pciConfigLayout.subsystemId) };
  const capabilities = walkCapabilities(bytes);
  const extended = walkExtendedCapabilities(bytes);
  for (const { fault } of [capabilities, extended]) if (fault !== undefined) throw protocolError(origin, fault.offset, `capability list: ${fault.what}`);
  return {
    vendorId,
    deviceId: u16(pciConfigLayout.deviceId),
    command: readPciCommand(u16(pciConfigLayout.command)),
    status: u16(pciConfigLayout.status),
    revision: u8(pciConfigLayout.revision),
    classCode: view.getUint32(pciConfigLayout.revision, true) >>> 8,
    kind,
    multifunction: (type & multifunctionBit) !== 0,
    ...(kind === 'endpoint' ? { subsystem } : {}),
    bars: readBars(view, barsOf[kind], origin),
    interruptPin: u8(pciConfigLayout.interruptPin),
    interruptLine: u8(pciConfigLayout.interruptLine),
    capabilities: capabilities.found,
    extended: extended.found,
  };
}

export function readPciCommand(value: number): PciCommand {
  const has = (bit: number): boolean => (value & bit) !== 0;
  return { value, ioSpace: has(pciCommand.ioSpace), memorySpace: has(pciCommand.memorySpace), busMaster: has(pciCommand.busMaster), intxDisable: has(pciCommand.intxDisable) };
}

function readBars(view: DataView, count: number, origin: Origin): readonly PciBar[] {
  const bars: PciBar[] = [];
  for (let index = 0; index < count; index += 1) {
    const at = pciConfigLayout.bars + 4 * index;
    const low = view.getUint32(at, true);
    if (low === 0) continue;
    if ((low & bar.io) !== 0) {
      bars.push({ index, kind: 'io', bits: 32, prefetchable: false, address: BigInt((low & bar.ioAddress) >>> 0) });
      continue;
    }
    const wide = (low & bar.type) === bar.type64;
    if (wide && index + 1 === count) throw protocolError(origin, at, 'the last BAR claims to have 64 bits: its upper half would lie outside');
    const address = BigInt((low & bar.memoryAddress) >>> 0) | (wide ? BigInt(view.getUint32(at + 4, true)) << 32n : 0n);
    bars.push({ index, kind: 'memory', bits: wide ? 64 : 32, prefetchable: (low & bar.prefetchable) !== 0, address });
    if (wide) index += 1;
  }
  return bars;
}
