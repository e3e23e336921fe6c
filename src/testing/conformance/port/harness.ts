import type { Clock } from '../../../clock.js';
import type { Area, DevicePort, State } from '../../../devices/port.js';
import type { Errno } from '../../../devices/software/errno.js';
import type { TraceEvent } from '../../../devices/software/trace.js';
import type { Lacks } from '../rule.js';

/**
 * What the driver's side saw: the software driver's own getters, or the sample kernel driver's sysfs, read synchronously at
 * each use. A check that wants to know what a port did asks here, not the port.
 */
export interface PortWitness {
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

/** What a check makes the driver do. */
export interface PortScript {
  revoke(region: number): void;
  restore(region: number): void;
  raiseMsi(): void;
  /** The line of INTx goes up or down. */
  intx(up: boolean): void;
  ignoreAcks(on: boolean): void;
  failQuery(region: number, errno: Errno, times: number): void;
  /** Makes the answer to VFIO_DEVICE_GET_REGION_INFO contradict itself. */
  readonly lieAboutRegion?: (region: number) => void;
}

/** What some rules need that not every backend has. Declare what yours lacks; all else is demanded of it. */
export type PortNeed =
  /** That act of its script. */
  | keyof PortScript
  /** Mapped memory that is the device's: accesses to it do not cross the port. */
  | 'memory'
  /** A remap irq, registered with an ack eventfd. */
  | 'remap'
  /** Mappings of regions, which its driver sees come and go. */
  | 'mappings'
  /** `port.allocateDma`, `dmaMap` and what belongs to them. */
  | 'dma'
  /** Areas of regions among what `dmaMap` takes. */
  | 'areaDma'
  /** device_state, with a driver that waits for acks. */
  | 'state'
  /** `irq.trigger()`: a signal that the user asks for. */
  | 'loopback'
  /** A witness of the eventfds that the driver signals. */
  | 'signalWitness'
  /** A witness of the eventfds that the driver listens to. */
  | 'unmaskWitness'
  /** Three vectors of MSI, whose number is fixed by the first registration. */
  | 'vectors'
  /** A log of written pages that can be read, or none at all. */
  | 'log';

/** A port, freshly opened, with its driver's two faces. */
export interface OpenPort {
  readonly port: DevicePort;
  readonly witness: PortWitness;
  readonly script: PortScript;
}

/**
 * How the suite gets its ports. Every one shows the sample driver's face (`sampleFace`); without `remap` and `mappings` its
 * INTx and its MSI are enough.
 */
export interface PortHarness {
  /** A device of its own each time, or one whose trace was cleared: the checks count what they find there. */
  openPort(options?: { readonly ackTimeoutMs?: number }): Promise<OpenPort>;
  /** Closes whatever the check left open. After each check. */
  dispose(): Promise<void>;
  /** How long a check waits for something that must happen, ms. */
  readonly patienceMs: number;
  /** An ack timeout that leaves time to look at the wait, and that a check can wait out, ms. */
  readonly briefMs: number;
  /** A region whose first four bytes may be read at any time. Default: that of the sample driver's face. */
  readonly readable?: number;
  /** What this backend cannot be made to do, and why: the rules that need it are skipped with these words. */
  readonly lacks?: Lacks<PortNeed>;
  /** What the patience is measured on. Default: real time. */
  readonly clock?: Clock;
}

/** What the sample vendor driver looks like, kernel and software alike. */
export const sampleFace = {
  /** 64 KiB, mmappable as a whole, not in the saving group. */
  mailbox: 0,
  /** 128 KiB, two sparse areas, the second not offered in the saving group. */
  sparse: 1,
  /** 4 KiB, never mmappable. */
  trapped: 2,
  intx: { index: 0 },
  msi: { index: 1 },
  remap: { index: 5 },
  whole: { offset: 0, size: 0x1_0000 },
  firstArea: { offset: 0, size: 0x8000 },
  secondArea: { offset: 0x1_0000, size: 0x8000 },
  irqs: 6,
  /** IO addresses for a log of written pages. */
  logged: { iova: 0x10_0000n, size: 0x1_0000 },
} as const;
