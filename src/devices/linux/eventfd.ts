import { VfioError } from '../../errors.js';
import { linuxSyscalls, type Syscalls } from './syscalls.js';

/** The largest count that one write can add; 2^64-1 is the kernel's own (eventfd(2)). */
const largestWrite = 0xffff_ffff_ffff_fffen;

/**
 * An eventfd that this object owns: EFD_NONBLOCK | EFD_CLOEXEC, no semaphore. The kernel adds to its count and `read`
 * takes all of it, so that n signals before one read come back as one count (eventfd(2)).
 */
export class Eventfd {
  #fd: number;
  readonly #calls: Syscalls;
  readonly #device: string | undefined;
  readonly #shared: boolean;

  /**
   * @param shared another process gets it, too, and is not trusted: what that does with it is not waited for
   * @throws VfioError `VFIO_E_LIMIT` when no file descriptor is left (EMFILE, ENFILE).
   */
  constructor(calls: Syscalls = linuxSyscalls(), device?: string, shared = false) {
    this.#shared = shared;
    this.#calls = calls;
    this.#device = device;
    this.#fd = calls.eventfd({ operation: 'eventfd', device });
  }

  /** For SET_IRQS and the reactor; this object still closes it. */
  get fd(): number {
    if (this.#fd < 0) throw this.#closedError('use');
    return this.#fd;
  }

  get closed(): boolean {
    return this.#fd < 0;
  }

  /** The count and 0 afterwards, or undefined when it is 0. Up to 2^64-1: the kernel's adds stop there, so that a read near it may have lost signals. */
  read(): bigint | undefined {
    if (this.#fd < 0) throw this.#closedError('read');
    return this.#calls.readCount(this.#fd, { operation: 'read eventfd', device: this.#device }, this.#shared);
  }

  /**
   * Adds to the count. 0 is allowed: it changes nothing and wakes no reader, but runs the kernel's wait queue.
   *
   * @returns false when the count would pass 2^64-2; nothing is added then.
   * @throws VfioError `VFIO_E_RANGE` outside 0 to 2^64-2, which no write can carry.
   */
  write(count: bigint): boolean {
    if (this.#fd < 0) throw this.#closedError('write');
    if (count < 0n || count > largestWrite) {
      throw new VfioError('VFIO_E_RANGE', `an eventfd takes 0 to 2^64-2, not ${String(count)}`, { operation: 'write eventfd', device: this.#device });
    }
    return this.#calls.writeCount(this.#fd, count, { operation: 'write eventfd', device: this.#device }, this.#shared);
  }

  /** Twice is fine. A reactor slot on it is closed first. */
  close(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    this.#calls.close(fd, this.#device);
  }

  #closedError(what: string): VfioError {
    return new VfioError('VFIO_E_CLOSED', 'the eventfd is closed', { operation: `${what} eventfd`, device: this.#device });
  }
}
