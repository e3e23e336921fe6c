import { createConnection, Socket, type NetConnectOpts, type SocketConstructorOpts } from 'node:net';

const inboxBytes = 1 << 18;

/**
 * What a socket has read and nobody has taken: one buffer, used again and again. A Node socket by itself makes a buffer of 64 KiB for each
 * read, and what it spends on making them and on collecting them is more than the reading costs.
 */
export class Inbox {
  readonly #buffer = Buffer.allocUnsafeSlow(inboxBytes);
  #came = 0;
  #stopped = false;
  /** Told when something has come; true where it was taken, and more is wanted. */
  arrived: () => boolean = () => false;

  /** For the socket, which stops to read where it hears false. */
  readonly onread = {
    buffer: this.#buffer,
    callback: (bytes: number): boolean => {
      this.#came = bytes;
      this.#stopped = !this.arrived();
      return !this.#stopped;
    },
  };

  /** What has come; good until the next one is asked for. Where nothing has, the socket reads on. */
  take(socket: Socket): Uint8Array | undefined {
    const bytes = this.#came === 0 ? undefined : this.#buffer.subarray(0, this.#came);
    this.#came = 0;
    if (bytes === undefined && this.#stopped) {
      this.#stopped = false;
      socket.resume();
    }
    return bytes;
  }
}

/** A socket, and where it puts what it reads; without an inbox it keeps that itself. */
export interface Received {
  readonly socket: Socket;
  readonly inbox?: Inbox;
}

export function connectWithInbox(to: NetConnectOpts): Received {
  const inbox = new Inbox();
  return { socket: createConnection({ ...to, onread: inbox.onread }), inbox };
}

/**
 * The connection of a socket that a server has accepted, read into an inbox. A server has no public option for it, so that this takes the
 * handle from the socket; in a Node that keeps it elsewhere the socket stays as it is.
 */
export function withInbox(accepted: Socket): Received {
  const holder = accepted as unknown as { _handle?: object | null };
  const handle = holder._handle;
  if (handle === undefined || handle === null) return { socket: accepted };
  const inbox = new Inbox();
  holder._handle = null;
  return { socket: new Socket({ handle, onread: inbox.onread } as SocketConstructorOpts), inbox };
}
