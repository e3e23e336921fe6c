import type { Observable, OperatorFunction } from 'rxjs';
import type { VfioDevice } from '../../src/devices/device.js';
import type { Holder } from '../../src/devices/holders.js';
import type { RemapWishes } from '../../src/devices/protocol/negotiation.js';
import type { State } from '../../src/devices/port.js';
import type { AppliedRemap, RegionBatch, Remap, RemapPlan, RemapSignal, RequeriedBatch } from '../../src/devices/remap-batch.js';
import { acknowledge, applyRemap, decodeRegionBitmap, diffRegions, requeryRegions } from '../../src/operators/index.js';
import { remapIrq, transition, type Arc, type TransitionOptions } from '../../src/streams/index.js';
import type { Alter } from '../support/devices.js';

/** Who plays in a run. A mutant is a cast with one part played badly. */
export interface Cast {
  readonly remapIrq: (device: VfioDevice, wishes: RemapWishes) => Observable<RemapSignal>;
  readonly decode: (device: VfioDevice) => OperatorFunction<RemapSignal, RegionBatch>;
  readonly requery: (device: VfioDevice) => OperatorFunction<RegionBatch, RequeriedBatch>;
  readonly diff: (device: VfioDevice) => OperatorFunction<RequeriedBatch, RemapPlan>;
  readonly apply: (device: VfioDevice) => OperatorFunction<RemapPlan, AppliedRemap>;
  readonly acknowledge: (device: VfioDevice) => OperatorFunction<AppliedRemap, Remap>;
  readonly transition: (device: VfioDevice, to: State, options: TransitionOptions) => Observable<Arc>;
  /** The device's port, as the code under test gets it. */
  readonly port: Alter;
  /** The driver's end of the wire. */
  readonly driver: Alter;
  /** How a holder is asked. */
  readonly holder: (holder: Holder) => Holder;
}

/** The code under test. */
export const trueCast: Cast = {
  remapIrq: (device, wishes) => remapIrq(device, wishes),
  decode: () => decodeRegionBitmap(),
  requery: (device) => requeryRegions(device),
  diff: (device) => diffRegions(device),
  apply: (device) => applyRemap(device),
  acknowledge: (device) => acknowledge(device),
  transition: (device, to, options) => transition(device, to, options),
  port: () => ({}),
  driver: () => ({}),
  holder: (holder) => holder,
};
