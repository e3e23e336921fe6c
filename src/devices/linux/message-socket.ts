import { errnoError, VfioError } from '../../errors.js';
import { EAGAIN, EINTR, errnoName, type ReceivedFds } from './binding.js';
import type { Reactor, ReadySlot } from './reactor.js';
import type { Syscalls } from './syscalls.js';

/** Whoever is at this end of a socket. Nothing here may throw, except `received`: that ends the connection with what it threw. */
export interface SocketUser {
  /** How many bytes the next read may bring at most; asked before each. */
  wanted(): number;
  /** The bytes are only good until this returns; the fds are its own, and came with the first of them. */
  received(bytes: Uint8Array, fds: readonly number[]): void;
  /** Once, however it ended: by the other side (no error), by an error, but not by `close()`, which is still to be called: until then the other side sees no end. */
  lost(error: unknown): void;
}

/** What a socket is made of. */
export interface SocketParts {
  readonly calls: Syscalls;
  readonly reactor: Reactor;
  /** For messages of errors. */
  readonly name: string;
}

/** What is read at once, and for how long before the event loop has its turn, bytes and reads. */
const readBytes = 64 * 1024;
const readsPerTurn = 256;

/** What waits to be sent, bytes: whoever takes nothing out at the other side holds up no more than this. */
const mostQueued = 8 * 1024 * 1024;

interface Queued {
  bytes: Uint8Array;
  /** Duplicates, closed when they are sent. */
  fds: readonly number[];
}

/**
 * A stream socket whose bytes come with file descriptors: one sendmsg for each message, with its fds on the first byte, and
 * reads that never take more than `wanted`. It holds a slot of the reactor, and so the process, while it is open and not paused.
 */
export class MessageSocket {
  readonly #fd: number;
  readonly #parts: SocketParts;
  readonly #user: SocketUser;
  readonly #slot: ReadySlot;
  readonly #buffer = new Uint8Array(readBytes);
  readonly #received: ReceivedFds = { fds: [], cut: false };
  readonly #queue: Queued[] = [];
  #queued = 0;
  #paused = false;
  /** Nothing is read or sent any more. */
  #over = false;
  #closed = false;

  /** The fd is the socket's from here on, also where this throws. */
  constructor(fd: number, parts: SocketParts, user: SocketUser) {
    this.#fd = fd;
    this.#parts = parts;
    this.#user = user;
    try {
      this.#slot = parts.reactor.addReady(fd);
    } catch (error) {
      parts.calls.binding.close(fd);
      throw error;
    }
    this.#arm();
  }

  /**
   * Sends a message, now or as soon as there is room; the fds stay the caller's. Throws VFIO_E_NO_DEVICE where the connection is over,
   * VFIO_E_LIMIT where the other side takes nothing.
   */
  send(bytes: Uint8Array, fds: readonly number[] = []): void {
    if (this.#over) throw new VfioError('VFIO_E_NO_DEVICE', 'the connection is over', this.#origin('sendmsg'));
    if (this.#queue.length > 0) {
      this.#enqueue(bytes, fds);
      return;
    }
    const sent = this.#write(bytes, fds);
    if (sent === bytes.length) return;
    this.#enqueue(bytes.subarray(sent), sent > 0 ? [] : fds);
    this.#arm();
  }

  /** Nothing is read until `resume`: the other side is held up. */
  pause(): void {
    this.#paused = true;
    if (!this.#over) this.#arm();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (!this.#over) this.#arm();
  }

  /** What was sent is the last: the other side reads the end. It is read on, for its last words and its own end. */
  end(): void {
    if (!this.#over) this.#parts.calls.binding.shutdownOutput(this.#fd);
  }

  /** At once; what waits to be sent is not. Twice is fine. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stop();
    this.#parts.calls.binding.close(this.#fd);
  }

  readonly #ready = (): void => {
    try {
      this.#flush();
      if (!this.#paused) this.#read();
      if (!this.#over) this.#arm();
    } catch (error) {
      this.#lose(error);
    }
  };

  #read(): void {
    for (let reads = 0; reads < readsPerTurn && !this.#over && !this.#paused; reads += 1) {
      const bytes = this.#buffer.subarray(0, Math.min(this.#user.wanted(), readBytes));
      const count = this.#parts.calls.binding.receiveMessage(this.#fd, bytes, this.#received);
      if (count === -EAGAIN || count === -EINTR) return;
      if (count < 0) throw errnoError(errnoName(count), 'recvmsg', this.#parts.name);
      if (count === 0) {
        this.#lose(undefined);
        return;
      }
      const { fds, cut } = this.#received;
      if (cut) {
        this.#closeAll(fds);
        throw new VfioError('VFIO_E_PROTOCOL', 'more file descriptors came with one message than any may carry, or than this process has room for', this.#origin('recvmsg'));
      }
      this.#user.received(bytes.subarray(0, count), fds);
    }
  }

  #flush(): void {
    for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
      const sent = this.#write(next.bytes, next.fds);
      if (sent > 0) {
        this.#closeAll(next.fds);
        next.fds = [];
      }
      this.#queued -= sent;
      next.bytes = next.bytes.subarray(sent);
      if (next.bytes.length > 0) return;
      this.#queue.shift();
    }
  }

  #write(bytes: Uint8Array, fds: readonly number[]): number {
    const sent = this.#parts.calls.binding.sendMessage(this.#fd, bytes, fds);
    if (sent === -EAGAIN || sent === -EINTR) return 0;
    if (sent >= 0) return sent;
    throw new VfioError('VFIO_E_NO_DEVICE', 'the connection is over', { ...this.#origin('sendmsg'), errno: errnoName(sent) });
  }

  #enqueue(bytes: Uint8Array, fds: readonly number[]): void {
    if (this.#queued + bytes.length > mostQueued) throw new VfioError('VFIO_E_LIMIT', `${this.#queued} bytes wait to be sent already: the other side takes nothing`, this.#origin('sendmsg'));
    this.#queue.push({ bytes, fds: fds.map((fd) => this.#parts.calls.dup(fd)) });
    this.#queued += bytes.length;
  }

  #arm(): void {
    const output = this.#queue.length > 0;
    if (!this.#paused) this.#slot.arm(this.#ready, output ? 'both' : 'input');
    else if (output) this.#slot.arm(this.#ready, 'output');
    else this.#slot.disarm();
  }

  #lose(error: unknown): void {
    if (this.#over) return;
    this.#stop();
    this.#user.lost(error);
  }

  #stop(): void {
    if (this.#over) return;
    this.#over = true;
    this.#slot.close();
    for (const { fds } of this.#queue.splice(0)) this.#closeAll(fds);
  }

  #closeAll(fds: readonly number[]): void {
    for (const fd of fds) this.#parts.calls.binding.close(fd);
  }

  #origin(operation: string): { readonly operation: string; readonly device: string } {
    return { operation, device: this.#parts.name };
  }
}
