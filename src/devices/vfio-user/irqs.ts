import { catchError, concat, concatMap, defer, ignoreElements, map, merge, of, take, throwError, toArray, type Observable } from 'rxjs';
import { VfioError } from '../../errors.js';
import { disregard, nowCall } from '../call.js';
import { KernelIrq } from '../kernel/irq-handle.js';
import { mostFdsAtOnce } from '../linux/binding.js';
import type { Reactor } from '../linux/reactor.js';
import type { Syscalls } from '../linux/syscalls.js';
import type { Call, IrqHandle, IrqInfo, IrqLine, IrqSignal } from '../port.js';
import { runsOf } from '../protocol/irq-registry.js';
import { irqKind, irqRefusal, registrationRefusal, type IrqKind, type IrqRefusal, type IrqUse } from '../protocol/irq-rules.js';
import type { IrqAct, IrqAction } from '../uapi/irq-set.js';
import { encodeUserIrqSet, type UserIrqSet } from './messages/set-irqs.js';
import { Serial } from './serial.js';

/** What irqs need of their port. */
export interface UserIrqParts {
  readonly device: string;
  readonly calls: Syscalls;
  readonly reactor: Reactor;
  /** fds that the server takes with one message; at least 1, or no irq can be registered. */
  readonly maxFds: () => number;
  readonly pci: () => Call<boolean>;
  readonly info: (index: number) => Call<IrqInfo>;
  readonly send: (payload: Uint8Array, operation: string, fds: readonly number[]) => Call<unknown>;
  /** Fails when the connection is lost: no signal comes then. */
  readonly lost: Observable<never>;
  /** Throws VFIO_E_CLOSED once the port is closed. */
  readonly requireOpen: (operation: string) => void;
}

interface OpenIndex {
  readonly kind: IrqKind;
  readonly info: IrqInfo;
  readonly vectors: Map<number, UserIrq>;
  enabled: number;
}

/** An irq whose eventfds were handed to the server: signals and acks go past the socket, all else is a message. */
class UserIrq implements IrqHandle {
  readonly line: Required<IrqLine>;
  readonly eventfds: KernelIrq;
  /** Somebody has closed it. */
  leaving = false;
  readonly #irqs: UserIrqs;
  readonly #lost: Observable<never>;

  constructor(irqs: UserIrqs, eventfds: KernelIrq, lost: Observable<never>) {
    this.#irqs = irqs;
    this.#lost = lost;
    this.eventfds = eventfds;
    this.line = eventfds.line;
  }

  get vector(): number {
    return this.line.vector;
  }

  next(): Call<IrqSignal> {
    return merge(this.#lost, this.eventfds.next()).pipe(take(1));
  }

  readNow(): Call<bigint | undefined> {
    return this.eventfds.readNow();
  }

  ack(count: bigint): Call<void> {
    return this.eventfds.ack(count);
  }

  mask(): Call<void> {
    return this.#act('mask');
  }

  unmask(): Call<void> {
    return this.#act('unmask');
  }

  trigger(): Call<void> {
    return this.#act('trigger');
  }

  close(): Call<void> {
    return this.#irqs.release(this);
  }

  #act(action: IrqAction): Call<void> {
    return this.#irqs.act({ index: this.line.index, action, data: 'none', start: this.line.vector, count: 1 }, this);
  }
}

/**
 * Which vectors of which irq are registered at the server. The rules are those of every port (`irq-rules.ts`), asked before the server is; the
 * calls of one device are made one after the other.
 */
export class UserIrqs {
  readonly #parts: UserIrqParts;
  readonly #open = new Map<number, OpenIndex>();
  readonly #serial = new Serial();

  constructor(parts: UserIrqParts) {
    this.#parts = parts;
  }

  register(index: number, vectors: readonly number[], withAck: boolean): Call<readonly IrqHandle[]> {
    const registered = (): Call<readonly IrqHandle[]> => {
      this.#requireOpen(index);
      return this.#indexOf(index).pipe(concatMap((open) => this.#register(open, vectors, withAck)));
    };
    return this.#serial.run(registered, (unwanted) => {
      for (const one of unwanted) disregard(one.close());
    });
  }

  /** `of`: the handle that it is about, which must not be closed. */
  act(act: IrqAct, of?: UserIrq): Call<void> {
    return this.#serial.run(() => {
      this.#requireOpen(act.index);
      const open = this.#open.get(act.index);
      if (of !== undefined && open?.vectors.get(of.vector) !== of) throw this.#error({ code: 'VFIO_E_CLOSED', message: 'the irq is closed' }, act.index);
      if (open === undefined) throw this.#error({ code: 'VFIO_E_RANGE', message: `irq ${act.index} is not enabled` }, act.index);
      if (act.action === 'trigger' && act.data === 'none' && act.count === 0) throw this.#error({ code: 'VFIO_E_RANGE', message: `close the handles of irq ${act.index} to turn it off` }, act.index);
      this.#require(irqRefusal(act, this.#useOf(open)), act.index);
      const { index, action, start = 0 } = act;
      return this.#send(act.data === 'none' ? { index, action, start, count: act.count, data: 'none' } : { index, action, start, count: act.vectors.length, data: 'bool', vectors: act.vectors });
    });
  }

  /** Takes the vector away, and closes its eventfds whatever the server says. The first call is not refused, whatever waits. */
  release(irq: UserIrq): Call<void> {
    return defer(() => {
      const again = irq.leaving;
      irq.leaving = true;
      return again ? this.#serial.run(() => this.#release(irq)) : this.#serial.release(() => this.#release(irq));
    });
  }

  /** For a port that is closing: the server is told, and not waited for. */
  closeAll(step: (what: string, release: () => void) => void): void {
    for (const [index, open] of [...this.#open]) {
      this.#open.delete(index);
      this.#send({ index, action: 'trigger', start: 0, count: 0, data: 'none' }).subscribe({ error: () => undefined });
      for (const { line, eventfds } of open.vectors.values()) step(`irq ${index}${line.vector === 0 ? '' : `, vector ${line.vector},`} disabled`, () => eventfds.dispose());
    }
  }

  #release(irq: UserIrq): Call<void> {
    const open = this.#open.get(irq.line.index);
    if (open?.vectors.get(irq.vector) !== irq) return of(undefined);
    open.vectors.delete(irq.vector);
    const dispose = nowCall(() => irq.eventfds.dispose());
    return concat(this.#takeAway(open, [irq]).pipe(ignoreElements(), catchError((error: unknown) => concat(dispose.pipe(ignoreElements()), throwError(() => error)))), dispose);
  }

  #indexOf(index: number): Call<OpenIndex> {
    const open = this.#open.get(index);
    if (open !== undefined) return of(open);
    return this.#parts.info(index).pipe(
      concatMap((info) => this.#parts.pci().pipe(map((pci): OpenIndex => ({ kind: irqKind(info, pci), info, vectors: new Map(), enabled: 0 })))),
    );
  }

  #register(open: OpenIndex, vectors: readonly number[], withAck: boolean): Call<readonly IrqHandle[]> {
    const { index } = open.info;
    this.#requireOpen(index);
    this.#require(registrationRefusal(vectors, withAck, new Set(open.vectors.keys()), this.#useOf(open)), index);
    const made: UserIrq[] = [];
    const dispose = (): void => {
      for (const { eventfds } of made) eventfds.dispose();
    };
    try {
      for (const vector of vectors) made.push(this.#make(index, vector, withAck));
    } catch (error) {
      dispose();
      throw error;
    }
    this.#open.set(index, open);
    const told: UserIrq[] = [];
    return concat(...this.#registrations(open, made, withAck, told)).pipe(
      toArray(),
      map(() => {
        // The port was closed meanwhile: nobody would ever close these.
        this.#requireOpen(index);
        for (const one of made) open.vectors.set(one.vector, one);
        return made;
      }),
      catchError((error: unknown) => {
        dispose();
        return concat(this.#takeAway(open, told).pipe(ignoreElements(), catchError(() => of())), throwError(() => error));
      }),
    );
  }

  #make(index: number, vector: number, withAck: boolean): UserIrq {
    const { device, calls, reactor, lost } = this.#parts;
    const never = (): void => undefined;
    return new UserIrq(this, new KernelIrq({ device, calls, reactor, shared: true, act: never, release: never }, { index, vector }, withAck), lost);
  }

  /**
   * The messages that hand over the eventfds. A message has as many fds as vectors, so there are none for a gap, and the server takes
   * only so many at once: where one message cannot say all, a first one without fds says how many vectors there will be.
   */
  #registrations(open: OpenIndex, made: readonly UserIrq[], withAck: boolean, told: UserIrq[]): readonly Observable<unknown>[] {
    const { index } = open.info;
    const pieces = runsOf(made, false).flatMap(({ run }) => piecesOf(run.filter((one) => one !== undefined), Math.max(1, Math.min(this.#parts.maxFds(), mostFdsAtOnce))));
    const end = Math.max(...made.map(({ vector }) => vector)) + 1;
    const enable = defer(() => this.#send({ index, action: 'trigger', start: 0, count: end, data: 'eventfd' }));
    const hand = (action: 'trigger' | 'unmask', fdOf: (irq: UserIrq) => number | undefined) =>
      pieces.map((piece) =>
        defer(() => {
          told.push(...piece);
          open.enabled = Math.max(open.enabled, end);
          return this.#send({ index, action, start: piece[0]?.vector ?? 0, count: piece.length, data: 'eventfd' }, piece.map(fdOf).filter((fd) => fd !== undefined));
        }),
      );
    return [
      ...(pieces.length > 1 && open.enabled === 0 ? [enable] : []),
      ...hand('trigger', ({ eventfds }) => eventfds.triggerFd),
      ...(withAck ? hand('unmask', ({ eventfds }) => eventfds.ackFd) : []),
    ];
  }

  /** The last vector that goes turns its index off. */
  #takeAway(open: OpenIndex, going: readonly UserIrq[]): Call<void> {
    const { index } = open.info;
    if (open.vectors.size === 0) {
      this.#open.delete(index);
      const { enabled } = open;
      open.enabled = 0;
      return enabled === 0 ? of(undefined) : this.#send({ index, action: 'trigger', start: 0, count: 0, data: 'none' });
    }
    return concat(...going.map(({ vector }) => this.#send({ index, action: 'trigger', start: vector, count: 1, data: 'eventfd' }))).pipe(toArray(), map(() => undefined));
  }

  #send(set: UserIrqSet, fds: readonly number[] = []): Call<void> {
    const operation = `VFIO_DEVICE_SET_IRQS(${set.index}) ${set.action} by ${set.data}`;
    return this.#parts.send(encodeUserIrqSet(set), operation, fds).pipe(map(() => undefined));
  }

  #useOf({ kind, info, enabled }: OpenIndex): IrqUse {
    return { kind, info, enabled, on: new Set([...this.#open.values()].filter((other) => other.enabled > 0).map((other) => other.kind)) };
  }

  #require(refusal: IrqRefusal | undefined, index: number): void {
    if (refusal !== undefined) throw this.#error(refusal, index);
  }

  #requireOpen(index: number): void {
    this.#parts.requireOpen(`VFIO_DEVICE_SET_IRQS(${index})`);
  }

  #error({ code, message }: IrqRefusal, index: number): VfioError {
    return new VfioError(code, message, { operation: `VFIO_DEVICE_SET_IRQS(${index})`, device: this.#parts.device });
  }
}

function piecesOf<T>(all: readonly T[], size: number): readonly (readonly T[])[] {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, n) => all.slice(n * size, (n + 1) * size));
}
