import { ask, directCall, type Asker, type Leave } from '../devices/call.js';
import type { Call } from '../devices/port.js';
import type { ResumingState } from '../streams/resume-state.js';
import { Window } from '../wire/credit.js';
import { Tally } from '../wire/tally.js';
import { atSide } from './device-states.js';
import type { Link } from './link.js';

/** Moves the state of one device from the link to its session. What waits for the device is bounded by the credit that was given. */
export class Loader {
  readonly resuming: ResumingState;
  private readonly place: number;
  private readonly link: Link;
  private readonly window: Window;
  private readonly tally = new Tally();
  private readonly waiting: Uint8Array[] = [];
  /** What the device takes now. */
  private writing: Uint8Array | undefined;
  private leave: Leave | undefined;
  private looping = false;
  private ended = false;
  /** Who waits until all is written. */
  private asker: Asker<void> | undefined;

  constructor(resuming: ResumingState, place: number, link: Link, windowBytes: number) {
    this.resuming = resuming;
    this.place = place;
    this.link = link;
    this.window = new Window(windowBytes);
  }

  get bytes(): bigint {
    return this.tally.bytes;
  }

  /** Throws VFIO_E_STREAM where there was no credit for it. */
  take(bytes: Uint8Array, crc: number): void {
    this.window.received(bytes.length);
    this.tally.add(bytes, crc);
    this.waiting.push(bytes);
    this.write();
  }

  /** No more will come. Throws VFIO_E_STREAM where what came is not what was sent. */
  end(bytes: bigint, crc: number): void {
    this.tally.check(this.resuming.device, bytes, crc);
    this.ended = true;
    this.write();
  }

  /** Writes what comes, in order, and gives back the credit; answers when all of it is written. Once. */
  load(): Call<void> {
    return directCall((asker: Asker<void>) => {
      this.asker = asker;
      this.write();
      return () => {
        this.asker = undefined;
        this.leave?.();
      };
    });
  }

  /** A loop: a port may answer at once. */
  private write(): void {
    if (this.looping) return;
    this.looping = true;
    while (this.writing === undefined && this.asker !== undefined && (this.writing = this.waiting.shift()) !== undefined) {
      this.leave = ask(this.resuming.write(this.writing), this.written);
    }
    this.looping = false;
    if (!this.ended || this.writing !== undefined || this.waiting.length > 0) return;
    const asker = this.asker;
    this.asker = undefined;
    asker?.answered();
  }

  private readonly written: Asker<void> = {
    closed: false,
    answered: () => {
      const bytes = this.writing;
      this.writing = undefined;
      if (bytes === undefined) return;
      // A port is done with them when it answers.
      this.link.giveBack(bytes);
      const given = this.window.consumed(bytes.length);
      if (given > 0) this.link.say({ type: 'credit', device: this.place, bytes: given });
      this.write();
    },
    failed: (error) => {
      const asker = this.asker;
      this.asker = undefined;
      asker?.failed(atSide(error, 'destination', { name: this.resuming.device }));
    },
  };
}
