import { channel, type Channel } from 'node:diagnostics_channel';

/**
 * Instrumentation is a channel, not a dependency (law 10): whoever wants logs, metrics or a picture subscribes to these.
 * A publisher first asks `hasSubscribers`, so that nobody pays for what nobody reads.
 */

/** The lanes of a device's marble diagram; see `vfio-rx/testing`. */
export type Lane = 'driver' | 'signal' | 'query' | 'unmap' | 'map' | 'ack' | 'state';

/** One thing that happened at a device's port, in the words of its lane. */
export interface PortEvent {
  readonly device: string;
  readonly atNs: bigint;
  readonly lane: Lane;
  /** What stands in the diagram: `revoke0`, `q0`, `u0`, `m0`, `1`, `pre-copy`. */
  readonly label: string;
  /** A call in flight opens with 'begin' and ends with 'end' (lane `state`); all else is a point. */
  readonly phase?: 'begin' | 'end';
  /** Where it concerns a region: its index and the area, bytes. */
  readonly region?: number;
  readonly area?: { readonly offset: number; readonly size: number };
  readonly error?: unknown;
}

/** Something that broke a rule without ending the work: a size change (R9), an undeclared bit, an area that could not be mapped. */
export interface Warning {
  readonly device: string;
  readonly atNs: bigint;
  readonly what: string;
  readonly error?: unknown;
}

/** Signals of an irq, read from its eventfd: all that came since the last read. Remap irqs are told too. */
export interface IrqEvent {
  readonly device: string;
  readonly atNs: bigint;
  readonly index: number;
  readonly vector: number;
  readonly count: bigint;
}

/** A batch of the remap pipeline that `acknowledge` has ended. */
export interface RemapEvent {
  readonly device: string;
  readonly atNs: bigint;
  /** Of one registration, as `page` and `batch` of `Remap`. */
  readonly page: number;
  readonly batch: number;
  /** `signal` where the driver asked for it, else why we looked ourselves. */
  readonly because: string;
  readonly acked: boolean;
  /** As in `Remap`, ns. */
  readonly servedNs: bigint;
  readonly headroomNs: bigint | undefined;
}

export const portChannel: Channel<PortEvent> = channel('vfio-rx:port') as Channel<PortEvent>;
export const warningChannel: Channel<Warning> = channel('vfio-rx:warning') as Channel<Warning>;
export const irqChannel: Channel<IrqEvent> = channel('vfio-rx:irq') as Channel<IrqEvent>;
export const remapChannel: Channel<RemapEvent> = channel('vfio-rx:remap') as Channel<RemapEvent>;
