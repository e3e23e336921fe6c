import { protocolError, readExact, type Origin } from './bytes.js';
import { capabilityView, type Capability } from './capabilities.js';

/** struct vfio_region_info_cap_sparse_mmap. */
export const sparseMmapLayout = { header: 0, nr_areas: 8, reserved: 12, areas: 16, sizeof: 16 } as const;

/** struct vfio_region_sparse_mmap_area. */
export const sparseAreaLayout = { offset: 0, size: 8, sizeof: 16 } as const;

/** A part of a region, bytes from the region's start. */
export interface Area {
  readonly offset: number;
  readonly size: number;
}

/**
 * Reads the areas of a sparse mmap capability, sorted by offset.
 *
 * Areas of size 0 are left out: a driver says "nothing is mappable just now" with one of them, and mmap of no bytes is
 * EINVAL anyway. An area that leaves the region or overlaps another is refused: mapping it would show memory that
 * is not the region's, and a later revocation of the one would leave the other's copy mapped.
 *
 * A version other than 1 is refused too. To ignore it would be to take the whole region for mappable.
 */
export function readSparseAreas(capability: Capability, regionSize: number, origin: Origin): readonly Area[] {
  if (capability.version !== 1) {
    throw protocolError(origin, capability.offset, `sparse mmap capability of version ${capability.version}, this library reads version 1`);
  }
  const view = capabilityView(capability, sparseMmapLayout.sizeof, origin);
  const count = view.getUint32(sparseMmapLayout.nr_areas, true);
  const room = Math.floor((view.byteLength - sparseMmapLayout.areas) / sparseAreaLayout.sizeof);
  if (count > room) {
    throw protocolError(origin, capability.offset + sparseMmapLayout.nr_areas, `nr_areas is ${count}, there is room for ${room}`);
  }
  const areas: Area[] = [];
  for (let i = 0; i < count; i += 1) {
    const at = sparseMmapLayout.areas + i * sparseAreaLayout.sizeof;
    const offset = readExact(view, at + sparseAreaLayout.offset, `offset of area ${i}`, origin, capability.offset);
    const size = readExact(view, at + sparseAreaLayout.size, `size of area ${i}`, origin, capability.offset);
    if (size === 0) continue;
    // Compared so that no sum can pass 2^53.
    if (offset > regionSize || size > regionSize - offset) {
      throw protocolError(origin, capability.offset + at, `area ${i}, ${size} bytes at ${offset}, leaves the region of ${regionSize} bytes`);
    }
    areas.push({ offset, size });
  }
  areas.sort((a, b) => a.offset - b.offset);
  areas.forEach((area, i) => {
    const before = areas[i - 1];
    if (before !== undefined && before.offset + before.size > area.offset) {
      throw protocolError(origin, capability.offset, `the areas at ${before.offset} and ${area.offset} overlap`);
    }
  });
  return areas;
}
