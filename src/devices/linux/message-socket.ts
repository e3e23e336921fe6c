import { errnoError, VfioError } from '../../errors.js';
import { EAGAIN, EINTR, errnoName, type ReceivedFds } from './binding.js';
import { Impatience } from './impatience.js';
import type { Reactor, ReadySlot } from './reactor.js';
import type { Syscalls } from './syscalls.js';

/** Whoever is at this end of a socket. Nothing here may throw, except `received`: that ends the connection with what it threw. */
export interface SocketUser {
  /** How many bytes the next read may bring at most; asked before each. */
  wanted(): number;
  /** Where these go, in the place of memory of the socket's. */
  memory?(): Uint8Array | undefined;
  /** Where bytes are coming: whether the next ones, if there are none yet, are worth a short wait. */
  due?(): boolean;
  /** False where no fds are taken with them: the kernel closes what comes. */
  takesFds?(): boolean;
  /** The bytes, where they are the socket's, are only good until this returns; the fds are its own, and came with the first of them. */
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
  /** By which a turn of the loop is measured, if not by hrtime. */
  readonly nowNs?: () => bigint;
}

/** What is read at once into the socket's own memory, bytes. */
export const readBytes = 64 * 1024;
/** Reads before the event loop has its turn. */
const readsPerTurn = 256;
/** For so long the bytes of a large message may take all of a turn, ns: a megabyte takes less than half of it, and a turn of the loop in its middle lets the sender fall asleep. One wait for them. */
const messageTurnNs = 1_000_000n;
const waitNs = 60_000;

/** Messages that are gathered, bytes; and the largest of them. */
const outboxBytes = 64 * 1024;
export const mostGathered = 4096;

/** What waits to be sent, bytes: whoever takes nothing out at the other side holds up no more than this. */
const mostQueued = 8 * 1024 * 1024;
/** fds that wait with them: they are this process's until then. */
const mostQueuedFds = 256;

const none: number[] = [];
const ends: ReadonlySet<string> = new Set(['EPIPE', 'ECONNRESET', 'ENOTCONN']);

interface Queued {
  bytes: Uint8Array;
  /** Duplicates, closed when they are sent. */
  fds: readonly number[];
}

/**
 * A stream socket whose bytes come with file descriptors, which go on the first byte of their message; reads never take more than `wanted`.
 * It holds a slot of the reactor, and so the process, while it is open and not paused.
 *
 * A message goes at once, but while `received` runs: what is sent there without fds is gathered, and goes with one call when it returns.
 */
export class MessageSocket {
  readonly #fd: number;
  readonly #parts: SocketParts;
  readonly #user: SocketUser;
  readonly #slot: ReadySlot;
  readonly #nowNs: () => bigint;
  readonly #buffer = new Uint8Array(readBytes);
  readonly #bufferAddress: number;
  /** Messages are written here; while nothing is gathered it is empty. */
  readonly #outbox = new Uint8Array(outboxBytes);
  readonly #outboxAddress: number;
  readonly outbox = new DataView(this.#outbox.buffer);
  readonly #impatience = new Impatience();
  readonly #received: ReceivedFds = { fds: [], cut: false };
  readonly #queue: Queued[] = [];
  #queued = 0;
  #queuedFds = 0;
  #gathered = 0;
  #gathering = false;
  /** Of a send that nobody else is told of: of what was gathered, or waited. It ends the connection when all that had come is read. */
  #failed: VfioError | undefined;
  #paused = false;
  /** Nothing is read or sent any more. */
  #over = false;
  #closed = false;

  /** The fd is the socket's from here on, also where this throws. */
  constructor(fd: number, parts: SocketParts, user: SocketUser) {
    this.#fd = fd;
    this.#parts = parts;
    this.#user = user;
    this.#nowNs = parts.nowNs ?? (() => process.hrtime.bigint());
    this.#bufferAddress = parts.calls.binding.addressOf(this.#buffer);
    this.#outboxAddress = parts.calls.binding.addressOf(this.#outbox);
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
    if (fds.length === 0 && bytes.length <= mostGathered) {
      this.#outbox.set(bytes, this.begin(bytes.length));
      this.commit(bytes.length);
      return;
    }
    this.#requireOpen();
    this.#sendGathered();
    if (this.#queue.length > 0) {
      this.#enqueue(bytes, fds);
      return;
    }
    const sent = this.#write(bytes, fds);
    if (sent === bytes.length) return;
    this.#enqueue(bytes.subarray(sent), sent > 0 ? [] : fds);
    this.#arm();
  }

  /** A message without fds, of `mostGathered` bytes at most, that is written in place: into `outbox`, from the offset that this returns; `commit` sends it. Throws as `send`. */
  begin(size: number): number {
    this.#requireOpen();
    if (this.#queued + this.#gathered + size > mostQueued) throw this.#full();
    if (this.#gathered + size > outboxBytes) this.#sendGathered();
    return this.#gathered;
  }

  commit(size: number): void {
    this.#gathered += size;
    if (!this.#gathering) this.#sendGathered();
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
    if (this.#over) return;
    this.#sendGathered();
    this.#parts.calls.binding.shutdownOutput(this.#fd);
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
    const beganNs = this.#nowNs();
    for (let reads = 0; reads < readsPerTurn && !this.#over && !this.#paused; ) {
      const memory = this.#user.memory?.();
      const most = memory?.length ?? Math.min(this.#user.wanted(), readBytes);
      const count = this.#receive(memory, most);
      if (count === -EINTR) return;
      if (count === -EAGAIN) {
        if (this.#failed !== undefined) throw this.#failed;
        if (reads > 0 && this.#waits(beganNs)) continue;
        return;
      }
      reads += 1;
      this.#impatience.came();
      if (count < 0) throw errnoError(errnoName(count), 'recvmsg', this.#parts.name);
      if (count === 0) {
        this.#lose(this.#failed);
        return;
      }
      const { fds, cut } = this.#received;
      if (cut) {
        this.#closeAll(fds);
        throw new VfioError('VFIO_E_PROTOCOL', 'more file descriptors came with one message than any may carry, or than this process has room for', this.#origin('recvmsg'));
      }
      this.#gathering = true;
      this.#user.received((memory ?? this.#buffer).subarray(0, count), fds);
      this.#gathering = false;
      try {
        this.#sendGathered();
      } catch (error) {
        this.#failed ??= error as VfioError;
      }
      // What the other side had said before it went is still read.
      if (this.#failed !== undefined) continue;
      // Where less came than there is room for there is no more, or the turn is over: the reactor tells of more.
      if (count < most && (memory === undefined ? most === readBytes : this.#isOver(beganNs))) return;
    }
  }

  #receive(memory: Uint8Array | undefined, most: number): number {
    const { binding } = this.#parts.calls;
    if (this.#user.takesFds?.() !== false) return binding.receiveMessage(this.#fd, (memory ?? this.#buffer).subarray(0, most), this.#received);
    this.#received.fds = none;
    this.#received.cut = false;
    return binding.receive(this.#fd, memory === undefined ? this.#bufferAddress : binding.addressOf(memory), most);
  }

  /** True where bytes may be there now; an irq ends the wait. */
  #waits(beganNs: bigint): boolean {
    if (this.#user.due?.() !== true || this.#over || this.#paused || this.#isOver(beganNs)) return false;
    return this.#impatience.asksAgain() || this.#parts.calls.binding.waitReady(this.#fd, false, this.#parts.reactor.epollFd ?? -1, waitNs) > 0;
  }

  #isOver(beganNs: bigint): boolean {
    return this.#nowNs() - beganNs >= messageTurnNs;
  }

  #flush(): void {
    try {
      this.#sendQueued();
    } catch (error) {
      // As for what was gathered: what has come is read first, unless the other side is held up; then nothing of it is waited for.
      if (this.#paused) throw error;
      this.#failed ??= error as VfioError;
    }
  }

  #sendQueued(): void {
    for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
      const sent = this.#write(next.bytes, next.fds);
      if (sent > 0) {
        this.#closeAll(next.fds);
        this.#queuedFds -= next.fds.length;
        next.fds = [];
      }
      this.#queued -= sent;
      next.bytes = next.bytes.subarray(sent);
      if (next.bytes.length > 0) return;
      this.#queue.shift();
    }
  }

  /** One call for all that was gathered. */
  #sendGathered(): void {
    const size = this.#gathered;
    if (size === 0) return;
    this.#gathered = 0;
    const sent = this.#queue.length > 0 ? 0 : this.#sent(this.#parts.calls.binding.transmit(this.#fd, this.#outboxAddress, size), true);
    if (sent === size) return;
    this.#enqueue(this.#outbox.slice(sent, size), []);
    this.#arm();
  }

  #write(bytes: Uint8Array, fds: readonly number[]): number {
    return this.#sent(this.#parts.calls.binding.sendMessage(this.#fd, bytes, fds), false);
  }

  /** `others`: messages of others go with it. */
  #sent(sent: number, others: boolean): number {
    if (sent === -EAGAIN || sent === -EINTR) return 0;
    if (sent >= 0) return sent;
    const errno = errnoName(sent);
    // Of others only this message is not sent: too many fds are on their way (ETOOMANYREFS), no memory.
    const error = ends.has(errno) ? new VfioError('VFIO_E_NO_DEVICE', 'the connection is over', { ...this.#origin('sendmsg'), errno }) : errnoError(errno, 'sendmsg', this.#parts.name);
    if (this.#gathering && (others || ends.has(errno))) this.#failed = error;
    throw error;
  }

  #enqueue(bytes: Uint8Array, fds: readonly number[]): void {
    if (this.#queued + bytes.length > mostQueued || this.#queuedFds + fds.length > mostQueuedFds) throw this.#full();
    const last = this.#queue.at(-1);
    // Small ones are joined: whoever reads nothing would make hundreds of thousands wait.
    if (last !== undefined && last.fds.length === 0 && fds.length === 0 && last.bytes.length + bytes.length <= mostGathered) last.bytes = joined(last.bytes, bytes);
    else this.#queue.push({ bytes, fds: this.#duplicates(fds) });
    this.#queued += bytes.length;
    this.#queuedFds += fds.length;
  }

  #duplicates(fds: readonly number[]): readonly number[] {
    const made: number[] = [];
    try {
      for (const fd of fds) made.push(this.#parts.calls.dup(fd));
    } catch (error) {
      this.#closeAll(made);
      throw error;
    }
    return made;
  }

  #requireOpen(): void {
    if (this.#over) throw new VfioError('VFIO_E_NO_DEVICE', 'the connection is over', this.#origin('sendmsg'));
  }

  #full(): VfioError {
    return new VfioError('VFIO_E_LIMIT', `${this.#queued} bytes and ${this.#queuedFds} file descriptors wait to be sent already: the other side takes nothing`, this.#origin('sendmsg'));
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
    try {
      this.#sendGathered();
    } catch {
      // The other side has gone.
    }
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

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
