/** `vfio-rx/operators`: pipeable operators, and the values that travel through them. */
export { decodeRegionBitmap } from './decode-region-bitmap.js';
export { requeryRegions, type RequeryOptions } from './requery-regions.js';
export { diffRegions } from './diff-regions.js';
export { applyRemap, type ApplyOptions } from './apply-remap.js';
export { acknowledge } from './acknowledge.js';
export { lockstep } from './lockstep.js';
export { gateByState, type GateOptions } from './gate-by-state.js';
export { stepDeadline, type StepDeadlineOptions } from './step-deadline.js';
export { retryWithBackoff, type BackoffOptions } from './retry-with-backoff.js';
export { recoverDevices, type Recovered, type RecoverOptions } from './recover-devices.js';
export { remapRegions, type RemapOptions } from './remap-regions.js';
export type { AppliedRemap, BatchReason, RegionBatch, Remap, RemapChannel, RemapPlan, RemapSignal, RequeriedBatch } from '../devices/remap-batch.js';
export type { AccessRights, RegionDiff } from '../devices/protocol/layout-diff.js';
export type { AckForm, SignalForm } from '../devices/protocol/negotiation.js';
