/** Where things stand in PCI configuration space, bytes. Source: <linux/pci_regs.h>. */
export const pciConfigLayout = {
  vendorId: 0x00, deviceId: 0x02, command: 0x04, status: 0x06, revision: 0x08, classCode: 0x09,
  headerType: 0x0e, bars: 0x10, cardbusCapabilities: 0x14, subsystemVendorId: 0x2c, subsystemId: 0x2e,
  capabilities: 0x34, interruptLine: 0x3c, interruptPin: 0x3d, headerEnd: 0x40, extended: 0x100,
} as const;

/** Bits of the command register. */
export const pciCommand = { ioSpace: 1 << 0, memorySpace: 1 << 1, busMaster: 1 << 2, intxDisable: 1 << 10 } as const;

/** Bit of the status register: there is a capability list. */
const statusCapabilityList = 1 << 4;

/** Capabilities that this library looks into. */
export const pciCapabilityId = { powerManagement: 0x01, msi: 0x05, express: 0x10, msix: 0x11, advancedFeatures: 0x13 } as const;

/** One entry of the list at 0x34. */
export interface PciCapability {
  readonly id: number;
  /** In configuration space, bytes. */
  readonly offset: number;
}

/** One entry of the extended list at 0x100. */
export interface PciExtendedCapability extends PciCapability {
  readonly version: number;
}

/** What a walk found, and what stopped it early. */
export interface Walked<T> {
  readonly found: readonly T[];
  readonly fault?: { readonly offset: number; readonly what: string };
}

/** 192 bytes hold no more headers of 4 bytes. */
const mostCapabilities = 48;
/** 3,840 bytes hold no more headers of 4 bytes. */
const mostExtended = 960;

/**
 * Follows the capability list of a header. What a device says is not trusted: a pointer that leaves the space or stands in
 * the header, a loop, and a list longer than there is room for end the walk with a fault; what came before stands.
 */
export function walkCapabilities(config: Uint8Array): Walked<PciCapability> {
  const view = new DataView(config.buffer, config.byteOffset, config.byteLength);
  if (config.length < pciConfigLayout.headerEnd || (view.getUint16(pciConfigLayout.status, true) & statusCapabilityList) === 0) return { found: [] };
  const cardbus = (view.getUint8(pciConfigLayout.headerType) & 0x7f) === 2;
  const first = cardbus ? pciConfigLayout.cardbusCapabilities : pciConfigLayout.capabilities;
  const end = Math.min(config.length, pciConfigLayout.extended);
  const found: PciCapability[] = [];
  // The two low bits are reserved, whatever stands in them.
  for (let at = view.getUint8(first) & 0xfc; at !== 0; at = view.getUint8(at + 1) & 0xfc) {
    const fault = pointerFault(at, pciConfigLayout.headerEnd, end, found, mostCapabilities);
    if (fault !== undefined) return { found, fault };
    found.push({ id: view.getUint8(at), offset: at });
  }
  return { found };
}

/**
 * The same for the extended list; empty where configuration space ends at 256 bytes. A header whose id is 0 is one that the
 * kernel hides: it is passed over, its pointer is followed.
 */
export function walkExtendedCapabilities(config: Uint8Array): Walked<PciExtendedCapability> {
  const view = new DataView(config.buffer, config.byteOffset, config.byteLength);
  const seen: PciExtendedCapability[] = [];
  const found = (): readonly PciExtendedCapability[] => seen.filter(({ id }) => id !== 0);
  for (let at: number = pciConfigLayout.extended; at !== 0;) {
    // A device without any reads zeros, or ones, at the first place.
    if (at === pciConfigLayout.extended && (config.length < at + 4 || [0, 0xffff_ffff].includes(view.getUint32(at, true)))) break;
    const fault = pointerFault(at, pciConfigLayout.extended, config.length, seen, mostExtended);
    if (fault !== undefined) return { found: found(), fault };
    const header = view.getUint32(at, true);
    seen.push({ id: header & 0xffff, version: (header >>> 16) & 0xf, offset: at });
    at = (header >>> 20) & 0xffc;
  }
  return { found: found() };
}

function pointerFault(at: number, first: number, end: number, seen: readonly PciCapability[], most: number): Walked<never>['fault'] {
  const what =
    at < first ? `a pointer leads to byte ${at}, in front of the list's room`
    : at + 4 > end ? `a pointer leads to byte ${at}, the space has ${end} bytes`
    : seen.some(({ offset }) => offset === at) ? 'the list comes back here: a loop'
    : seen.length === most ? `more than ${most} capabilities`
    : undefined;
  return what === undefined ? undefined : { offset: at, what };
}
