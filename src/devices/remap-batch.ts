import type { Call, RegionInfo } from './port.js';
import type { BatchReason } from './protocol/decode.js';
import type { RegionDiff } from './protocol/layout-diff.js';
import type { AckForm, RemapAgreement, SignalForm } from './protocol/negotiation.js';
import type { NotMapped } from './regions.js';

/**
 * What travels through the remap pipeline. Each step adds what it found to the value and keeps nothing to itself, so that
 * an operator of your own may stand between any two:
 *
 * `RemapSignal -> RegionBatch -> RequeriedBatch -> RemapPlan -> AppliedRemap -> Remap`
 */

/** The registration that a batch belongs to. */
export interface RemapChannel {
  /** How messages name the device. */
  readonly device: string;
  readonly profile: RemapAgreement['profile'];
  readonly page: number;
  /** The regions that may be signalled; in the profiles `static` and `saving-layout` every region of the device. */
  readonly declared: ReadonlySet<number>;
  readonly signals: SignalForm;
  readonly ackForm: AckForm;
  /** The driver's bound on one wait, ms; undefined where it never waits or does not say how long. */
  readonly ackTimeoutMs: number | undefined;
  /**
   * *Now.* Tells the driver that counts of this sum are served, in the form that it hears; emits whether that was done. Nothing
   * is written for 0, and in form `none` never. Fails with VFIO_E_RANGE for more than was read and not yet acked.
   */
  ack(sum: bigint): Call<boolean>;
  /** Ends the batch: the irq is armed again. `acknowledge` calls this; whoever replaces it must, too. What was not acked is in the next batch's sum. */
  end(batch: number): void;
}

export type { BatchReason };

/** From `remapIrq`: something may have changed. */
export interface RemapSignal {
  readonly channel: RemapChannel;
  /** Counts up from 0 within one registration. */
  readonly batch: number;
  readonly because: BatchReason;
  /** What was read from the eventfd and not yet acked; 0 where the batch has no signal. */
  readonly sumRead: bigint;
  /** What was read may be nothing but the user's own ack, come back (`write-one`): it is acked only where a layout has changed. */
  readonly doubtful: boolean;
  /** When it was read, ns on the device's clock. */
  readonly atNs: bigint;
}

/** From `decodeRegionBitmap`: sound, so it may name regions that did not change and misses none that did. */
export interface RegionBatch extends RemapSignal {
  readonly candidates: ReadonlySet<number>;
}

/** From `requeryRegions`: the layouts of this instant. */
export interface RequeriedBatch extends RegionBatch {
  readonly current: ReadonlyMap<number, RegionInfo>;
}

/** From `diffRegions`: one diff for each candidate, also where nothing changed. */
export interface RemapPlan extends RequeriedBatch {
  readonly diffs: readonly RegionDiff[];
}

/** From `applyRemap`: the mappings follow the layouts, but for what is listed. */
export interface AppliedRemap extends RemapPlan {
  readonly notMapped: readonly NotMapped[];
}

/** From `acknowledge`: the batch has ended. */
export interface Remap extends AppliedRemap {
  /** An ack was written. Not so where nothing was read, in form `none`, for an echo, and where the ack did not fit: then the next batch makes it. */
  readonly acked: boolean;
  /** From the read of the eventfd to the ack, or to the end where nothing was acked, ns. */
  readonly servedNs: bigint;
  /** What was left of the driver's ack timeout, ns; negative where it had passed. undefined where nothing was waited for. */
  readonly headroomNs: bigint | undefined;
}
