import { defer, Subject, tap, Observable, type Subscription } from 'rxjs';
import { warningChannel } from '../../diagnostics.js';
import { VfioError } from '../../errors.js';
import type { Call } from '../port.js';
import type { Timers } from '../software/timers.js';
import { bytesOf, valueOf, type Piece, type RegisterAccess } from './access.js';
import type { GuestMemory } from './guest-memory.js';

/** What a device has of its user. */
export interface DeviceBus {
  /** Reads and writes of the BARs, as they come; hot. A read that nobody listens to gives ones, as one that nobody decodes. */
  readonly accesses: Observable<RegisterAccess>;
  readonly memory: GuestMemory;
}

/** How a device interrupts: the level of its line, or one message of MSI or MSI-X, by its vector. */
export type DeviceIrq = { readonly intx: boolean } | { readonly message: number };

/** A device as a stream: it is subscribed when the device is opened and anew after each reset, and unsubscribed when the device is closed. */
export type DeviceBehaviour = (bus: DeviceBus) => Observable<DeviceIrq>;

/** What running a behaviour takes. */
export interface BehaviourParts {
  readonly device: string;
  readonly timers: Timers;
  readonly memory: GuestMemory;
  readonly irq: (irq: DeviceIrq) => void;
}

/** How long a read waits for its answer, ms: QEMU gives a server up after 5 s. */
const answerWithinMs = 1000;

/** A behaviour from one reset to the next. */
export class RunningBehaviour {
  readonly #parts: BehaviourParts;
  readonly #accesses = new Subject<RegisterAccess>();
  /** Fails the reads that wait for their answers. */
  readonly #waiting = new Set<(error: VfioError) => void>();
  readonly #running: Subscription;
  #failed: VfioError | undefined;

  constructor(behaviour: DeviceBehaviour, parts: BehaviourParts) {
    this.#parts = parts;
    const accesses = this.#accesses.asObservable();
    // What it throws when it is made, and an irq that there is not, fail like its stream.
    this.#running = defer(() => behaviour({ accesses, memory: parts.memory })).pipe(tap(parts.irq)).subscribe({ error: (error: unknown) => this.#fail(error) });
  }

  /** Fails with VFIO_E_DEADLINE where nobody answers, with VFIO_E_NO_DEVICE where the behaviour has failed. */
  read(bar: number, { offset, size }: Piece): Call<Uint8Array> {
    return new Observable<Uint8Array>((subscriber) => {
      if (this.#failed !== undefined) {
        subscriber.error(this.#failed);
        return undefined;
      }
      let late: Subscription | undefined;
      const fail = (error: VfioError): void => {
        settle();
        subscriber.error(error);
      };
      const settle = (): void => {
        this.#waiting.delete(fail);
        late?.unsubscribe();
      };
      const answer = (value: number): void => {
        if (!this.#waiting.has(fail)) return;
        settle();
        subscriber.next(bytesOf(value, size));
        subscriber.complete();
      };
      this.#waiting.add(fail);
      if (this.#accesses.observed) this.#accesses.next({ kind: 'read', bar, offset, size, answer });
      else answer(-1);
      if (this.#waiting.has(fail)) {
        late = this.#parts.timers.afterMs(answerWithinMs, () => fail(this.#error('VFIO_E_DEADLINE', `nobody has answered a read of BAR ${bar}, byte ${offset}, within ${answerWithinMs} ms`)));
      }
      return settle;
    });
  }

  write(bar: number, { offset, size }: Piece, bytes: Uint8Array): void {
    if (this.#failed !== undefined) throw this.#failed;
    this.#accesses.next({ kind: 'write', bar, offset, size, value: valueOf(bytes) });
  }

  stop(why: VfioError): void {
    this.#running.unsubscribe();
    this.#accesses.complete();
    for (const fail of [...this.#waiting]) fail(why);
  }

  #fail(cause: unknown): void {
    const { device, timers } = this.#parts;
    const what = 'the behaviour of this device has failed: until a reset it answers nothing';
    this.#failed = this.#error('VFIO_E_NO_DEVICE', what, cause);
    if (warningChannel.hasSubscribers) warningChannel.publish({ device, atNs: timers.clock.nowNs(), what, error: cause });
    for (const fail of [...this.#waiting]) fail(this.#failed);
  }

  #error(code: 'VFIO_E_DEADLINE' | 'VFIO_E_NO_DEVICE', what: string, cause?: unknown): VfioError {
    return new VfioError(code, what, { operation: 'register access', device: this.#parts.device, cause });
  }
}
