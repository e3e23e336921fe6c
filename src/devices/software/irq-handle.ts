import { Observable, type Subscription } from 'rxjs';
import { VfioError, type VfioErrorCode } from '../../errors.js';
import { nowCall } from '../call.js';
import type { Call, IrqHandle, IrqLine, IrqSignal } from '../port.js';
import { largestCount, SoftEventfd } from './eventfd.js';
import type { Timers } from './timers.js';

/** A registered irq: the user's ends of its eventfds. */
export class SoftwareIrqHandle implements IrqHandle {
  readonly line: IrqLine;
  readonly trigger = new SoftEventfd();
  readonly ackFd: SoftEventfd | undefined;
  readonly #timers: Timers;
  readonly #device: string;
  readonly #disable: (handle: SoftwareIrqHandle) => void;
  #cut: (() => void) | undefined;
  #closed = false;

  /** @param disable tells the driver, and is called once, before the eventfds are closed */
  constructor(line: IrqLine, withAckFd: boolean, timers: Timers, device: string, disable: (handle: SoftwareIrqHandle) => void) {
    this.line = line;
    this.ackFd = withAckFd ? new SoftEventfd() : undefined;
    this.#timers = timers;
    this.#device = device;
    this.#disable = disable;
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
        disarm = this.trigger.arm(() => { delivery = this.#timers.soon(read); });
      };
      const read = (): void => {
        const count = this.trigger.read();
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
      return this.trigger.read();
    });
  }

  ack(count: bigint): Call<void> {
    return nowCall(() => {
      if (this.#closed) throw this.#error('VFIO_E_CLOSED', 'this irq is closed', 'ack');
      const least = this.ackFd === undefined ? 0n : 1n;
      if (count < least || count >= largestCount) throw this.#error('VFIO_E_RANGE', `an ack is ${least} to 2^64 - 2, not ${count}`, 'ack');
      if ((this.ackFd ?? this.trigger).write(count) === undefined) return;
      if (this.ackFd === undefined) throw this.#error('VFIO_E_LIMIT', 'the eventfd is full of signals: read it first', 'ack', 'EAGAIN');
      throw this.#error('VFIO_E_PROTOCOL', 'the ack eventfd is full: the vendor driver does not take acks out of it', 'ack', 'EAGAIN');
    });
  }

  close(): Call<void> {
    return nowCall(() => { this.release(); });
  }

  release(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#disable(this);
    this.#cut?.();
    this.trigger.close();
    this.ackFd?.close();
  }

  #error(code: VfioErrorCode, message: string, operation: string, errno?: 'EAGAIN'): VfioError {
    return new VfioError(code, message, { operation: `irq ${this.line.index} ${operation}`, device: this.#device, errno });
  }
}
