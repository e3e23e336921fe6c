import { concat, concatMap, defer, EMPTY, ignoreElements, map, of, repeat, type Observable } from 'rxjs';
import { VfioError } from '../../errors.js';
import { disregard } from '../call.js';
import { eventfdFacts } from '../linux/eventfd-facts.js';
import type { Reactor, ReactorSlot } from '../linux/reactor.js';
import { writeShared } from '../linux/shared-eventfd.js';
import type { Syscalls } from '../linux/syscalls.js';
import type { DevicePort, IrqHandle, IrqInfo } from '../port.js';
import { saturatedCount } from '../protocol/ack-value.js';
import type { UserIrqSet } from './messages/set-irqs.js';
import type { ServedShares } from './served-shares.js';

/** What serving remap irqs needs. */
export interface ServedRemapParts {
  readonly port: DevicePort;
  readonly calls: Syscalls;
  readonly reactor: Reactor;
  readonly shares: ServedShares;
}

/** Which of the two eventfds. */
type Role = 'trigger' | 'ack';

interface Eventfd {
  readonly fd: number;
  readonly id: string;
}

/** One remap irq of the client. Registered with the port only while both eventfds are there: a driver must not wait for an ack that has no way. */
interface Line {
  readonly index: number;
  readonly page: number;
  trigger?: Eventfd | undefined;
  ack?: Eventfd | undefined;
  registered?: { readonly handle: IrqHandle; readonly slot: ReactorSlot } | undefined;
  /** Told to the client, and acked by it, in this registration. */
  sent: bigint;
  acked: bigint;
}

/**
 * The remap irqs of a port for a client of another process: signals go to the client's trigger eventfd, the numbers that it writes to its ack eventfd go to the port,
 * and memory that the client has let go goes home between the two.
 */
export class ServedRemaps {
  readonly #parts: ServedRemapParts;
  readonly #lines = new Map<number, Line>();

  constructor(parts: ServedRemapParts) {
    this.#parts = parts;
  }

  /** DEVICE_SET_IRQS of such an irq. Takes the fd that it keeps out of `fds`. */
  set({ index, remap }: IrqInfo, set: UserIrqSet, fds: number[]): Observable<unknown> {
    const line = this.#lines.get(index) ?? { index, page: remap?.subtype === 'region-remap' ? remap.page : 0, sent: 0n, acked: 0n };
    this.#lines.set(index, line);
    const off = set.action === 'trigger' && set.data === 'none' && set.count === 0;
    if (off || (set.data === 'eventfd' && set.action === 'trigger' && fds.length === 0)) return this.#drop(line, ['trigger', 'ack']);
    if (set.data !== 'eventfd' || set.action === 'mask') throw this.#error('ENOTTY', 'a remap irq has neither masks nor a loopback');
    if (fds.length === 0) return this.#drop(line, ['ack']);
    const role = set.action === 'trigger' ? 'trigger' : 'ack';
    return concat(this.#drop(line, role === 'trigger' ? ['trigger', 'ack'] : ['ack']), defer(() => this.#give(line, role, fds)));
  }

  /** For a client that has gone; the port closes the handles. */
  release(): void {
    for (const line of this.#lines.values()) this.#forget(line, ['trigger', 'ack']);
    this.#lines.clear();
  }

  #give(line: Line, role: Role, fds: number[]): Observable<unknown> {
    const facts = eventfdFacts(fds[0] ?? -1);
    if (facts === undefined) throw this.#error('EINVAL', 'this is no eventfd');
    if (facts.count !== 0n) throw this.#error('EBUSY', 'an old count would be taken for signals, or acks, of this registration');
    if (facts.semaphore && role === 'ack') throw this.#error('EINVAL', 'a semaphore does not carry acks');
    if ([...this.#lines.values()].some(({ trigger, ack }) => trigger?.id === facts.id || ack?.id === facts.id)) throw this.#error('EINVAL', 'this eventfd has a role already');
    line[role] = { fd: fds.shift() ?? -1, id: facts.id };
    const { trigger, ack } = line;
    return trigger === undefined || ack === undefined ? of(undefined) : this.#register(line, trigger, ack);
  }

  #register(line: Line, trigger: Eventfd, ack: Eventfd): Observable<unknown> {
    return this.#parts.port.irq({ index: line.index }, { ackFd: true }).pipe(
      map((handle) => {
        line.sent = 0n;
        line.acked = 0n;
        const slot = this.#slotOf(ack, handle);
        line.registered = { handle, slot };
        this.#forward(line, trigger, handle);
        this.#hear(line, handle, slot);
      }),
    );
  }

  /** Without it the driver would wait for acks that have no way. */
  #slotOf(ack: Eventfd, handle: IrqHandle): ReactorSlot {
    try {
      return this.#parts.reactor.add(ack.fd, true);
    } catch (error) {
      disregard(handle.close());
      throw error;
    }
  }

  /** Until the handle is closed. */
  #forward(line: Line, trigger: Eventfd, handle: IrqHandle): void {
    const signals = defer(() => handle.next()).pipe(concatMap(({ count }) => this.#tell(line, trigger, count)), repeat());
    signals.subscribe({ error: () => undefined });
  }

  #tell(line: Line, { fd }: Eventfd, count: bigint): Observable<unknown> {
    const { binding } = this.#parts.calls;
    const sent = line.sent + count;
    // A client that fills its own eventfd is not waited for: it misses this signal, and its driver's patience ends.
    const told = defer(() => {
      if (line.trigger?.fd !== fd) return EMPTY;
      // Not before what leaves is known: an ack of this signal takes it home.
      line.sent = sent;
      writeShared(binding, fd, count > saturatedCount ? saturatedCount : count);
      return EMPTY;
    });
    return concat(this.#parts.shares.signalled(line.page, sent), told);
  }

  /** One ack after the other. Where memory does not go home nothing is acked: the irq is off, and so the driver's wait fails. */
  #hear(line: Line, handle: IrqHandle, slot: ReactorSlot): void {
    slot.arm(
      (count) => {
        if (count <= line.sent - line.acked) line.acked += count;
        concat(this.#parts.shares.acked(line.page, line.acked), handle.ack(count)).subscribe({
          error: () => {
            if (line.registered?.slot === slot) disregard(this.#drop(line, ['trigger', 'ack']));
          },
          complete: () => {
            if (line.registered?.slot === slot) this.#hear(line, handle, slot);
          },
        });
      },
      () => undefined,
    );
  }

  /** The irq is off as soon as one of its eventfds has gone. */
  #drop(line: Line, roles: readonly Role[]): Observable<unknown> {
    return defer(() => {
      const handle = line.registered?.handle;
      this.#forget(line, roles);
      return handle === undefined ? EMPTY : concat(handle.close(), this.#parts.shares.forget(line.page));
    }).pipe(ignoreElements());
  }

  #forget(line: Line, roles: readonly Role[]): void {
    line.registered?.slot.close();
    line.registered = undefined;
    for (const role of roles) {
      const eventfd = line[role];
      line[role] = undefined;
      if (eventfd !== undefined) this.#parts.calls.binding.close(eventfd.fd);
    }
  }

  #error(errno: 'EINVAL' | 'EBUSY' | 'ENOTTY', message: string): VfioError {
    return new VfioError(errno === 'EBUSY' ? 'VFIO_E_BUSY' : errno === 'EINVAL' ? 'VFIO_E_RANGE' : 'VFIO_E_UNSUPPORTED', message, { operation: 'DEVICE_SET_IRQS', device: this.#parts.port.name, errno });
  }
}
