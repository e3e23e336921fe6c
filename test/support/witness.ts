import type { Area, State } from '../../src/devices/port.js';
import type { Errno } from '../../src/devices/software/errno.js';
import type { TraceEvent } from '../../src/devices/software/trace.js';

/**
 * What the driver's side saw: the software driver's own getters, or the sample kernel driver's sysfs, read synchronously at
 * each use. A test that wants to know what a port did asks here, not the port.
 */
export interface Witness {
  readonly opens: number;
  readonly vmas: number;
  /** Eventfds registered, in all roles. */
  readonly irqs: number;
  /** Writes of device_state that are blocked for an ack. */
  readonly waiters: number;
  readonly sent: bigint;
  readonly acked: bigint;
  readonly violations: number;
  /** What may be mapped of each region that the device has. */
  readonly layout: ReadonlyMap<number, readonly Area[]>;
  readonly state: State;
  readonly trace: readonly TraceEvent[];
}

/** What a test can make either driver do. */
export interface DriverScript {
  revoke(region: number): void;
  restore(region: number): void;
  raiseMsi(): void;
  /** The line of INTx goes up or down. */
  intx(up: boolean): void;
  ignoreAcks(on: boolean): void;
  failQuery(region: number, errno: Errno, times: number): void;
  /** Makes the answer to VFIO_DEVICE_GET_REGION_INFO contradict itself. Undefined for a driver that cannot be made to lie. */
  readonly lieAboutRegion?: (region: number) => void;
}
