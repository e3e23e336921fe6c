import { concat, fields } from './bytes-helpers.js';

/**
 * The vendor driver's side, as far as tests need it: answers built field by field, with the numbers of <linux/vfio.h>
 * written out, so that a wrong offset in the reader cannot hide behind the same one here.
 */

export interface CapabilityToWrite {
  readonly id: number;
  readonly version?: number;
  readonly payload: Uint8Array;
}

/** A chain as the kernel lays it: one capability behind the other, from `start` on. */
export function chain(start: number, capabilities: readonly CapabilityToWrite[]): Uint8Array {
  let at = start;
  return concat(
    capabilities.map(({ id, version = 1, payload }, i) => {
      at += 8 + payload.length;
      const next = i === capabilities.length - 1 ? 0 : at;
      return fields(['u16', id], ['u16', version], ['u32', next], payload);
    }),
  );
}

export interface RegionToWrite {
  readonly index: number;
  readonly flags: number;
  readonly size: number | bigint;
  readonly offset: number | bigint;
  readonly capabilities?: readonly CapabilityToWrite[];
}

export function regionInfo({ index, flags, size, offset, capabilities = [] }: RegionToWrite): Uint8Array {
  const tail = chain(32, capabilities);
  const has = capabilities.length > 0;
  return fields(
    ['u32', 32 + tail.length],
    ['u32', has ? flags | 8 : flags],
    ['u32', index],
    ['u32', has ? 32 : 0],
    ['u64', size],
    ['u64', offset],
    tail,
  );
}

export interface AreaToWrite {
  readonly offset: number | bigint;
  readonly size: number | bigint;
}

export function sparse(areas: readonly AreaToWrite[], version = 1): CapabilityToWrite {
  const payload = fields(
    ['u32', areas.length],
    ['u32', 0],
    ...areas.flatMap(({ offset, size }) => [['u64', offset] as const, ['u64', size] as const]),
  );
  return { id: 1, version, payload };
}

export interface IrqToWrite {
  readonly index: number;
  readonly flags: number;
  readonly count: number;
  readonly capabilities?: readonly CapabilityToWrite[];
}

/** Without capabilities the 16 bytes of mainline, with them the form that has cap_offset at byte 16. */
export function irqInfo({ index, flags, count, capabilities = [] }: IrqToWrite): Uint8Array {
  if (capabilities.length === 0) return fields(['u32', 16], ['u32', flags], ['u32', index], ['u32', count]);
  const tail = chain(20, capabilities);
  return fields(['u32', 20 + tail.length], ['u32', flags | 16], ['u32', index], ['u32', count], ['u32', 20], tail);
}

export function irqType(type: number, subtype: number, version = 1): CapabilityToWrite {
  return { id: 3, version, payload: fields(['u32', type], ['u32', subtype]) };
}

export interface RemapToWrite {
  readonly page: number;
  readonly flags: number;
  readonly regions: bigint;
  readonly ackTimeoutMs: number;
  readonly maxWaits: number;
}

export function remap(of: RemapToWrite, version = 1): CapabilityToWrite {
  const payload = fields(['u32', of.page], ['u32', of.flags], ['u64', of.regions], ['u32', of.ackTimeoutMs], ['u32', of.maxWaits]);
  return { id: 0xff01, version, payload };
}

/** The IOMMU's side: an answer to VFIO_IOMMU_GET_INFO. */
export function iommuInfo({ pageSizes = 4096n, capabilities = [] }: { readonly pageSizes?: bigint; readonly capabilities?: readonly CapabilityToWrite[] }): Uint8Array {
  const tail = chain(24, capabilities);
  const has = capabilities.length > 0;
  return fields(['u32', 24 + tail.length], ['u32', has ? 3 : 1], ['u64', pageSizes], ['u32', has ? 24 : 0], ['u32', 0], tail);
}

export function iovaRanges(ranges: readonly (readonly [start: bigint, end: bigint])[], count = ranges.length): CapabilityToWrite {
  return { id: 1, payload: fields(['u32', count], ['u32', 0], ...ranges.flatMap(([start, end]) => [['u64', start] as const, ['u64', end] as const])) };
}
