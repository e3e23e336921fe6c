import { protocolError, viewOf, type Origin } from './bytes.js';

/** struct vfio_info_cap_header. */
export const capHeaderLayout = { id: 0, version: 2, next: 4, sizeof: 8 } as const;

/** One capability of a chain, not yet interpreted: its id means one thing in a region's chain, another in an irq's. */
export interface Capability {
  readonly id: number;
  readonly version: number;
  /** From the start of the info struct, bytes. */
  readonly offset: number;
  /**
   * A view of the answer, header included. The chain carries no lengths, so it reaches to the next capability, or to the
   * end of the answer; the reader of a capability checks that there is enough of it.
   */
  readonly bytes: Uint8Array;
}

/** Where a chain stands in an answer. */
export interface Chain {
  /** The struct's cap_offset: first capability, from the start of the struct, bytes. */
  readonly start: number;
  /** The struct's fixed part, bytes: no capability may stand in it. */
  readonly fixedBytes: number;
}

/** The kernel has fewer than ten ids for any struct; more than this in one chain is no description of a device. */
const maxCapabilities = 64;

/** Every field before a u64 payload is a u32 or a pair of u16. */
const alignment = 4;

/**
 * Walks a chain, wherever its offsets point, and returns its capabilities in the chain's order.
 * Throws VFIO_E_PROTOCOL at an offset outside the answer or in the fixed part, at misalignment, at a loop, at an overlap,
 * and at more capabilities than any device has. Source: struct vfio_info_cap_header in <linux/vfio.h>.
 */
export function readCapabilities(answer: Uint8Array, chain: Chain, origin: Origin): readonly Capability[] {
  const view = viewOf(answer);
  const offsets: number[] = [];
  for (let at = chain.start; at !== 0; at = view.getUint32(at + capHeaderLayout.next, true)) {
    if (at < chain.fixedBytes) throw protocolError(origin, at, `a capability stands inside the struct's first ${chain.fixedBytes} bytes`);
    if (at % alignment !== 0) throw protocolError(origin, at, `a capability is not aligned to ${alignment} bytes`);
    if (at + capHeaderLayout.sizeof > answer.length) throw protocolError(origin, at, `a capability begins here, the answer has ${answer.length} bytes`);
    if (offsets.includes(at)) throw protocolError(origin, at, 'the capability chain comes back here: a loop');
    if (offsets.length === maxCapabilities) throw protocolError(origin, at, `more than ${maxCapabilities} capabilities in one chain`);
    offsets.push(at);
  }
  const ends = [...offsets, answer.length].sort((a, b) => a - b);
  return offsets.map((offset) => {
    const end = ends.find((candidate) => candidate > offset) ?? answer.length;
    if (end - offset < capHeaderLayout.sizeof) throw protocolError(origin, offset, `a capability overlaps the one at byte ${end}`);
    return {
      id: view.getUint16(offset + capHeaderLayout.id, true),
      version: view.getUint16(offset + capHeaderLayout.version, true),
      offset,
      bytes: answer.subarray(offset, end),
    };
  });
}

/**
 * The chain of a struct whose flags say that it has one; an empty list where they do not.
 * Throws VFIO_E_PROTOCOL where they do and cap_offset is 0 although the answer fits: reading that as "no capabilities" would
 * turn a sparse region into one that is mappable as a whole.
 */
export function readChain(view: DataView, hasChain: boolean, capOffsetAt: number, fixedBytes: number, origin: Origin): readonly Capability[] {
  if (!hasChain) return [];
  if (view.byteLength < fixedBytes) throw protocolError(origin, view.byteLength, `flags promise capabilities, but the answer ends before byte ${fixedBytes}`);
  const start = view.getUint32(capOffsetAt, true);
  if (start === 0) throw protocolError(origin, capOffsetAt, 'flags promise capabilities, but cap_offset is 0');
  return readCapabilities(new Uint8Array(view.buffer, view.byteOffset, view.byteLength), { start, fixedBytes }, origin);
}

/** The capability with this id, if there is one. Throws VFIO_E_PROTOCOL at two: they could contradict each other. */
export function findCapability(capabilities: readonly Capability[], id: number, origin: Origin): Capability | undefined {
  const [found, second] = capabilities.filter((capability) => capability.id === id);
  if (second !== undefined) throw protocolError(origin, second.offset, `a second capability with id ${id}`);
  return found;
}

/** A view of a capability of at least `sizeof` bytes, header included. */
export function capabilityView(capability: Capability, sizeof: number, origin: Origin): DataView {
  if (capability.bytes.length < sizeof) {
    throw protocolError(origin, capability.offset, `capability ${capability.id} is cut off: ${capability.bytes.length} of ${sizeof} bytes`);
  }
  return viewOf(capability.bytes);
}
