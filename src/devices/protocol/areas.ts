import type { Area } from '../uapi/region-info.js';

/** Arithmetic of areas: lists are sorted, free of overlap and of empty areas, and touching ones are one. Bytes. */

const end = (area: Area): number => area.offset + area.size;

/** Sorts, drops what is empty, joins what overlaps or touches. */
export function normalizeAreas(areas: readonly Area[]): readonly Area[] {
  const [only] = areas;
  // Most lists are this short, and every batch makes many.
  if (areas.length < 2) return only === undefined || only.size > 0 ? areas : [];
  const sorted = areas.filter((area) => area.size > 0).sort((a, b) => a.offset - b.offset);
  const joined: Area[] = [];
  for (const area of sorted) {
    const last = joined.at(-1);
    if (last !== undefined && area.offset <= end(last)) {
      joined[joined.length - 1] = { offset: last.offset, size: Math.max(end(last), end(area)) - last.offset };
    } else {
      joined.push(area);
    }
  }
  return joined;
}

/** What lies in both. */
export function intersectAreas(a: readonly Area[], b: readonly Area[]): readonly Area[] {
  if (a.length === 0 || b.length === 0) return [];
  const left = normalizeAreas(a);
  const right = normalizeAreas(b);
  const both: Area[] = [];
  for (const x of left) {
    for (const y of right) {
      const offset = Math.max(x.offset, y.offset);
      const size = Math.min(end(x), end(y)) - offset;
      if (size > 0) both.push({ offset, size });
    }
  }
  return both;
}

/** What lies in `a` and not in `b`. */
export function subtractAreas(a: readonly Area[], b: readonly Area[]): readonly Area[] {
  if (a.length === 0 || b.length === 0) return normalizeAreas(a);
  const rest: Area[] = [];
  const holes = normalizeAreas(b);
  for (const area of normalizeAreas(a)) {
    let offset = area.offset;
    for (const hole of holes) {
      if (end(hole) <= offset || hole.offset >= end(area)) continue;
      if (hole.offset > offset) rest.push({ offset, size: hole.offset - offset });
      offset = Math.max(offset, end(hole));
    }
    if (offset < end(area)) rest.push({ offset, size: end(area) - offset });
  }
  return rest;
}

/** True where no byte of `inner` lies outside `outer`. */
export function coversAreas(outer: readonly Area[], inner: readonly Area[]): boolean {
  return subtractAreas(inner, outer).length === 0;
}
