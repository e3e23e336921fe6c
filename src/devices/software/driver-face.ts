import type { Area, IrqLine, State } from '../port.js';
import type { SoftwareIommu } from './dma.js';
import type { Faults } from './faults.js';
import type { MailboxStats } from './mailbox.js';
import type { PreCopyScript } from './pre-copy-script.js';
import type { TraceEvent } from './trace.js';

/**
 * What a user of the driver did wrong:
 * - `stale-write`: wrote through a mapping that was gone (`region`, `offset`)
 * - `suspended-write`: wrote through a mapping while the device did not decode it; on a real device that is SIGBUS (`region`, `offset`)
 * - `ack-not-sent`: acked more than was outstanding (`value`)
 * - `acked-while-mapped`: acked a revocation, yet still had some of it mapped (`region`, `offset`, `value`: bytes)
 * - `unmapped-in-iommu`: unmapped an area (`region`, `offset`, `value`: bytes) while devices could still reach it by DMA
 */
export type ViolationKind = 'stale-write' | 'suspended-write' | 'ack-not-sent' | 'acked-while-mapped' | 'unmapped-in-iommu';

export interface Violation {
  readonly kind: ViolationKind;
  readonly atNs: bigint;
  readonly region?: number;
  readonly offset?: number;
  readonly value?: bigint;
}

/** The irq of one page, from the driver's side; sums as in `SoftwareVendorDriver`. */
export interface PageWitness {
  readonly page: number;
  readonly irqIndex: number;
  /** Registered, with all the eventfds that it needs. */
  readonly complete: boolean;
  /** A write of device_state is blocked for this page's ack. */
  readonly waiting: boolean;
  readonly sent: bigint;
  readonly acked: bigint;
}

/** The vendor driver of a software device as a test or a demonstration sees it: a script to drive, and a witness to ask. */
export interface SoftwareVendorDriver {
  /** Stops offering any of the region, by the driver's own decision: signalled, not waited for. RangeError where it cannot be signalled. */
  revoke(region: number): void;
  /** Offers the region again, as the state has it: signalled. RangeError where it cannot be signalled. */
  restore(region: number): void;
  /** Adds 1 to the eventfd of the device's own irq (MSI; the only one of a non-PCI face), if one is registered. */
  raiseMsi(): void;
  /**
   * The device interrupts. INTx: its line is asserted until `lower`, and signals again whenever it is unmasked meanwhile. Any other: one signal,
   * which waits while the vector is masked, and is lost where nobody has it enabled. RangeError where the device has no such irq.
   */
  raise(line: IrqLine): void;
  /** The cause of INTx has been cleared. */
  lower(line: IrqLine): void;
  /** The device is pulled out: a blocked write returns ECANCELED, every later call ENODEV. */
  remove(): void;
  readonly faults: Faults;
  /** The IOMMU, and the device's own way through it. */
  readonly dma: SoftwareIommu;
  /** What it has to say in PRE_COPY. */
  readonly preCopy: PreCopyScript;

  /** How often the device is open: 0 or 1. */
  readonly opens: number;
  /** Mappings of all regions; a hole makes two of one. */
  readonly vmas: number;
  /** Eventfds registered, in all roles: 1 for the device's own irq, 1 for each page and 1 more where it is acked by value. */
  readonly irqs: number;
  /** Writes of device_state that are blocked for an ack: 0 or 1. */
  readonly waiters: number;
  /** Of the first page: added to the trigger eventfd in this registration, mod 2^64; with a delayed signal a little before it is. */
  readonly sent: bigint;
  /** Of the first page: come back on the ack eventfd in this registration, mod 2^64; 0 where acks carry no number. */
  readonly acked: bigint;
  /** Every remap irq. */
  readonly pages: readonly PageWitness[];
  /** How many rules the user broke since the device was made. Reading it looks for stale writes. */
  readonly violations: number;
  /** The latest of them, at most 256. */
  readonly violationList: readonly Violation[];
  /** What may be mapped of each region now. */
  readonly layout: ReadonlyMap<number, readonly Area[]>;
  readonly state: State;
  readonly trace: readonly TraceEvent[];
  /** Reading it takes what rests in the mapped slots first. */
  readonly mailbox: MailboxStats;

  /** The device's own look at a region, through the user's mappings where there are some. No delivery is taken. */
  readRegion(region: number, offset: number, bytes: number): Uint8Array;
  writeRegion(region: number, offset: number, bytes: Uint8Array): void;
}
