import type { Region } from '../../src/devices/regions.js';

/** One width: what it writes, and what reading that back must give. Values are too large on purpose: the rest is cut off. */
interface Width {
  readonly bytes: 1 | 2 | 4 | 8;
  readonly write: (region: Region, offset: number) => void;
  readonly read: (region: Region, offset: number) => number | bigint;
  readonly value: number | bigint;
}

export const widths: readonly Width[] = [
  { bytes: 1, write: (region, at) => region.write8(at, 0x1fe), read: (region, at) => region.read8(at), value: 0xfe },
  { bytes: 2, write: (region, at) => region.write16(at, 0x1_fedc), read: (region, at) => region.read16(at), value: 0xfedc },
  { bytes: 4, write: (region, at) => region.write32(at, 0x1_fedc_ba98), read: (region, at) => region.read32(at), value: 0xfedc_ba98 },
  { bytes: 8, write: (region, at) => region.write64(at, 0x1_fedc_ba98_7654_3210n), read: (region, at) => region.read64(at), value: 0xfedc_ba98_7654_3210n },
];

/** The little-endian bytes of a value. */
export function littleEndian({ bytes, value }: Width): readonly number[] {
  return Array.from({ length: bytes }, (_, n) => Number((BigInt(value) >> BigInt(8 * n)) & 0xffn));
}

/**
 * Every width at `base` of a region of plain memory, one behind the other, naturally aligned: what was written and what was read.
 * `seen` is the device's own look at those bytes.
 */
export function throughEveryWidth(region: Region, base: number, seen: (offset: number, bytes: number) => readonly number[]): readonly { readonly bytes: number; readonly read: number | bigint; readonly seen: readonly number[] }[] {
  return widths.map(({ bytes, write, read }) => {
    const at = base + 2 * bytes;
    write(region, at);
    return { bytes, read: read(region, at), seen: seen(at, bytes) };
  });
}

/** What `throughEveryWidth` must say. */
export const everyWidth = widths.map((width) => ({ bytes: width.bytes, read: width.value, seen: littleEndian(width) }));
