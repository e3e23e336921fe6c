import { intersectAreas, subtractAreas } from '../protocol/areas.js';
import type { Area } from '../uapi/region-info.js';
import type { RegionShape } from './options.js';

/** How the layout of one region changed. */
export interface LayoutChange {
  readonly region: number;
  readonly revoked: readonly Area[];
  readonly added: readonly Area[];
}

/**
 * What may be mapped at this instant. It is a function of three things: the state's group, the regions that the driver
 * revoked on its own account, and those that a state write now under way has already cut down to what both groups offer.
 */
export class Layouts {
  readonly #regions: ReadonlyMap<number, RegionShape>;
  readonly #withdrawn = new Set<number>();
  readonly #narrowed = new Set<number>();
  #saving = false;
  #offered: ReadonlyMap<number, readonly Area[]>;

  constructor(regions: ReadonlyMap<number, RegionShape>) {
    this.#regions = regions;
    this.#offered = this.#compute();
  }

  /** Empty for a region that is not there. */
  offered(region: number): readonly Area[] {
    return this.#offered.get(region) ?? [];
  }

  /** It is that of this group of states: nothing would go. */
  follows(saving: boolean): boolean {
    return saving === this.#saving;
  }

  /** What would go if the region were narrowed to what both groups offer. */
  lostTo(saving: boolean, region: number): readonly Area[] {
    const shape = this.#regions.get(region);
    if (shape === undefined || this.follows(saving)) return [];
    return subtractAreas(this.offered(region), saving ? shape.savingAreas : shape.areas);
  }

  /** The driver's own doing, state or not. */
  withdraw(region: number): readonly LayoutChange[] {
    this.#withdrawn.add(region);
    return this.#change();
  }

  giveBack(region: number): readonly LayoutChange[] {
    this.#withdrawn.delete(region);
    return this.#change();
  }

  /** Before the arcs: these regions offer only what both groups offer. */
  narrow(regions: readonly number[]): readonly LayoutChange[] {
    for (const region of regions) this.#narrowed.add(region);
    return this.#change();
  }

  /** The layout of the state that the device is in, nothing narrowed: after success, and as the roll-back. */
  settle(saving: boolean): readonly LayoutChange[] {
    if (saving === this.#saving && this.#narrowed.size === 0) return [];
    this.#saving = saving;
    this.#narrowed.clear();
    return this.#change();
  }

  #change(): readonly LayoutChange[] {
    const before = this.#offered;
    this.#offered = this.#compute();
    const changes: LayoutChange[] = [];
    for (const [region, now] of this.#offered) {
      const then = before.get(region) ?? [];
      const revoked = subtractAreas(then, now);
      const added = subtractAreas(now, then);
      if (revoked.length + added.length > 0) changes.push({ region, revoked, added });
    }
    return changes;
  }

  #compute(): ReadonlyMap<number, readonly Area[]> {
    return new Map([...this.#regions].map(([index, shape]) => [index, this.#areasOf(shape)]));
  }

  #areasOf(shape: RegionShape): readonly Area[] {
    if (this.#withdrawn.has(shape.index)) return [];
    if (this.#narrowed.has(shape.index)) return intersectAreas(shape.areas, shape.savingAreas);
    return this.#saving ? shape.savingAreas : shape.areas;
  }
}
