import { Observable, type Subscriber } from 'rxjs';
import { errnoError, VfioError } from '../../errors.js';
import { nowCall } from '../call.js';
import { Eventfd } from '../linux/eventfd.js';
import type { Reactor, ReactorSlot } from '../linux/reactor.js';
import type { Syscalls } from '../linux/syscalls.js';
import type { Call, IrqHandle, IrqLine, IrqSignal } from '../port.js';
import type { VectorEventfds } from '../protocol/irq-registry.js';
import type { IrqAct, IrqAction } from '../uapi/irq-set.js';
import { runAll, runAllOrThrow } from './run-all.js';

/** What an irq needs of its port. */
export interface IrqContext {
  readonly device: string;
  readonly calls: Syscalls;
  readonly reactor: Reactor;
  /** Its eventfds go to another process, and not to the kernel alone. */
  readonly shared?: boolean;
  act(act: IrqAct): void;
  /** Takes the vector away from the device, and disposes of it. */
  release(line: Required<IrqLine>): void;
}

/**
 * An irq of the kernel: a trigger eventfd in the reactor, and an ack eventfd where asked for. Both are fresh, and closed
 * with the handle. The port's `IrqRegistry` makes it, registers it and takes it away again.
 */
export class KernelIrq implements IrqHandle, VectorEventfds<number> {
  readonly line: Required<IrqLine>;
  readonly #context: IrqContext;
  readonly #trigger: Eventfd;
  readonly #ack: Eventfd | undefined;
  readonly #slot: ReactorSlot;
  #waiting: Subscriber<IrqSignal> | undefined;
  #closed = false;

  /** Opens eventfds; on failure nothing is left open. */
  constructor(context: IrqContext, line: Required<IrqLine>, withAck: boolean) {
    this.#context = context;
    this.line = line;
    const { calls, device, reactor, shared } = context;
    const undo: (() => void)[] = [];
    try {
      this.#trigger = new Eventfd(calls, device, shared);
      undo.push(() => this.#trigger.close());
      this.#ack = withAck ? new Eventfd(calls, device, shared) : undefined;
      undo.push(() => this.#ack?.close());
      this.#slot = concerning(device, () => reactor.add(this.#trigger.fd, shared));
    } catch (error) {
      runAll(undo.reverse());
      throw error;
    }
  }

  get vector(): number {
    return this.line.vector;
  }

  get triggerFd(): number {
    return this.#trigger.fd;
  }

  get ackFd(): number | undefined {
    return this.#ack?.fd;
  }

  next(): Call<IrqSignal> {
    return new Observable<IrqSignal>((subscriber) => {
      if (this.#closed) {
        subscriber.error(this.#closedError());
        return undefined;
      }
      if (this.#waiting !== undefined) {
        subscriber.error(new VfioError('VFIO_E_BUSY', 'somebody waits for the next signal of this irq already', { operation: `irq ${this.line.index}`, device: this.#context.device }));
        return undefined;
      }
      this.#waiting = subscriber;
      const fail = (error: unknown): void => {
        this.#waiting = undefined;
        subscriber.error(located(error, this.#context.device));
      };
      try {
        this.#slot.arm((count, atNs) => {
          this.#waiting = undefined;
          subscriber.next({ line: this.line, count, atNs });
          subscriber.complete();
        }, fail);
      } catch (error) {
        fail(error);
      }
      return () => {
        if (this.#waiting !== subscriber) return;
        this.#waiting = undefined;
        this.#slot.disarm();
      };
    });
  }

  readNow(): Call<bigint | undefined> {
    return nowCall(() => {
      if (this.#closed) throw this.#closedError();
      if (this.#waiting !== undefined) {
        throw new VfioError('VFIO_E_BUSY', 'somebody waits for the next signal of this irq', { operation: `read irq ${this.line.index}`, device: this.#context.device });
      }
      return this.#trigger.read();
    });
  }

  ack(count: bigint): Call<void> {
    return nowCall(() => {
      if (this.#closed) throw this.#closedError();
      const names = { operation: `ack irq ${this.line.index}`, device: this.#context.device };
      if (this.#ack !== undefined && count === 0n) throw new VfioError('VFIO_E_RANGE', 'an ack eventfd takes 1 to 2^64-2, not 0', names);
      if ((this.#ack ?? this.#trigger).write(count)) return;
      if (this.#ack === undefined) throw new VfioError('VFIO_E_LIMIT', 'the eventfd is full of signals: read it first', { ...names, errno: 'EAGAIN' });
      throw new VfioError('VFIO_E_PROTOCOL', 'the ack eventfd is full: the vendor driver does not take acks out of it', { ...names, errno: 'EAGAIN' });
    });
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
    return nowCall(() => this.release());
  }

  /** The same, at once: the irq first, since that frees a blocked write of device_state. */
  release(): void {
    if (!this.#closed) this.#context.release(this.line);
  }

  dispose(): void {
    if (this.#closed) return;
    this.#closed = true;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    runAllOrThrow([
      () => this.#slot.close(),
      () => this.#trigger.close(),
      () => this.#ack?.close(),
      () => waiting?.error(this.#closedError()),
    ]);
  }

  #act(action: IrqAction): Call<void> {
    return nowCall(() => {
      if (this.#closed) throw this.#closedError();
      this.#context.act({ index: this.line.index, action, data: 'none', start: this.line.vector, count: 1 });
    });
  }

  #closedError(): VfioError {
    return new VfioError('VFIO_E_CLOSED', 'the irq is closed', { operation: `irq ${this.line.index}`, device: this.#context.device });
  }
}

function concerning<T>(device: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw located(error, device);
  }
}

/** The reactor serves all devices and cannot say whose irq failed. */
function located(error: unknown, device: string): unknown {
  if (!VfioError.is(error) || error.errno === undefined || error.device !== undefined) return error;
  return errnoError(error.errno, error.operation, device, error);
}
