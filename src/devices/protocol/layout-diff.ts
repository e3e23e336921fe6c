import type { Area, RegionInfo } from '../uapi/region-info.js';
import { intersectAreas, subtractAreas } from './areas.js';

/** What is mapped of a region now, and under which access flags it was mapped. */
export interface MappedLayout {
  readonly areas: readonly Area[];
  readonly readable: boolean;
  readonly writable: boolean;
  /** The region's size when the device was opened, bytes. */
  readonly size: number;
}

/** What must change so that the mappings of one region equal its layout. Lists are sorted and free of overlap. */
export interface RegionDiff {
  readonly index: number;
  readonly kept: readonly Area[];
  readonly revoked: readonly Area[];
  readonly added: readonly Area[];
  readonly lost: AccessRights;
  readonly gained: AccessRights;
  /** R9: only mmap-ability may change. The pipeline reports it and goes on within the smaller size. */
  readonly sizeChange?: { readonly from: number; readonly to: number };
}

export interface AccessRights {
  readonly read: boolean;
  readonly write: boolean;
}

/** What may be mapped of a region. One that claims to have grown is believed up to the size that it was opened with, bytes. */
export function offeredAreas(layout: RegionInfo, openedSize: number): readonly Area[] {
  return layout.mmappable ? intersectAreas(layout.areas, [{ offset: 0, size: openedSize }]) : [];
}

/**
 * Compares a layout with what IS mapped, not with the last answer: an earlier map may have failed.
 * Where READ or WRITE came or went the mapping's protection is stale, so all of it is mapped anew.
 */
export function diffLayout(mapped: MappedLayout, layout: RegionInfo): RegionDiff {
  const offered = offeredAreas(layout, mapped.size);
  const lost = { read: mapped.readable && !layout.readable, write: mapped.writable && !layout.writable };
  const gained = { read: !mapped.readable && layout.readable, write: !mapped.writable && layout.writable };
  const sameRights = !lost.read && !lost.write && !gained.read && !gained.write;
  const kept = sameRights ? intersectAreas(mapped.areas, offered) : [];
  return {
    index: layout.index,
    kept,
    revoked: subtractAreas(mapped.areas, kept),
    added: subtractAreas(offered, kept),
    lost,
    gained,
    ...(layout.size === mapped.size ? {} : { sizeChange: { from: mapped.size, to: layout.size } }),
  };
}

/** The layout is as it was applied last: neither areas nor rights differ. */
export function changesNothing({ revoked, added, lost, gained }: RegionDiff): boolean {
  return revoked.length === 0 && added.length === 0 && [lost, gained].every(({ read, write }) => !read && !write);
}

export function sameLayout(a: RegionInfo | undefined, b: RegionInfo): boolean {
  return (
    a !== undefined &&
    a.flags === b.flags &&
    a.size === b.size &&
    a.areas.length === b.areas.length &&
    a.areas.every((area, i) => area.offset === b.areas[i]?.offset && area.size === b.areas[i].size)
  );
}
