import type { Area, RegionInfo } from '../uapi/region-info.js';
import type { State } from '../uapi/migration-state.js';
import { normalizeAreas, subtractAreas } from './areas.js';
import { isSaving } from './migration-states.js';

/** What may be mapped of a region of profile `saving-layout`, by the state that the device is in. */
export interface TwoLayouts {
  /** In the saving group: the driver says it at any time. */
  readonly saving: readonly Area[];
  /** In every other state: known once the region has been asked in one. Undefined until then. */
  readonly outside: readonly Area[] | undefined;
}

/** What an answer given in this state says beyond what was known; undefined for a region whose layout does not follow the state. */
export function learnLayouts(info: RegionInfo, state: State, known?: TwoLayouts): TwoLayouts | undefined {
  if (info.savingAreas === undefined) return undefined;
  return { saving: info.savingAreas, outside: isSaving(state) ? known?.outside : info.areas };
}

/** What may be mapped in this state. Nothing where that is not known: what is mapped in vain is refused, what is not costs a trap. */
export function areasIn(layouts: TwoLayouts, state: State): readonly Area[] {
  return isSaving(state) ? layouts.saving : (layouts.outside ?? []);
}

/** An answer as it counts in this state: a driver may go on showing the other layout while it saves. */
export function layoutIn(info: RegionInfo, state: State): RegionInfo {
  if (info.savingAreas === undefined || !isSaving(state)) return info;
  return { ...info, mmappable: info.savingAreas.length > 0, areas: info.savingAreas };
}

/** What nobody may have mapped when the device is to go to this state. */
export function conflictingAreas(layouts: TwoLayouts, to: State): readonly Area[] {
  return subtractAreas(normalizeAreas([...layouts.saving, ...(layouts.outside ?? [])]), areasIn(layouts, to));
}
