import type { DmaSpace } from './dma-space.js';
import { runAll } from './run-all.js';

/** One step of a teardown; it may fail, and the others are made all the same. */
export type ReleaseStep = (what: string, release: () => void) => void;

/** A page table of an IOMMU that tracks what one device writes. */
export interface TrackingTable {
  readonly iommufd: number;
  readonly hwpt: number;
}

/** A device that was opened one way or another: who gave its fd, and what maps its DMA. */
export interface OpenedDevice {
  /** A BDF or an mdev uuid. */
  readonly name: string;
  /** Closed by `release`. */
  readonly fd: number;
  readonly space: DmaSpace;
  /** Where the device is attached to one. */
  readonly tracking?: TrackingTable | undefined;
  /** Gives all of it back. No call may be out on the fd. */
  release(step: ReleaseStep): void;
}

/** What is made of an opened device. Where that fails the device is given back, each step whatever becomes of the others. */
export function madeOf<T>(opened: OpenedDevice, make: (opened: OpenedDevice) => T): T {
  try {
    return make(opened);
  } catch (error) {
    const steps: (() => void)[] = [];
    opened.release((_what, step) => steps.push(step));
    runAll(steps);
    throw error;
  }
}
