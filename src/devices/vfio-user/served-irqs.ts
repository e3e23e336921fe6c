import { catchError, concatMap, defer, EMPTY, from, map, of, repeat, toArray, type Observable } from 'rxjs';
import { VfioError } from '../../errors.js';
import { disregard, nowCall } from '../call.js';
import { eventfdFacts } from '../linux/eventfd-facts.js';
import type { Reactor, ReactorSlot } from '../linux/reactor.js';
import { writeShared } from '../linux/shared-eventfd.js';
import type { Syscalls } from '../linux/syscalls.js';
import type { DevicePort, IrqHandle, IrqInfo } from '../port.js';
import type { UserIrqSet } from './messages/set-irqs.js';

/** What serving irqs needs. */
export interface ServedIrqParts {
  readonly port: DevicePort;
  readonly calls: Syscalls;
  readonly reactor: Reactor;
}

/** One vector: a handle of the port, whose signals go to the client's eventfd. */
interface Served {
  readonly handle: IrqHandle;
  /** Whether the port has an ack eventfd for it. */
  readonly acks: boolean;
  /** The client's; undefined where it has enabled the vector and not given one: what is signalled is lost then. */
  fd: number | undefined;
  ack: { readonly fd: number; readonly slot: ReactorSlot } | undefined;
}

const none: ReadonlyMap<number, Served> = new Map();

/**
 * The irqs of a port for a client of another process: what the port signals is added to the client's eventfd, and what the client adds to an
 * unmask eventfd goes to the port as an ack.
 */
export class ServedIrqs {
  readonly #parts: ServedIrqParts;
  readonly #indexes = new Map<number, Map<number, Served>>();

  constructor(parts: ServedIrqParts) {
    this.#parts = parts;
  }

  /** DEVICE_SET_IRQS. Takes the fds that it keeps out of `fds`. */
  set(info: IrqInfo, set: UserIrqSet, fds: number[]): Observable<unknown> {
    const { index, action, start, count } = set;
    if (set.data === 'eventfd') {
      if (fds.some((fd) => eventfdFacts(fd) === undefined)) throw this.#error('VFIO_E_RANGE', 'what came is no eventfd');
      if (action === 'mask') throw this.#error('VFIO_E_UNSUPPORTED', 'no eventfd tells of masks');
      const vectors = Array.from({ length: count }, (_, n) => start + n);
      if (action === 'unmask') return nowCall(() => { this.#acks(index, vectors, fds); });
      return fds.length === 0 ? this.#withoutFds(info, vectors) : this.#triggers(info, vectors, fds);
    }
    if (action === 'trigger' && count > 0) {
      this.#loopback(index, set.data === 'bool' ? set.vectors.flatMap((on, n) => (on ? [start + n] : [])) : Array.from({ length: count }, (_, n) => start + n));
      return of(undefined);
    }
    if (action === 'trigger' && set.data === 'none') return this.#closeAll(index, [...(this.#indexes.get(index) ?? none).keys()]);
    return this.#parts.port.setIrqs(set.data === 'bool' ? { index, action, start, data: 'bool', vectors: set.vectors } : { index, action, start, data: 'none', count });
  }

  /** For a client that has gone; the port closes the handles. */
  release(): void {
    for (const served of this.#indexes.values()) for (const one of served.values()) this.#drop(one);
    this.#indexes.clear();
  }

  /** As if the device had signalled: it need not be asked for that, and the client has its signal before the reply. */
  #loopback(index: number, vectors: readonly number[]): void {
    const served = this.#vectorsOf(index);
    if (Math.max(...vectors) > Math.max(-1, ...served.keys())) throw this.#error('VFIO_E_RANGE', `irq ${index} has no such vector enabled`);
    for (const vector of vectors) this.#signal(served.get(vector), 1n);
  }

  /** A full eventfd holds all that a count can tell; one that would wait is not waited for. */
  #signal(one: Served | undefined, count: bigint): void {
    if (one?.fd !== undefined) writeShared(this.#parts.calls.binding, one.fd, count);
  }

  /** Enables what is not enabled yet, and hands over the eventfds. */
  #triggers(info: IrqInfo, vectors: readonly number[], fds: number[]): Observable<unknown> {
    const { index } = info;
    const missing = vectors.filter((vector) => !this.#vectorsOf(index).has(vector));
    const registered = missing.length === 0 ? of([]) : this.#register(info, missing);
    return registered.pipe(
      map(() => {
        for (const [n, fd] of fds.splice(0).entries()) {
          const one = this.#vectorsOf(index).get(vectors[n] ?? -1);
          if (one === undefined) this.#parts.calls.binding.close(fd);
          else this.#hand(one, fd);
        }
      }),
    );
  }

  /** An index that is off is turned on for so many vectors; of one that is on these are taken away. */
  #withoutFds(info: IrqInfo, vectors: readonly number[]): Observable<unknown> {
    return this.#vectorsOf(info.index).size === 0 ? this.#register(info, vectors.slice(-1)) : this.#closeAll(info.index, vectors);
  }

  /**
   * A port takes an ack eventfd with the registration or never, and a client may hand in its unmask eventfd later: so the port has one from the beginning, wherever
   * it takes one.
   */
  #register(info: IrqInfo, vectors: readonly number[]): Observable<unknown> {
    const { index, maskable, automasked } = info;
    const registered = (acks: boolean): Observable<unknown> =>
      this.#parts.port.irqs(index, vectors, { ackFd: acks }).pipe(
        map((handles) => {
          for (const [n, handle] of handles.entries()) {
            const one: Served = { handle, acks, fd: undefined, ack: undefined };
            this.#vectorsOf(index).set(vectors[n] ?? -1, one);
            this.#forwardSignals(one);
          }
        }),
      );
    if (!maskable && !automasked) return registered(false);
    return registered(true).pipe(
      catchError((error: unknown) => {
        if (VfioError.is(error) && (error.code === 'VFIO_E_UNSUPPORTED' || error.errno === 'EINVAL')) return registered(false);
        throw error;
      }),
    );
  }

  /** Until the handle is closed. */
  #forwardSignals(one: Served): void {
    const signals = defer(() => one.handle.next()).pipe(repeat());
    signals.subscribe({
      next: ({ count }) => this.#signal(one, count),
      error: () => undefined,
    });
  }

  /** The unmask eventfds of vectors, or none. */
  #acks(index: number, vectors: readonly number[], fds: number[]): void {
    const served = vectors.map((vector) => this.#vectorsOf(index).get(vector));
    for (const [n, one] of served.entries()) {
      if (one === undefined) throw this.#error('VFIO_E_RANGE', `vector ${vectors[n]} of irq ${index} is not enabled`);
      if (!one.acks && fds.length > 0) throw this.#error('VFIO_E_UNSUPPORTED', `irq ${index} takes no unmask by eventfd`);
    }
    for (const one of served) {
      if (one === undefined) continue;
      this.#dropAck(one);
      const [fd] = fds;
      if (fd === undefined) continue;
      one.ack = { fd, slot: this.#parts.reactor.add(fd, true) };
      fds.shift();
      this.#forwardAcks(one.handle, one.ack.slot);
    }
  }

  #forwardAcks(handle: IrqHandle, slot: ReactorSlot): void {
    slot.arm(
      (count) => {
        this.#forwardAcks(handle, slot);
        disregard(handle.ack(count));
      },
      () => undefined,
    );
  }

  #hand(one: Served, fd: number): void {
    if (one.fd !== undefined) this.#parts.calls.binding.close(one.fd);
    one.fd = fd;
  }

  #closeAll(index: number, vectors: readonly number[]): Observable<unknown> {
    const served = this.#vectorsOf(index);
    return from(vectors).pipe(
      concatMap((vector) => {
        const one = served.get(vector);
        if (one === undefined) return EMPTY;
        served.delete(vector);
        this.#drop(one);
        return one.handle.close();
      }),
      toArray(),
    );
  }

  #drop(one: Served): void {
    if (one.fd !== undefined) this.#parts.calls.binding.close(one.fd);
    one.fd = undefined;
    this.#dropAck(one);
  }

  #dropAck(one: Served): void {
    if (one.ack === undefined) return;
    one.ack.slot.close();
    this.#parts.calls.binding.close(one.ack.fd);
    one.ack = undefined;
  }

  #error(code: 'VFIO_E_RANGE' | 'VFIO_E_UNSUPPORTED', message: string): VfioError {
    return new VfioError(code, message, { operation: 'DEVICE_SET_IRQS', device: this.#parts.port.name });
  }

  #vectorsOf(index: number): Map<number, Served> {
    const served = this.#indexes.get(index) ?? new Map<number, Served>();
    // Bounded by the irqs that a device can have: others are refused before they come here.
    this.#indexes.set(index, served);
    return served;
  }
}
