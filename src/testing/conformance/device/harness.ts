import type { Clock } from '../../../clock.js';
import type { VfioDevice } from '../../../devices/device.js';
import type { Call } from '../../../devices/port.js';
import type { Lacks } from '../rule.js';

/** What some rules of a device need that not every one has. */
export type DeviceNeed =
  /** `state` of the harness: something of the device that a guest can change and look at. */
  | 'state'
  /** It may be given what is no state of it, and be left in ERROR until it is reset. */
  | 'destructive'
  /** Its irqs may be registered, and more than once. */
  | 'irqs'
  /** `writes` of the harness: it can be made to write memory by DMA. */
  | 'writes';

/** How the suites of a device get it. */
export interface DeviceHarness {
  /** A device for one rule, RUNNING, with no pipeline on it; the suites serve its remaps themselves. Always one at a time. */
  openDevice(): Promise<VfioDevice>;
  /** Closes it. After each rule. */
  dispose(): Promise<void>;
  /** How long a call may take before the rule fails, ms. */
  readonly patienceMs: number;
  /** How long one arc may take, ms. Default: the patience. */
  readonly deadlineMs?: number;
  /** A part of the device's state: changes it to what `seed` stands for, and looks at it. */
  readonly state?: {
    change(device: VfioDevice, seed: number): Call<unknown>;
    look(device: VfioDevice): Call<Uint8Array>;
  };
  /** Has it write by DMA, zeros: memory that it may reach, at an IO address. */
  writes?(device: VfioDevice, iova: bigint, bytes: number): Call<unknown>;
  /** Asks for the rules that hurt, too. Default false. */
  readonly destructive?: boolean;
  readonly lacks?: Lacks<DeviceNeed>;
  /** What the patience is measured on. Default: real time. */
  readonly clock?: Clock;
}
