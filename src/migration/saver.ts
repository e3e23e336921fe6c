import { crc32 } from 'node:zlib';
import { AsyncSubject, concat, concatMap, defer, EMPTY, filter, ignoreElements, of, Subject, take, tap, type Observable } from 'rxjs';
import type { VfioDevice } from '../devices/device.js';
import type { Chunk } from '../devices/port.js';
import type { SavedState } from '../streams/saved-state.js';
import { Credit } from '../wire/credit.js';
import type { Welcome } from '../wire/hello.js';
import { Tally } from '../wire/tally.js';
import type { Link } from './link.js';
import { pull } from './pull.js';

/** Moves the state of one device from its session to the link, as far as there is credit. */
export class Saver {
  readonly device: VfioDevice;
  readonly #place: number;
  readonly #link: Link;
  readonly #chunkBytes: number;
  readonly #credit: Credit;
  /** Less than this is not worth a message. */
  readonly #leastCredit: number;
  readonly #given = new Subject<void>();
  readonly #tally = new Tally();
  readonly #sent: () => void;
  /** Completes when the connection is done with the last chunk. */
  #onItsWay: Observable<never> = EMPTY;
  /** The memory of a chunk that is sent: the next one may come into it. */
  #spare: Uint8Array | undefined;
  saved: SavedState | undefined;
  /** What the device said when it was last asked. */
  remaining = 0n;
  initial = 0n;
  /** All that there was is said. */
  ended = false;

  constructor(device: VfioDevice, place: number, link: Link, { windowBytes, chunkBytes }: Welcome, sent: () => void) {
    this.device = device;
    this.#place = place;
    this.#link = link;
    this.#chunkBytes = chunkBytes;
    this.#credit = new Credit(windowBytes);
    this.#leastCredit = Math.max(1, Math.min(chunkBytes, Math.floor(windowBytes / 2)));
    this.#sent = sent;
  }

  get bytes(): bigint {
    return this.#tally.bytes;
  }

  /** Throws VFIO_E_STREAM. */
  give(bytes: number): void {
    this.#credit.give(bytes);
    this.#given.next();
  }

  /** All that there is now: until the device is quiet. Then it is asked what has come meanwhile. */
  round(): Observable<never> {
    return concat(
      this.#move((chunk) => chunk.kind === 'bytes'),
      defer(() => this.#session.precopy().pipe(tap(({ initialBytes, dirtyBytes }) => {
        this.initial = initialBytes;
        this.remaining = initialBytes + dirtyBytes;
      }), ignoreElements())),
    );
  }

  /** All that is left of a device that is stopped, and the sum of everything. */
  rest(): Observable<never> {
    return concat(
      this.#move((chunk) => chunk.kind !== 'end'),
      defer(() => {
        this.remaining = 0n;
        this.ended = true;
        return this.#link.send({ type: 'end', device: this.#place, bytes: this.#tally.bytes, crc: this.#tally.crc }).pipe(ignoreElements());
      }),
    );
  }

  /** A chunk is read when there is credit for it, while the one before it is on its way. */
  #move(goesOn: (chunk: Chunk) => boolean): Observable<never> {
    const next = defer(() => this.#hasCredit()).pipe(
      concatMap(() => this.#session.read(Math.min(this.#chunkBytes, this.#credit.left), this.#spare)),
      concatMap((chunk) => concat(this.#onItsWay, defer(() => of(goesOn(chunk) ? this.#send(chunk) : undefined)))),
    );
    return pull(() => next).pipe(ignoreElements());
  }

  #hasCredit(): Observable<unknown> {
    if (this.#credit.left >= this.#leastCredit) return of(undefined);
    return this.#given.pipe(filter(() => this.#credit.left >= this.#leastCredit), take(1));
  }

  #send(chunk: Chunk): true {
    if (chunk.kind !== 'bytes') return true;
    const { bytes } = chunk;
    const crc = crc32(bytes);
    this.#credit.take(bytes.length);
    this.#tally.add(bytes, crc);
    this.remaining -= this.remaining < BigInt(bytes.length) ? this.remaining : BigInt(bytes.length);
    const sent = new AsyncSubject<never>();
    this.#onItsWay = sent;
    this.#link.send({ type: 'data', device: this.#place, bytes, crc }).pipe(ignoreElements(), tap({ complete: () => (this.#spare = bytes) })).subscribe(sent);
    this.#sent();
    return true;
  }

  get #session(): SavedState {
    if (this.saved === undefined) throw new Error(`${this.device.name} is not being saved`);
    return this.saved;
  }
}

