import { catchError, concatMap, defer, EMPTY, from, ignoreElements, map, merge, tap, type Observable } from 'rxjs';
import { warningChannel } from '../diagnostics.js';
import { VfioError } from '../errors.js';
import { disregard } from './call.js';
import type { Area, DevicePort, RegionInfo, State } from './port.js';
import { subtractAreas } from './protocol/areas.js';
import { offeredAreas } from './protocol/layout-diff.js';
import { areasIn, conflictingAreas, layoutIn, learnLayouts, type TwoLayouts } from './protocol/saving-layout.js';
import type { Region } from './regions.js';

/** What layouts that follow device_state need of their device. */
export interface LayoutSurroundings {
  readonly port: DevicePort;
  readonly regions: ReadonlyMap<number, Region>;
  /** An irq tells of the layouts: then the remap pipeline moves the mappings, and nobody else does. */
  readonly toldByIrq: () => boolean;
  /** Accessors use what is mapped, and the layouts are told. */
  readonly settle: (layouts: readonly RegionInfo[]) => void;
}

/** How long a holder may take to let go, ms: no driver waits for it, so it has half of what a write of device_state has by default. */
const stateBudgetMs = 2_500;

/**
 * Profile `saving-layout`: moves the mappings around a write of device_state, so that the driver finds nothing mapped that the
 * target's layout lacks. No irq, no ack, and no pipeline is needed for it.
 *
 * Between `prepare` and `adopt` no area of such a region is mapped anew: what is asked for meanwhile is mapped by `adopt`.
 */
export class StateLayouts {
  readonly #around: LayoutSurroundings;
  readonly #known = new Map<number, TwoLayouts>();
  /** What `prepare` has taken hold of. */
  #held: readonly Region[] = [];

  constructor(around: LayoutSurroundings, infos: readonly RegionInfo[], state: State) {
    this.#around = around;
    for (const info of infos) this.#learn(info, state);
  }

  /** Takes away what the target's layout lacks. Fails where a holder does not let go, or with what munmap says. undefined: there is nothing to take. */
  prepare(to: State): Observable<never> | undefined {
    if (this.#known.size === 0) return undefined;
    return defer(() => {
      if (this.#around.toldByIrq()) return EMPTY;
      const regions = [...this.#known].flatMap(([index, layouts]) => {
        const region = this.#around.regions.get(index);
        return region === undefined ? [] : [{ region, lacks: subtractAreas(region.mapped.areas, areasIn(layouts, to)) }];
      });
      this.#held = regions.map(({ region }) => region);
      for (const region of this.#held) region.holdMappings(true);
      // All at once: every holder's budget begins now.
      const revoked = regions.filter(({ lacks }) => lacks.length > 0).map(({ region, lacks }) => region.revoke(lacks, stateBudgetMs));
      return merge(...revoked).pipe(ignoreElements());
    });
  }

  /** Maps what the state's layout offers of the regions that the user maps. Never fails: what cannot be mapped stays trapped, and is reported. undefined: nothing is held. */
  adopt(state: State): Observable<never> | undefined {
    if (this.#held.length === 0) return undefined;
    return defer(() => {
      const held = this.#held;
      this.#held = [];
      for (const region of held) region.holdMappings(false);
      return from(held).pipe(concatMap((region) => this.#adoptOne(region, state)));
    });
  }

  /** The error of a driver that found something mapped; undefined where there is nothing that could have been. */
  refusal(error: VfioError, to: State): VfioError | undefined {
    if (this.#held.length === 0 || error.errno !== 'EBUSY') return undefined;
    const areas = [...this.#known].flatMap(([index, layouts]) => conflictingAreas(layouts, to).map((area) => `${print(area)} of region ${index}`));
    if (areas.length === 0) return undefined;
    const message = `refused by the vendor driver: some of ${areas.join(', ')} is still mapped, which the layout of ${to} lacks. This device has unmapped it: look for another process, a child of this one, or a second fd`;
    return new VfioError('VFIO_E_MAPPED', message, { operation: error.operation, device: this.#around.port.name, errno: error.errno, cause: error });
  }

  #adoptOne(region: Region, state: State): Observable<never> {
    const { port, settle } = this.#around;
    return port.regionInfo(region.index).pipe(
      tap((info) => this.#learn(info, state)),
      map((info) => layoutIn(info, state)),
      concatMap((layout) => {
        const { areas, size } = region.mapped;
        const added = region.wanted ? subtractAreas(offeredAreas(layout, size), areas) : [];
        return region.attach(added).pipe(
          tap(() => {
            settle([layout]);
            // Who takes an area back must not hold up the write.
            disregard(region.offer(stateBudgetMs));
          }),
        );
      }),
      ignoreElements(),
      catchError((error: unknown) => {
        if (warningChannel.hasSubscribers) {
          warningChannel.publish({ device: port.name, atNs: port.clock.nowNs(), what: `region ${region.index} could not be looked at after a write of device_state and stays trapped`, error });
        }
        return EMPTY;
      }),
    );
  }

  #learn(info: RegionInfo, state: State): void {
    const layouts = learnLayouts(info, state, this.#known.get(info.index));
    if (layouts !== undefined) this.#known.set(info.index, layouts);
  }
}

function print(area: Area): string {
  return `0x${area.offset.toString(16)}+0x${area.size.toString(16)}`;
}
