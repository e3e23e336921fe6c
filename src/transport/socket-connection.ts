import type { Socket } from 'node:net';
import { Observable } from 'rxjs';
import type { Clock } from '../clock.js';
import type { Call } from '../devices/port.js';
import type { VfioError } from '../errors.js';
import { tlsError } from './tls.js';
import { linkError, type Connection } from './transport.js';

/** How long a closed connection waits for the other side to end, ms. */
const lingerMs = 2000;

/** A socket that is never in flowing mode: it holds back the other side when nobody reads. */
export class SocketConnection implements Connection {
  readonly name: string;
  readonly #socket: Socket;
  readonly #clock: Clock;
  #failed: Error | undefined;
  #closed = false;

  /** Tells the read that waits. */
  readonly #arrived = (): void => this.#look?.();
  /** The read that waits. */
  #look: (() => void) | undefined;

  constructor(socket: Socket, name: string, clock: Clock) {
    this.name = name;
    this.#clock = clock;
    this.#socket = socket;
    socket.setNoDelay(true);
    // Said to whoever reads or writes next; without a listener it would end the process.
    socket.on('error', (error) => (this.#failed ??= error));
    socket.on('readable', this.#arrived).on('end', this.#arrived).on('close', this.#arrived);
  }

  read(): Call<Uint8Array | undefined> {
    return new Observable<Uint8Array | undefined>((subscriber) => {
      const socket = this.#socket;
      const look = (): void => {
        const bytes = (socket.read() as Uint8Array | null) ?? undefined;
        if (bytes === undefined && !socket.readableEnded && !socket.destroyed) return;
        this.#look = undefined;
        if (bytes === undefined && !socket.readableEnded) {
          subscriber.error(this.#gone());
          return;
        }
        subscriber.next(bytes);
        subscriber.complete();
      };
      this.#look = look;
      subscriber.add(() => {
        if (this.#look === look) this.#look = undefined;
      });
      look();
    });
  }

  write(parts: readonly Uint8Array[]): Call<void> {
    return new Observable<void>((subscriber) => {
      const socket = this.#socket;
      if (socket.destroyed || socket.writableEnded) {
        subscriber.error(this.#gone());
        return;
      }
      const written = (error?: Error | null): void => {
        if (error || socket.destroyed) {
          subscriber.error(this.#gone());
          return;
        }
        subscriber.next();
        subscriber.complete();
      };
      const last = parts.at(-1);
      socket.cork();
      for (const part of parts) socket.write(part, part === last ? written : undefined);
      socket.uncork();
    });
  }

  /**
   * The other side ends as well when it has read all, and then the socket is gone; one that does not is not waited for long. To destroy it
   * at once would lose what was written: over TLS it is still being encrypted, and where bytes came that nobody read, TCP resets.
   */
  close(): void {
    const socket = this.#socket;
    if (this.#closed || socket.destroyed) return;
    this.#closed = true;
    const late = this.#clock.scheduler.schedule(() => socket.destroy(), lingerMs);
    socket.once('close', () => late.unsubscribe());
    socket.end();
    // What the other side still sends is not wanted; a socket that nobody reads would never see its end.
    socket.off('readable', this.#arrived).resume();
  }

  #gone(): VfioError {
    return this.#failed === undefined ? linkError(this.name, 'the connection is gone') : tlsError(this.name, 'the connection is gone', this.#failed);
  }
}
