import { streamError } from './frame.js';

/** What a sender may still send of one device, bytes: back-pressure of each device for itself, so that a slow one holds up no other. */
export class Credit {
  private readonly window: number;
  private rest: number;

  constructor(windowBytes: number) {
    this.window = windowBytes;
    this.rest = windowBytes;
  }

  get left(): number {
    return this.rest;
  }

  take(bytes: number): void {
    if (bytes > this.rest) throw new RangeError(`${bytes} bytes of credit taken, where ${this.rest} are left`);
    this.rest -= bytes;
  }

  /** Throws VFIO_E_STREAM where the receiver gives back more than it was sent. */
  give(bytes: number): void {
    if (bytes > this.window - this.rest) throw streamError(`credit for ${bytes} bytes, where ${this.window - this.rest} are in flight`);
    this.rest += bytes;
  }
}

/** The receiver's side: what may still come, and what to give back. */
export class Window {
  private readonly credit: Credit;
  private taken = 0;
  /** Credit is given back in lumps: a message for each small chunk would be as much work as the chunk. */
  private readonly lump: number;

  constructor(windowBytes: number) {
    this.credit = new Credit(windowBytes);
    this.lump = Math.max(1, Math.floor(windowBytes / 2));
  }

  /** Throws VFIO_E_STREAM where the sender had no credit for it. */
  received(bytes: number): void {
    if (bytes > this.credit.left) throw streamError(`${bytes} bytes of a device that has credit for ${this.credit.left}`);
    this.credit.take(bytes);
  }

  /** How much credit is to be given back now, bytes; 0 for none. */
  consumed(bytes: number): number {
    this.taken += bytes;
    if (this.taken < this.lump) return 0;
    const given = this.taken;
    this.taken = 0;
    this.credit.give(given);
    return given;
  }
}
