import type { TargetState } from '../protocol/migration-states.js';
import type { Errno } from './errno.js';

/** Whose answer `corrupt` spoils. */
export type Answer = 'info' | 'regionInfo' | 'irqInfo' | 'migration';

/** A fault that happens a number of times, then no more. */
interface Failing {
  readonly errno: Errno;
  left: number;
}

/** When a driver takes the count out of its own trigger eventfd: as its own adds wake it, too (`always`), at each ack, at every second ack (`sometimes`). */
export type Drain = 'never' | 'sometimes' | 'always' | 'at-ack';

/** How this driver misbehaves. Everything is off at first; a test switches on what it is about. */
export class Faults {
  /** Hears acks and does as if it had not. */
  ignoreAcks = false;
  /** Adds each signal twice. */
  signalTwice = false;
  /** Adds 1, whichever regions are meant (bitmaps, and rfc-v4: in a doorbell that is no fault). */
  addOne = false;
  /** Adds the bit of a region beside, which it has not declared: the lowest of the page. */
  signalUndeclared = false;
  /** Signals, and changes the layout a millisecond later. */
  signalBeforeLayout = false;
  /** The rule of the driver that was posted: any ack that follows a signal is for it, read or not, and whatever its value. */
  takeAnyAck = false;
  /** Does what the user has to do: reads the trigger eventfd. */
  drain: Drain = 'never';
  /** Restores the layout after a wait that failed, and does not say so. */
  silentRollBack = false;
  /** Says 0 to a disable and to a hang-up, and goes on as before; a new registration replaces the old one all the same. */
  ignoreDisable = false;
  /** How long a write of device_state stalls between its waits and its first arc, ms: nothing ends that but time. */
  stallMs = 0;
  /** From the change of the layout to the add, µs. */
  signalDelayUs = 0;
  /** How long each arc of the state machine takes, µs. */
  arcLatencyUs = 0;
  readonly #failing = new Map<string, Failing>();
  readonly #corrupting = new Map<string, (answer: Uint8Array) => void>();

  /** VFIO_DEVICE_GET_REGION_INFO of the region fails. */
  failQuery(region: number, errno: Errno, times = 1): void {
    this.#failing.set(`query ${region}`, { errno, left: times });
  }

  /** mmap of any part of the region fails. */
  failMap(region: number, errno: Errno, times = 1): void {
    this.#failing.set(`map ${region}`, { errno, left: times });
  }

  /** The registration of an irq fails, as where there is no file descriptor left for the eventfd (EMFILE). */
  failIrq(errno: Errno, times = 1): void {
    this.#failing.set('irq', { errno, left: times });
  }

  /** A range does not enter the IOMMU, or does not leave it; or a call of the log of written pages fails. */
  failDma(call: 'map' | 'unmap' | 'log start' | 'log report' | 'log stop', errno: Errno, times = 1): void {
    this.#failing.set(`dma ${call}`, { errno, left: times });
  }

  /** The arc into the state fails: the device stays where it was before that arc. */
  failArc(to: TargetState, errno: Errno, times = 1): void {
    this.#failing.set(`arc ${to}`, { errno, left: times });
  }

  /** Every answer of this kind, for this index (`migration`: a field's offset in the region of v1), is spoiled before the user reads it; undefined heals it. */
  corrupt(answer: Answer, index: number, spoil: ((bytes: Uint8Array) => void) | undefined): void {
    if (spoil === undefined) this.#corrupting.delete(`${answer} ${index}`);
    else this.#corrupting.set(`${answer} ${index}`, spoil);
  }

  /** Takes one failure, if one is due. */
  take(what: string): Errno | undefined {
    const failing = this.#failing.get(what);
    if (failing === undefined || failing.left <= 0) return undefined;
    failing.left -= 1;
    return failing.errno;
  }

  spoil(answer: Answer, index: number, bytes: Uint8Array): void {
    this.#corrupting.get(`${answer} ${index}`)?.(bytes);
  }
}
