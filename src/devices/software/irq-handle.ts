import { Observable, type Subscription } from 'rxjs';
import { VfioError, type VfioErrorCode } from '../../errors.js';
import { nowCall } from '../call.js';
import type { Call, IrqHandle, IrqLine, IrqSignal } from '../port.js';
import type { VectorEventfds } from '../protocol/irq-registry.js';
import type { IrqAct, IrqAction } from '../uapi/irq-set.js';
import { largestCount, SoftEventfd } from './eventfd.js';
import type { Timers } from './timers.js';

/** What an irq needs of its port. */
export interface SoftwareIrqContext {
  readonly device: string;
  readonly timers: Timers;
  act(act: IrqAct): void;
  /** Takes the vector away from the driver, and disposes of it. */
  release(line: Required<IrqLine>): void;
}

/** An irq: the user's ends of its eventfds. The port's `IrqRegistry` makes it, registers it and takes it away again. */
export class SoftwareIrqHandle implements IrqHandle, VectorEventfds<SoftEventfd | undefined> {
  readonly line: Required<IrqLine>;
  readonly triggerFd = new SoftEventfd();
  readonly ackFd: SoftEventfd | undefined;
  readonly #context: SoftwareIrqContext;
  readonly #timers: Timers;
  readonly #device: string;
  #cut: (() => void) | undefined;
  #closed = false;

  constructor(context: SoftwareIrqContext, line: Required<IrqLine>, withAckFd: boolean) {
    this.line = line;
    this.ackFd = withAckFd ? new SoftEventfd() : undefined;
    this.#context = context;
    this.#timers = context.timers;
    this.#device = context.device;
  }

  get vector(): number {
    return this.line.vector;
  }

  next(): Call<IrqSignal> {
    return new Observable<IrqSignal>((subscriber) => {
      if (this.#closed) { subscriber.error(this.#error('VFIO_E_CLOSED', 'this irq is closed', 'next')); return undefined; }
      if (this.#cut !== undefined) {
        subscriber.error(this.#error('VFIO_E_BUSY', 'somebody waits for the next signal of this irq already', 'next'));
        return undefined;
      }
      let disarm: (() => void) | undefined;
      let delivery: Subscription | undefined;
      const stop = (): void => {
        disarm?.();
        delivery?.unsubscribe();
        if (this.#cut === cut) this.#cut = undefined;
      };
      const cut = (): void => {
        stop();
        subscriber.error(this.#error('VFIO_E_CLOSED', 'this irq was closed', 'next'));
      };
      this.#cut = cut;
      // Read in a turn of its own, as a reactor would: whatever is added until then is in the same count.
      const arm = (): void => {
        disarm = this.triggerFd.arm(() => { delivery = this.#timers.soon(read); });
      };
      const read = (): void => {
        const count = this.triggerFd.read();
        if (count === undefined) { arm(); return; }
        stop();
        subscriber.next({ line: this.line, count, atNs: this.#timers.clock.nowNs() });
        subscriber.complete();
      };
      arm();
      return stop;
    });
  }

  readNow(): Call<bigint | undefined> {
    return nowCall(() => {
      if (this.#closed) throw this.#error('VFIO_E_CLOSED', 'this irq is closed', 'read');
      if (this.#cut !== undefined) throw this.#error('VFIO_E_BUSY', 'somebody waits for the next signal of this irq', 'read');
      return this.triggerFd.read();
    });
  }

  ack(count: bigint): Call<void> {
    return nowCall(() => {
      if (this.#closed) throw this.#error('VFIO_E_CLOSED', 'this irq is closed', 'ack');
      const least = this.ackFd === undefined ? 0n : 1n;
      if (count < least || count >= largestCount) throw this.#error('VFIO_E_RANGE', `an ack is ${least} to 2^64 - 2, not ${count}`, 'ack');
      if ((this.ackFd ?? this.triggerFd).write(count) === undefined) return;
      if (this.ackFd === undefined) throw this.#error('VFIO_E_LIMIT', 'the eventfd is full of signals: read it first', 'ack', 'EAGAIN');
      throw this.#error('VFIO_E_PROTOCOL', 'the ack eventfd is full: the vendor driver does not take acks out of it', 'ack', 'EAGAIN');
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
    return nowCall(() => { this.release(); });
  }

  release(): void {
    if (!this.#closed) this.#context.release(this.line);
  }

  dispose(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#cut?.();
    this.triggerFd.close();
    this.ackFd?.close();
  }

  #act(action: IrqAction): Call<void> {
    return nowCall(() => {
      if (this.#closed) throw this.#error('VFIO_E_CLOSED', 'this irq is closed', action);
      this.#context.act({ index: this.line.index, action, data: 'none', start: this.line.vector, count: 1 });
    });
  }

  #error(code: VfioErrorCode, message: string, operation: string, errno?: 'EAGAIN'): VfioError {
    return new VfioError(code, message, { operation: `irq ${this.line.index} ${operation}`, device: this.#device, errno });
  }
}
