import type { Call } from '../devices/port.js';
import { steps, type Steps } from '../devices/steps.js';
import type { ResumingState } from '../streams/resume-state.js';
import { Window } from '../wire/credit.js';
import { Tally } from '../wire/tally.js';
import type { Link } from './link.js';
import { Pause } from './pause.js';

/** Moves the state of one device from the link to its session. What waits for the device is bounded by the credit that was given. */
export class Loader {
  readonly resuming: ResumingState;
  readonly #place: number;
  readonly #link: Link;
  readonly #window: Window;
  readonly #tally = new Tally();
  readonly #waiting: Uint8Array[] = [];
  readonly #came = new Pause();
  #ended = false;

  constructor(resuming: ResumingState, place: number, link: Link, windowBytes: number) {
    this.resuming = resuming;
    this.#place = place;
    this.#link = link;
    this.#window = new Window(windowBytes);
  }

  get bytes(): bigint {
    return this.#tally.bytes;
  }

  /** Throws VFIO_E_STREAM where there was no credit for it. */
  take(bytes: Uint8Array, crc: number): void {
    this.#window.received(bytes.length);
    this.#tally.add(bytes, crc);
    this.#waiting.push(bytes);
    this.#came.over();
  }

  /** No more will come. Throws VFIO_E_STREAM where what came is not what was sent. */
  end(bytes: bigint, crc: number): void {
    this.#tally.check(this.resuming.device, bytes, crc);
    this.#ended = true;
    this.#came.over();
  }

  /** Writes what comes, in order, and gives back the credit; answers when all of it is written. */
  load(): Call<void> {
    return steps(() => this.#loading());
  }

  *#loading(): Steps<void> {
    for (;;) {
      const bytes = this.#waiting.shift();
      if (bytes !== undefined) {
        yield this.resuming.write(bytes);
        // A port is done with them when it answers.
        this.#link.giveBack(bytes);
        const given = this.#window.consumed(bytes.length);
        if (given > 0) this.#link.say({ type: 'credit', device: this.#place, bytes: given });
      } else if (this.#ended) {
        return;
      } else {
        yield this.#came.wait;
      }
    }
  }
}
