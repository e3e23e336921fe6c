import { VfioError } from '../../errors.js';
import { pciCapabilityId, pciConfigLayout } from '../protocol/pci-capabilities.js';
import type { PciDeviceShape } from './description.js';

/** One capability of configuration space: its bytes, and which bits of them a user may write (none that are left out). */
export interface ConfigCapability {
  readonly id: number;
  /** Behind the two bytes of id and pointer. */
  readonly body: Uint8Array;
  readonly writable?: Uint8Array;
}

/** Configuration space after a reset, and the bits of it that can be written. Both have 256 bytes. */
export interface ConfigImage {
  readonly bytes: Uint8Array;
  readonly writable: Uint8Array;
  /** Where the capabilities of the interrupts stand; undefined where there is none. */
  readonly msi: number | undefined;
  readonly msix: number | undefined;
}

const vendorSpecific = 0x09;
const statusCapabilityList = 1 << 4;
/** I/O, memory, bus master, parity, SERR, INTx disable. */
const writableCommand = 0x0547;
const barFlags = { io: 1, memory: 0 } as const;

/** A vendor's own capability: `body` comes behind id, pointer and length. */
export function vendorCapability(body: Uint8Array): ConfigCapability {
  return { id: vendorSpecific, body: Uint8Array.of(body.length + 3, ...body) };
}

/** MSI of 64-bit addresses, without masks. */
function msiCapability(vectors: number): ConfigCapability {
  const body = new Uint8Array(12);
  const writable = new Uint8Array(12).fill(0xff, 2);
  body[0] = 0x80 | (Math.log2(vectors) << 1);
  // Enable, and how many of them.
  writable[0] = 0x71;
  return { id: pciCapabilityId.msi, body, writable };
}

function msixCapability({ vectors, bar, offset, pba }: NonNullable<PciDeviceShape['msix']>): ConfigCapability {
  const body = new Uint8Array(10);
  const view = new DataView(body.buffer);
  view.setUint16(0, vectors - 1, true);
  view.setUint32(2, offset | bar, true);
  view.setUint32(6, pba | bar, true);
  // Enable, and the mask of all.
  return { id: pciCapabilityId.msix, body, writable: Uint8Array.of(0, 0xc0) };
}

/** Throws VFIO_E_RANGE where the capabilities do not fit. */
export function configImage(shape: PciDeviceShape): ConfigImage {
  const bytes = new Uint8Array(pciConfigLayout.extended);
  const writable = new Uint8Array(bytes.length);
  const [image, mask] = [new DataView(bytes.buffer), new DataView(writable.buffer)];
  const { vendorId, deviceId, classCode, revision = 0, subsystem = { vendorId, deviceId }, interrupts = {}, msix } = shape;
  image.setUint16(pciConfigLayout.vendorId, vendorId, true);
  image.setUint16(pciConfigLayout.deviceId, deviceId, true);
  image.setUint32(pciConfigLayout.revision, revision | (classCode << 8), true);
  image.setUint16(pciConfigLayout.subsystemVendorId, subsystem.vendorId, true);
  image.setUint16(pciConfigLayout.subsystemId, subsystem.deviceId, true);
  image.setUint8(pciConfigLayout.interruptPin, interrupts.intx === true ? 1 : 0);
  mask.setUint16(pciConfigLayout.command, writableCommand, true);
  mask.setUint8(pciConfigLayout.interruptLine, 0xff);
  for (const { index, kind, size } of shape.bars) {
    image.setUint32(pciConfigLayout.bars + 4 * index, barFlags[kind], true);
    // What cannot be written reads 0: so a BAR tells its size.
    mask.setUint32(pciConfigLayout.bars + 4 * index, -size >>> 0, true);
  }

  let [pointer, at]: [number, number] = [pciConfigLayout.capabilities, pciConfigLayout.headerEnd];
  const add = ({ id, body, writable: bits = new Uint8Array() }: ConfigCapability): number => {
    const here = at;
    at += Math.ceil((2 + body.length) / 4) * 4;
    if (at > bytes.length) throw new VfioError('VFIO_E_RANGE', `the capabilities need more than the ${bytes.length} bytes of configuration space`, { operation: 'pciDevice', device: shape.name });
    bytes[pointer] = here;
    bytes[here] = id;
    bytes.set(body, here + 2);
    writable.set(bits, here + 2);
    bytes[pciConfigLayout.status] = statusCapabilityList;
    pointer = here + 1;
    return here;
  };
  for (const capability of shape.capabilities ?? []) add(capability);
  return {
    bytes,
    writable,
    msi: interrupts.msi === undefined ? undefined : add(msiCapability(interrupts.msi)),
    msix: msix === undefined ? undefined : add(msixCapability(msix)),
  };
}
