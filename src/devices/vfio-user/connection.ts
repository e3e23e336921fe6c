import { Observable, type Subscriber } from 'rxjs';
import { errnoError, VfioError } from '../../errors.js';
import { ownedCall } from '../call.js';
import { errnoName } from '../linux/binding.js';
import { MessageSocket } from '../linux/message-socket.js';
import type { Reactor } from '../linux/reactor.js';
import type { Syscalls } from '../linux/syscalls.js';
import type { Call } from '../port.js';
import { protocolError } from '../uapi/bytes.js';
import { MessageDecoder } from './messages/decoder.js';
import { commandName, commands, encodeMessage, type CommandName, type Message } from './messages/header.js';

/** What a connection is made of. */
export interface ConnectionParts {
  readonly calls: Syscalls;
  readonly reactor: Reactor;
  /** How messages name the other side. */
  readonly name: string;
}

/** A reply. Its fds are the receiver's; none but that to GET_REGION_INFO has any: others are closed. */
export interface Reply {
  readonly payload: Uint8Array;
  readonly fds: readonly number[];
}

/** Answers a command, once (one that wants no answer gets none); a number is an errno. The fds stay the caller's. */
export type Answer = (reply: Uint8Array | number, fds?: readonly number[]) => void;

/** Who serves what the other side asks. */
export interface CommandServer {
  /** The fds are the server's: it closes them. What it throws ends the connection. */
  command(name: CommandName | undefined, payload: Uint8Array, fds: readonly number[], answer: Answer): void;
  /** The connection is over, and every outstanding call has failed. `close()` is still to be called: the other side waits for that. */
  lost(error: VfioError | undefined): void;
}

/** Calls of this side that have no reply yet: beyond that VFIO_E_LIMIT. */
const mostOutstanding = 256;

interface Outstanding {
  readonly command: number;
  readonly operation: string;
  readonly subscriber: Subscriber<Reply>;
}

/** One side of a vfio-user connection: its own commands and their replies, and the other side's commands. */
export class UserConnection {
  readonly #parts: ConnectionParts;
  readonly #server: CommandServer;
  readonly #socket: MessageSocket;
  readonly #decoder = new MessageDecoder((fds) => this.closeFds(fds));
  readonly #outstanding = new Map<number, Outstanding>();
  #nextId = 0;
  #over: VfioError | undefined;
  #ending = false;
  #held = false;

  /** The fd is the connection's from here on. */
  constructor(fd: number, parts: ConnectionParts, server: CommandServer) {
    this.#parts = parts;
    this.#server = server;
    this.#socket = new MessageSocket(fd, parts, {
      wanted: () => this.#decoder.wanted,
      received: (bytes, fds) => this.#decoder.push(bytes, fds, (message) => this.#deliver(message)),
      lost: (error) => this.#lost(error),
    });
  }

  /** Sends a command; runs to its reply whoever listens. `operation`: what an error calls it. */
  request(command: CommandName, operation: string, payload?: Uint8Array, fds?: readonly number[]): Call<Reply> {
    return ownedCall(
      () =>
        new Observable<Reply>((subscriber) => {
          try {
            this.#send(commands[command], operation, payload, fds, subscriber);
          } catch (error) {
            subscriber.error(error);
          }
        }),
      ({ fds: late }) => this.closeFds(late),
    );
  }

  /** The other side is held up until `resume`, but not while this side waits for a reply: that stands behind whatever else was sent. */
  pause(): void {
    this.#held = true;
    this.#hold();
  }

  resume(): void {
    if (!this.#held) return;
    this.#held = false;
    this.#hold();
  }

  /** Says that nothing more comes; the other side then closes, which `lost` tells. */
  end(): void {
    this.#ending = true;
    this.#socket.end();
  }

  /** At once: what is outstanding fails with `reason`. */
  close(reason: VfioError): void {
    this.#socket.close();
    this.#finish(reason);
  }

  closeFds(fds: readonly number[]): void {
    for (const fd of fds) this.#parts.calls.binding.close(fd);
  }

  #send(command: number, operation: string, payload: Uint8Array | undefined, fds: readonly number[] | undefined, subscriber: Subscriber<Reply>): void {
    if (this.#over !== undefined) throw this.#over;
    if (this.#outstanding.size >= mostOutstanding) {
      throw new VfioError('VFIO_E_LIMIT', `${mostOutstanding} calls wait for a reply already`, { operation, device: this.#parts.name });
    }
    while (this.#outstanding.has(this.#nextId)) this.#nextId = (this.#nextId + 1) & 0xffff;
    const id = this.#nextId;
    this.#nextId = (id + 1) & 0xffff;
    this.#socket.send(encodeMessage({ id, command, kind: 'command' }, payload), fds);
    this.#outstanding.set(id, { command, operation, subscriber });
    if (this.#held) this.#hold();
  }

  #hold(): void {
    if (this.#held && this.#outstanding.size === 0) this.#socket.pause();
    else this.#socket.resume();
  }

  #deliver(message: Message): void {
    const { header, payload, fds } = message;
    if (header.reply) {
      this.#reply(message);
      return;
    }
    let answered = header.noReply;
    this.#server.command(commandName(header.command), payload, fds, (reply, replyFds) => {
      if (answered || this.#over !== undefined) return;
      answered = true;
      const envelope = { id: header.id, command: header.command, kind: 'reply' } as const;
      this.#socket.send(typeof reply === 'number' ? encodeMessage({ ...envelope, errno: reply }) : encodeMessage(envelope, reply), replyFds);
    });
  }

  #reply({ header, payload, fds }: Message): void {
    const waiting = this.#outstanding.get(header.id);
    if (waiting === undefined || waiting.command !== header.command) {
      this.closeFds(fds);
      throw protocolError({ operation: 'vfio-user', device: this.#parts.name }, 0, `a reply with id ${header.id} to command ${header.command}, which was not asked`);
    }
    this.#outstanding.delete(header.id);
    if (this.#held) this.#hold();
    const wanted = header.errno === undefined && header.command === commands.DEVICE_GET_REGION_INFO;
    if (!wanted) this.closeFds(fds);
    if (header.errno === undefined) {
      waiting.subscriber.next({ payload, fds: wanted ? fds : [] });
      waiting.subscriber.complete();
      return;
    }
    waiting.subscriber.error(replyError(errnoName(header.errno), waiting.operation, this.#parts.name));
  }

  #lost(error: unknown): void {
    const cause = error ?? (this.#decoder.inside ? protocolError({ operation: 'vfio-user' }, 0, 'the connection ended inside a message') : undefined);
    const origin = { operation: 'vfio-user', device: this.#parts.name, cause };
    const gone = this.#ending
      ? new VfioError('VFIO_E_CANCELED', 'the device was closed before this was answered', origin)
      : new VfioError('VFIO_E_NO_DEVICE', 'the connection to the server is lost: open the device again', origin);
    this.#finish(gone);
    this.#server.lost(cause === undefined ? undefined : gone);
  }

  #finish(reason: VfioError): void {
    if (this.#over !== undefined) return;
    this.#over = reason;
    this.#decoder.end();
    const waiting = [...this.#outstanding.values()];
    this.#outstanding.clear();
    for (const { subscriber } of waiting) subscriber.error(reason);
  }
}

/** EPROTO is how a server says that its device broke the contract. */
function replyError(errno: string, operation: string, device: string): VfioError {
  if (errno !== 'EPROTO') return errnoError(errno, operation, device);
  return new VfioError('VFIO_E_PROTOCOL', 'by the word of its server, the device broke its contract', { operation, device, errno });
}
