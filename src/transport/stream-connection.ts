import type { Clock } from '../clock.js';
import { directCall, type Asker } from '../devices/call.js';
import { EAGAIN, EINTR, errnoName, type Binding } from '../devices/linux/binding.js';
import type { Reactor, ReadySlot } from '../devices/linux/reactor.js';
import type { Call } from '../devices/port.js';
import type { VfioError } from '../errors.js';
import { linkError, type Connection } from './transport.js';

/** How long a closed connection waits for the other side to end, ms. */
const lingerMs = 2000;
/** What is read at once where the reader brings no memory of its own, bytes: some small frames, and little of a large one, which is copied. */
const ownBytes = 1 << 13;
/** The loop has its turn this often, however fast the bytes come. */
const turnNs = 250_000n;
/** The longest wait for the rest of what has begun to come or to go, ns. */
const waitNs = 60_000;

interface Reading {
  readonly into: Uint8Array;
  readonly address: number;
  /** It is answered when it is full; any other when something came. */
  readonly whole: boolean;
  readonly came: ((bytes: number) => void) | undefined;
  readonly asker: Asker<Uint8Array | undefined>;
  filled: number;
  /** How much of it was told of. */
  told: number;
}

interface Writing {
  readonly parts: readonly Uint8Array[];
  readonly bytes: number;
  readonly asker: Asker<void>;
  sent: number;
}

/** What a connection is made of. */
export interface StreamParts {
  readonly binding: Binding;
  readonly reactor: Reactor;
  readonly clock: Clock;
  readonly name: string;
}

/**
 * A socket of its own: bytes go between it and the memory of whoever reads and writes, without a buffer in between.
 *
 * A large message goes through a socket in many pieces, and a turn of the loop for each costs more than the piece. So where one has begun, the
 * next piece is waited for in the kernel for some microseconds (as the reactor does for signals), until the loop has its turn; an irq ends the wait.
 */
export class StreamConnection implements Connection {
  readonly name: string;
  private readonly fd: number;
  private readonly binding: Binding;
  private readonly reactor: Reactor;
  private readonly clock: Clock;
  private readonly slot: ReadySlot;
  private own: Uint8Array | undefined;
  private reading: Reading | undefined;
  private writing: Writing | undefined;
  /** What came for a read that was given up. */
  private rest: Uint8Array | undefined;
  private ended = false;
  private closing = false;
  private gone = false;
  private inTurn = false;
  /** Undefined: as soon as that is asked. */
  private turnBeganNs: bigint | undefined;

  /** The fd is the connection's from here on, also where this throws. */
  constructor(fd: number, { binding, reactor, clock, name }: StreamParts) {
    this.name = name;
    this.fd = fd;
    this.binding = binding;
    this.reactor = reactor;
    this.clock = clock;
    try {
      this.slot = reactor.addReady(fd);
    } catch (error) {
      binding.close(fd);
      throw error;
    }
  }

  read(into?: Uint8Array, came?: (bytes: number) => void): Call<Uint8Array | undefined> {
    return directCall<Uint8Array | undefined>((asker) => {
      const rest = this.rest;
      if (rest !== undefined || this.ended) {
        this.rest = undefined;
        asker.answered(rest);
        return undefined;
      }
      if (this.gone) {
        asker.failed(this.lost());
        return undefined;
      }
      const memory = into ?? (this.own ??= Buffer.allocUnsafeSlow(ownBytes));
      const reading: Reading = { into: memory, address: this.binding.addressOf(memory), whole: into !== undefined, came, asker, filled: 0, told: 0 };
      this.reading = reading;
      this.arm();
      return () => {
        if (this.reading !== reading) return;
        this.reading = undefined;
        if (reading.filled > 0) this.rest = memory.subarray(0, reading.filled);
        this.arm();
      };
    });
  }

  write(parts: readonly Uint8Array[]): Call<void> {
    return directCall((asker: Asker<void>) => {
      if (this.closing || this.gone) {
        asker.failed(this.lost());
        return undefined;
      }
      this.writing = { parts, bytes: bytesOf(parts), asker, sent: 0 };
      if (!this.inTurn) this.turnBeganNs = undefined;
      if (!this.send()) this.arm();
      return undefined;
    });
  }

  /**
   * The other side ends as well when it has read all, and then the socket is closed; one that does not is not waited for long. To close it
   * at once would lose what was written where bytes came that nobody read: TCP resets then.
   */
  close(): void {
    if (this.closing) return;
    this.closing = true;
    this.rest = undefined;
    if (this.gone) return;
    const late = this.clock.scheduler.schedule(() => this.release(), lingerMs);
    this.endLate = () => late.unsubscribe();
    if (this.writing === undefined) this.binding.shutdownOutput(this.fd);
    this.settle();
  }

  private endLate = (): void => undefined;

  private readonly ready = (): void => {
    this.turnBeganNs = process.hrtime.bigint();
    this.inTurn = true;
    try {
      this.send();
      this.receive();
    } finally {
      this.inTurn = false;
    }
    this.settle();
  };

  // ── in ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Serves the read that waits, and those that follow from it, while there is something and the turn is not over. */
  private receive(): void {
    if (this.closing) this.drain();
    for (let reading = this.reading; reading !== undefined && !this.closing && this.fill(reading); reading = this.reading) {
      if (this.turnIsOver()) return;
    }
  }

  /** True where it was answered. */
  private fill(reading: Reading): boolean {
    for (;;) {
      const count = this.binding.receive(this.fd, reading.address + reading.filled, reading.into.length - reading.filled);
      if (count === -EINTR) continue;
      if (count === -EAGAIN) {
        if (reading.came !== undefined && reading.filled > reading.told) {
          reading.told = reading.filled;
          reading.came(reading.told);
          continue;
        }
        if (reading.filled > 0 && this.wait(false)) continue;
        return false;
      }
      if (count > 0) {
        reading.filled += count;
        if (reading.whole && reading.filled < reading.into.length) continue;
      } else if (count === 0) {
        this.ended = true;
      } else {
        this.failRead(reading, errnoName(count));
        return true;
      }
      this.reading = undefined;
      reading.asker.answered(reading.filled === 0 ? undefined : cameInto(reading));
      return true;
    }
  }

  /** What the other side still sends is not wanted, nor heard by a read that waits; a socket that nobody reads would never see its end. */
  private drain(): void {
    const own = (this.own ??= Buffer.allocUnsafeSlow(ownBytes));
    const count = this.binding.receive(this.fd, this.binding.addressOf(own), own.length);
    if (count > 0 || count === -EAGAIN || count === -EINTR) return;
    this.ended = true;
    const reading = this.reading;
    this.reading = undefined;
    reading?.asker.answered(undefined);
  }

  private failRead(reading: Reading, errno: string): void {
    this.reading = undefined;
    this.release();
    reading.asker.failed(this.lost(errno));
  }

  // ── out ────────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** True where nothing is left to be sent, or nothing can be. */
  private send(): boolean {
    const { writing } = this;
    if (writing === undefined) return true;
    while (writing.sent < writing.bytes) {
      const count = this.binding.send(this.fd, writing.parts, writing.sent);
      if (count === -EINTR) continue;
      if (count === -EAGAIN) {
        if (this.wait(true)) continue;
        return false;
      }
      if (count < 0) {
        // What the other side said before it went can still be read.
        this.writing = undefined;
        writing.asker.failed(this.lost(errnoName(count)));
        return true;
      }
      writing.sent += count;
    }
    this.writing = undefined;
    if (this.closing) this.binding.shutdownOutput(this.fd);
    writing.asker.answered();
    return true;
  }

  // ── both ───────────────────────────────────────────────────────────────────────────────────────────────────────────

  private turnIsOver(): boolean {
    const nowNs = process.hrtime.bigint();
    this.turnBeganNs ??= nowNs;
    return nowNs - this.turnBeganNs >= turnNs;
  }

  private wait(output: boolean): boolean {
    return !this.turnIsOver() && this.binding.waitReady(this.fd, output, this.reactor.epollFd ?? -1, waitNs) > 0;
  }

  /** Within a turn only what is left at its end counts. */
  private settle(): void {
    if (this.closing && this.ended && this.writing === undefined) this.release();
    else this.arm();
  }

  private arm(): void {
    if (this.gone || this.inTurn) return;
    const input = this.reading !== undefined || (this.closing && !this.ended);
    const output = this.writing !== undefined;
    if (input) this.slot.arm(this.ready, output ? 'both' : 'input');
    else if (output) this.slot.arm(this.ready, 'output');
    else if (this.slot.armed) this.slot.disarm();
  }

  private release(): void {
    if (this.gone) return;
    this.gone = true;
    this.endLate();
    this.slot.close();
    this.binding.close(this.fd);
    const [reading, writing] = [this.reading, this.writing];
    this.reading = undefined;
    this.writing = undefined;
    reading?.asker.failed(this.lost());
    writing?.asker.failed(this.lost());
  }

  private lost(errno?: string): VfioError {
    return linkError(this.name, `the connection is gone${errno === undefined ? '' : `: ${errno}`}`);
  }
}

function bytesOf(parts: readonly Uint8Array[]): number {
  let bytes = 0;
  // By number: for each message this is done twice, and an iterator costs as much as the rest.
  for (let n = 0; n < parts.length; n += 1) bytes += parts[n]?.length ?? 0;
  return bytes;
}

function cameInto({ into, filled }: Reading): Uint8Array {
  return filled === into.length ? into : into.subarray(0, filled);
}
