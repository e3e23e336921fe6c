import { intersectAreas, subtractAreas } from '../../devices/protocol/areas.js';
import type { Area } from '../../devices/port.js';
import type { DrawnLane, Mark } from './drawn.js';

/** Pieces of one region that have a lane of their own, by where they begin; more share one. */
const mostPieces = 8;

/** The lanes that stand above the mappings. */
const beforeMappings: ReadonlySet<string> = new Set(['driver', 'signal', 'irq', 'query', 'unmap', 'map']);

export function isRegionLane(name: string): boolean {
  return name.startsWith('region ');
}

/** Gathers the marks of one device; lanes stand in the order in which they were first named. */
export class Lanes {
  readonly #lanes = new Map<string, Mark[]>();
  readonly #endNs: number;
  /** What is mapped now, by region. */
  readonly #mapped = new Map<number, { readonly area: Area; readonly atNs: number }[]>();

  readonly #offsets = new Map<number, Set<number>>();

  constructor(order: readonly string[], endNs: number) {
    for (const name of order) this.#lanes.set(name, []);
    this.#endNs = endNs;
  }

  add(lane: string, mark: Mark): void {
    const marks = this.#lanes.get(lane);
    if (marks === undefined) this.#lanes.set(lane, [mark]);
    else marks.push(mark);
  }

  map(region: number, area: Area, atNs: number): void {
    const live = this.#mapped.get(region) ?? [];
    live.push({ area, atNs });
    this.#mapped.set(region, live);
  }

  unmap(region: number, area: Area, atNs: number): void {
    this.#mapped.set(region, (this.#mapped.get(region) ?? []).flatMap((live) => {
      const gone = intersectAreas([live.area], [area]);
      if (gone.length === 0) return [live];
      for (const part of gone) this.#span(region, part, live.atNs, atNs);
      return subtractAreas([live.area], [area]).map((part) => ({ area: part, atNs: live.atNs }));
    }));
  }

  /** The lanes on which something happened; what is still mapped lasts until the end. */
  finish(): readonly DrawnLane[] {
    for (const [region, live] of this.#mapped) for (const { area, atNs } of live) this.#span(region, area, atNs, this.#endNs);
    const lanes = [...this.#lanes].filter(([, marks]) => marks.length > 0).map(([name, marks]) => ({ name, marks: marks.toSorted((a, b) => a.atNs - b.atNs) }));
    const mapped = lanes.filter(({ name }) => isRegionLane(name)).sort((a, b) => (a.name < b.name ? -1 : 1));
    const others = lanes.filter(({ name }) => !isRegionLane(name));
    return [...others.filter(({ name }) => beforeMappings.has(name)), ...mapped, ...others.filter(({ name }) => !beforeMappings.has(name))];
  }

  #span(region: number, area: Area, atNs: number, endNs: number): void {
    const offsets = this.#offsets.get(region) ?? new Set();
    if (offsets.size < mostPieces) offsets.add(area.offset);
    this.#offsets.set(region, offsets);
    const place = offsets.has(area.offset) ? `0x${area.offset.toString(16)}` : '...';
    this.add(`region ${region}+${place}`, { atNs, endNs, label: areaText(area), detail: `region ${region}, ${areaText(area)}, mapped` });
  }
}

export function areaText({ offset, size }: Area): string {
  return `0x${offset.toString(16)}+0x${size.toString(16)}`;
}
