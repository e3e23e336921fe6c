import { concat, concatMap, defer, EMPTY, finalize, from, map, of, repeat, toArray, type Observable } from 'rxjs';
import { VfioError } from '../../errors.js';
import { disregard } from '../call.js';
import { eventfdFacts } from '../linux/eventfd-facts.js';
import type { Reactor, ReactorSlot } from '../linux/reactor.js';
import type { Syscalls } from '../linux/syscalls.js';
import type { Call, DevicePort, IrqHandle } from '../port.js';
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
  set(set: UserIrqSet, fds: number[]): Observable<unknown> {
    const { index, action, start, count } = set;
    if (set.data === 'eventfd') {
      if (fds.some((fd) => eventfdFacts(fd) === undefined)) throw new VfioError('VFIO_E_RANGE', 'what came is no eventfd', { operation: 'DEVICE_SET_IRQS', device: this.#parts.port.name });
      if (action === 'mask') throw new VfioError('VFIO_E_UNSUPPORTED', 'no eventfd tells of masks', { operation: 'DEVICE_SET_IRQS', device: this.#parts.port.name });
      const vectors = Array.from({ length: count }, (_, n) => start + n);
      if (action === 'unmask') return concat(...vectors.map((vector, n) => this.#acks(index, vector, fds.length === 0 ? undefined : fds, n)));
      return fds.length === 0 ? this.#withoutFds(index, vectors) : this.#triggers(index, vectors, fds);
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
    if (Math.max(...vectors) > Math.max(-1, ...served.keys())) throw new VfioError('VFIO_E_RANGE', `irq ${index} has no such vector enabled`, { operation: 'DEVICE_SET_IRQS', device: this.#parts.port.name });
    for (const vector of vectors) this.#signal(served.get(vector), 1n);
  }

  /** A full eventfd holds all that a count can tell; one that would wait is not waited for. */
  #signal(one: Served | undefined, count: bigint): void {
    const { binding } = this.#parts.calls;
    if (one?.fd !== undefined && binding.takesWrite(one.fd)) binding.writeCount(one.fd, count);
  }

  /** Enables what is not enabled yet, and hands over the eventfds. */
  #triggers(index: number, vectors: readonly number[], fds: number[]): Observable<unknown> {
    const missing = vectors.filter((vector) => !this.#vectorsOf(index).has(vector));
    const registered = missing.length === 0 ? of([]) : this.#register(index, missing, false);
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
  #withoutFds(index: number, vectors: readonly number[]): Observable<unknown> {
    return this.#vectorsOf(index).size === 0 ? this.#register(index, vectors.slice(-1), false) : this.#closeAll(index, vectors);
  }

  #register(index: number, vectors: readonly number[], ackFd: boolean): Call<readonly Served[]> {
    return this.#parts.port.irqs(index, vectors, { ackFd }).pipe(
      map((handles) =>
        handles.map((handle, n) => {
          const one: Served = { handle, fd: undefined, ack: undefined };
          this.#vectorsOf(index).set(vectors[n] ?? -1, one);
          this.#forwardSignals(one);
          return one;
        }),
      ),
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

  /** The unmask eventfd of a vector. A port has it from the registration on, so the vector is registered anew. */
  #acks(index: number, vector: number, fds: number[] | undefined, n: number): Observable<unknown> {
    return defer(() => {
      const before = this.#vectorsOf(index).get(vector);
      if (before === undefined) throw new VfioError('VFIO_E_RANGE', `vector ${vector} of irq ${index} is not enabled`, { operation: 'DEVICE_SET_IRQS', device: this.#parts.port.name });
      if (fds === undefined) {
        this.#dropAck(before);
        return of(undefined);
      }
      // Between two handles: closed with this call, unless the new one has it.
      let client = before.fd;
      before.fd = undefined;
      return concat(
        this.#closeAll(index, [vector]),
        this.#register(index, [vector], true).pipe(
          map(([one]) => {
            if (one === undefined) return;
            one.fd = client;
            client = undefined;
            const fd = this.#parts.calls.dup(fds[n] ?? -1);
            const slot = this.#parts.reactor.add(fd);
            one.ack = { fd, slot };
            this.#forwardAcks(one.handle, slot);
          }),
        ),
      ).pipe(
        finalize(() => {
          if (client !== undefined) this.#parts.calls.binding.close(client);
        }),
      );
    });
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

  #vectorsOf(index: number): Map<number, Served> {
    const served = this.#indexes.get(index) ?? new Map<number, Served>();
    // Bounded by the irqs that a device can have: others are refused before they come here.
    this.#indexes.set(index, served);
    return served;
  }
}
