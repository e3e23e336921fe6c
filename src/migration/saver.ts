import { crc32 } from 'node:zlib';
import { catchError, ignoreElements, throwError, type Observable } from 'rxjs';
import { ask, directCall, type Asker, type Leave } from '../devices/call.js';
import type { VfioDevice } from '../devices/device.js';
import type { Call, Chunk, PrecopyInfo } from '../devices/port.js';
import { steps, type Steps } from '../devices/steps.js';
import type { SavedState } from '../streams/saved-state.js';
import { Credit } from '../wire/credit.js';
import type { Welcome } from '../wire/hello.js';
import { Tally } from '../wire/tally.js';
import { atSide } from './device-states.js';
import type { Link } from './link.js';

/** As long as chunks go on. */
interface Moving {
  readonly asker: Asker<void>;
  readonly goesOn: (chunk: Chunk) => boolean;
}

interface Failure {
  readonly error: unknown;
}

/** Moves the state of one device from its session to the link, as far as there is credit. */
export class Saver {
  readonly device: VfioDevice;
  private readonly place: number;
  private readonly link: Link;
  private readonly chunkBytes: number;
  private readonly credit: Credit;
  /** Less than this is not worth a message. */
  private readonly leastCredit: number;
  private readonly tally = new Tally();
  private readonly flowed: () => void;
  private moving: Moving | undefined;
  private looping = false;
  private reading = false;
  private leave: Leave | undefined;
  /** Read, and not sent before the connection is done with the one before it. */
  private next: Chunk | undefined;
  private onItsWay: Uint8Array | undefined;
  /** Why the connection took no more. */
  private failed: Failure | undefined;
  /** Memory of chunks that are sent: the next ones may come into it. One is read while one is on its way, so there are two at most. */
  private readonly spares: Uint8Array[] = [];
  saved: SavedState | undefined;
  /** What the device said when it was last asked, and what has been sent since. */
  private said = 0n;
  private sentSince = 0;
  initial = 0n;
  /** All that there was is said. */
  ended = false;

  constructor(device: VfioDevice, place: number, link: Link, { windowBytes, chunkBytes }: Welcome, flowed: () => void) {
    this.device = device;
    this.place = place;
    this.link = link;
    this.chunkBytes = chunkBytes;
    this.credit = new Credit(windowBytes);
    this.leastCredit = Math.max(1, Math.min(chunkBytes, Math.floor(windowBytes / 2)));
    this.flowed = flowed;
  }

  get bytes(): bigint {
    return this.tally.bytes;
  }

  /** What there is to send, as far as the device has said, bytes. */
  get remaining(): bigint {
    const left = this.said - BigInt(this.sentSince);
    return left > 0n ? left : 0n;
  }

  /** Throws VFIO_E_STREAM. */
  give(bytes: number): void {
    this.credit.give(bytes);
    this.proceed();
  }

  /** All that there is now: until the device is quiet. Then it is asked what has come meanwhile. */
  round(): Observable<never> {
    return this.atSource(() => this.roundSteps());
  }

  /** All that is left of a device that is stopped, and the sum of everything. */
  rest(): Observable<never> {
    return this.atSource(() => this.restSteps());
  }

  private atSource(work: () => Steps<void>): Observable<never> {
    return steps(work).pipe(ignoreElements(), catchError((error: unknown) => throwError(() => atSide(error, 'source', this.device))));
  }

  private *roundSteps(): Steps<void> {
    yield this.move((chunk) => chunk.kind === 'bytes');
    const { initialBytes, dirtyBytes } = (yield this.session.precopy()) as PrecopyInfo;
    this.initial = initialBytes;
    this.says(initialBytes + dirtyBytes);
  }

  private *restSteps(): Steps<void> {
    yield this.move((chunk) => chunk.kind !== 'end');
    this.says(0n);
    this.ended = true;
    yield this.link.send({ type: 'end', device: this.place, bytes: this.tally.bytes, crc: this.tally.crc });
  }

  /** A chunk is read when there is credit for it, while the one before it is on its way. Not `steps`: they would be several for each chunk. */
  private move(goesOn: (chunk: Chunk) => boolean): Call<void> {
    return directCall((asker: Asker<void>) => {
      this.moving = { asker, goesOn };
      this.proceed();
      return () => {
        this.moving = undefined;
        this.leave?.();
        this.reading = false;
      };
    });
  }

  /** A loop: a device may answer at once, and a connection too. */
  private proceed(): void {
    if (this.looping) return;
    this.looping = true;
    let step: 'again' | 'wait' | 'over' = 'again';
    let failure: Failure | undefined;
    try {
      while (step === 'again' && this.moving !== undefined) step = this.step(this.moving);
    } catch (error) {
      failure = { error };
    }
    this.looping = false;
    if (step === 'over' || failure !== undefined) this.end(failure);
  }

  private step({ goesOn }: Moving): 'again' | 'wait' | 'over' {
    const chunk = this.next;
    if (chunk === undefined) {
      if (this.reading || this.credit.left < this.leastCredit) return 'wait';
      this.reading = true;
      this.leave = ask(this.session.read(Math.min(this.chunkBytes, this.credit.left), this.spares.pop()), this.read);
      return 'again';
    }
    if (this.onItsWay !== undefined) return 'wait';
    this.next = undefined;
    if (this.failed !== undefined) throw this.failed.error;
    if (!goesOn(chunk)) return 'over';
    if (chunk.kind === 'bytes') this.send(chunk.bytes);
    return 'again';
  }

  private end(failure?: Failure): void {
    const asker = this.moving?.asker;
    this.moving = undefined;
    if (failure === undefined) asker?.answered();
    else asker?.failed(failure.error);
  }

  private readonly read: Asker<Chunk> = {
    closed: false,
    answered: (chunk) => {
      this.reading = false;
      this.next = chunk;
      this.proceed();
    },
    failed: (error) => {
      this.reading = false;
      this.end({ error });
    },
  };

  private says(bytes: bigint): void {
    this.said = bytes;
    this.sentSince = 0;
  }

  private send(bytes: Uint8Array): void {
    const crc = crc32(bytes);
    this.credit.take(bytes.length);
    this.tally.add(bytes, crc);
    this.sentSince += bytes.length;
    this.onItsWay = bytes;
    this.link.post({ type: 'data', device: this.place, bytes, crc }, this.gone);
    this.flowed();
  }

  /** Of what is on its way. */
  private readonly gone: Asker<void> = {
    closed: false,
    answered: () => {
      if (this.onItsWay !== undefined) this.spares.push(this.onItsWay);
      this.onItsWay = undefined;
      this.proceed();
    },
    failed: (error) => {
      this.failed = { error };
      this.onItsWay = undefined;
      this.proceed();
    },
  };

  private get session(): SavedState {
    if (this.saved === undefined) throw new Error(`${this.device.name} is not being saved`);
    return this.saved;
  }
}
