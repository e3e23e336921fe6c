import { crc32 } from 'node:zlib';
import { ignoreElements, type Observable } from 'rxjs';
import type { Asker } from '../devices/call.js';
import type { VfioDevice } from '../devices/device.js';
import type { Chunk, PrecopyInfo } from '../devices/port.js';
import { steps, type Steps } from '../devices/steps.js';
import type { SavedState } from '../streams/saved-state.js';
import { Credit } from '../wire/credit.js';
import type { Welcome } from '../wire/hello.js';
import { Tally } from '../wire/tally.js';
import type { Link } from './link.js';
import { Pause } from './pause.js';

/** Moves the state of one device from its session to the link, as far as there is credit. */
export class Saver {
  readonly device: VfioDevice;
  readonly #place: number;
  readonly #link: Link;
  readonly #chunkBytes: number;
  readonly #credit: Credit;
  /** Less than this is not worth a message. */
  readonly #leastCredit: number;
  readonly #given = new Pause();
  readonly #tally = new Tally();
  /** The last chunk: whether the connection is done with it, and if not, why. */
  readonly #sent = new Pause();
  readonly #flowed: () => void;
  #onItsWay: Uint8Array | undefined;
  #failed: { readonly error: unknown } | undefined;
  /** Memory of chunks that are sent: the next ones may come into it. One is read while one is on its way, so there are two at most. */
  readonly #spares: Uint8Array[] = [];
  saved: SavedState | undefined;
  /** What the device said when it was last asked, and what has been sent since. */
  #said = 0n;
  #sentSince = 0;
  initial = 0n;
  /** All that there was is said. */
  ended = false;

  constructor(device: VfioDevice, place: number, link: Link, { windowBytes, chunkBytes }: Welcome, flowed: () => void) {
    this.device = device;
    this.#place = place;
    this.#link = link;
    this.#chunkBytes = chunkBytes;
    this.#credit = new Credit(windowBytes);
    this.#leastCredit = Math.max(1, Math.min(chunkBytes, Math.floor(windowBytes / 2)));
    this.#flowed = flowed;
  }

  get bytes(): bigint {
    return this.#tally.bytes;
  }

  /** What there is to send, as far as the device has said, bytes. */
  get remaining(): bigint {
    const left = this.#said - BigInt(this.#sentSince);
    return left > 0n ? left : 0n;
  }

  /** Throws VFIO_E_STREAM. */
  give(bytes: number): void {
    this.#credit.give(bytes);
    this.#given.over();
  }

  /** All that there is now: until the device is quiet. Then it is asked what has come meanwhile. */
  round(): Observable<never> {
    return steps(() => this.#round()).pipe(ignoreElements());
  }

  /** All that is left of a device that is stopped, and the sum of everything. */
  rest(): Observable<never> {
    return steps(() => this.#rest()).pipe(ignoreElements());
  }

  *#round(): Steps<void> {
    yield* this.#move((chunk) => chunk.kind === 'bytes');
    const { initialBytes, dirtyBytes } = (yield this.#session.precopy()) as PrecopyInfo;
    this.initial = initialBytes;
    this.#says(initialBytes + dirtyBytes);
  }

  *#rest(): Steps<void> {
    yield* this.#move((chunk) => chunk.kind !== 'end');
    this.#says(0n);
    this.ended = true;
    yield this.#link.send({ type: 'end', device: this.#place, bytes: this.#tally.bytes, crc: this.#tally.crc });
  }

  /** A chunk is read when there is credit for it, while the one before it is on its way. */
  *#move(goesOn: (chunk: Chunk) => boolean): Steps<void> {
    for (;;) {
      while (this.#credit.left < this.#leastCredit) yield this.#given.wait;
      const chunk = (yield this.#session.read(Math.min(this.#chunkBytes, this.#credit.left), this.#spares.pop())) as Chunk;
      if (this.#onItsWay !== undefined) yield this.#sent.wait;
      if (this.#failed !== undefined) throw this.#failed.error;
      if (!goesOn(chunk)) return;
      if (chunk.kind === 'bytes') this.#send(chunk.bytes);
    }
  }

  #says(bytes: bigint): void {
    this.#said = bytes;
    this.#sentSince = 0;
  }

  #send(bytes: Uint8Array): void {
    const crc = crc32(bytes);
    this.#credit.take(bytes.length);
    this.#tally.add(bytes, crc);
    this.#sentSince += bytes.length;
    this.#onItsWay = bytes;
    this.#link.post({ type: 'data', device: this.#place, bytes, crc }, this.#gone);
    this.#flowed();
  }

  /** Of what is on its way. */
  readonly #gone: Asker<void> = {
    closed: false,
    answered: () => {
      if (this.#onItsWay !== undefined) this.#spares.push(this.#onItsWay);
      this.#onItsWay = undefined;
      this.#sent.over();
    },
    failed: (error) => {
      this.#failed = { error };
      this.#onItsWay = undefined;
      this.#sent.over();
    },
  };

  get #session(): SavedState {
    if (this.saved === undefined) throw new Error(`${this.device.name} is not being saved`);
    return this.saved;
  }
}
