import { errnoError, VfioError } from '../../errors.js';
import { directCall, type Asker } from '../call.js';
import { errnoName } from '../linux/binding.js';
import { MessageSocket, readBytes } from '../linux/message-socket.js';
import type { Reactor } from '../linux/reactor.js';
import type { Syscalls } from '../linux/syscalls.js';
import type { Call } from '../port.js';
import { protocolError } from '../uapi/bytes.js';
import { MessageDecoder, type Sink } from './messages/decoder.js';
import { commandName, commands, encodeMessage, headerLayout, writeCommand, type CommandName, type Header, type Message } from './messages/header.js';
import { mostIrqCalls, mostOutstanding, Outstanding } from './outstanding.js';

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
  /** What went into the memory that was given for it; the payload is then what stands before it. */
  readonly data?: Uint8Array | undefined;
}

/** A command whose payload is written in place, and whose reply is read where it stands. Nothing of it may throw. */
export interface Exchange {
  readonly command: CommandName;
  /** What an error calls it. */
  readonly operation: string;
  readonly payloadBytes: number;
  encode(view: DataView, at: number): void;
  /** The message is only good until this returns. */
  replied(message: Message): void;
  failed(error: unknown): void;
}

/** Answers a command, once (one that wants no answer gets none); a number is an errno. The fds stay the caller's. */
export type Answer = (reply: Uint8Array | number, fds?: readonly number[]) => void;

/** Who serves what the other side asks. */
export interface CommandServer {
  /** False where no command comes with fds: only a reply to GET_REGION_INFO has any then, and while none is waited for, messages are read many at a time. */
  readonly takesFds?: boolean;
  /** The fds are the server's: it closes them. What it throws ends the connection. */
  command(name: CommandName | undefined, payload: Uint8Array, fds: readonly number[], answer: Answer): void;
  /** The connection is over, and every outstanding call has failed. `close()` is still to be called: the other side waits for that. */
  lost(error: VfioError | undefined): void;
}

/** What waits for a reply: a request whose reply is kept, or an exchange. */
interface Waiting {
  readonly command: CommandName;
  readonly operation: string;
  /** Its reply is read by itself: header, then payload. */
  readonly alone?: boolean;
  readonly sink?: Sink | undefined;
  replied(message: Message): void;
  failed(error: unknown): void;
}

/** A reply to this brings fds. */
const bringsFds: CommandName = 'DEVICE_GET_REGION_INFO';

/** One side of a vfio-user connection: its own commands and their replies, and the other side's commands. */
export class UserConnection {
  readonly #parts: ConnectionParts;
  readonly #server: CommandServer;
  readonly #socket: MessageSocket;
  readonly #decoder = new MessageDecoder((fds) => this.closeFds(fds), (header) => this.#sinkOf(header));
  readonly #outstanding = new Outstanding<Waiting>();
  readonly #deliverOne = (message: Message): void => this.#deliver(message);
  /** How many of these wait for fds, and for a reply that is read by itself. */
  #fdsDue = 0;
  #alone = 0;
  #over: VfioError | undefined;
  #ending = false;
  #held = false;

  /** The fd is the connection's from here on. */
  constructor(fd: number, parts: ConnectionParts, server: CommandServer) {
    this.#parts = parts;
    this.#server = server;
    this.#socket = new MessageSocket(fd, parts, {
      wanted: () => (this.#takesFds || this.#alone > 0 ? this.#decoder.wanted : readBytes),
      memory: () => this.#decoder.memory(),
      due: () => this.#alone > 0 || this.#decoder.large,
      takesFds: () => this.#takesFds,
      received: (bytes, fds) => this.#decoder.push(bytes, fds, this.#deliverOne),
      lost: (error) => this.#lost(error),
    });
  }

  /** Sends a command; runs to its reply whoever listens. `operation`: what an error calls it. `sink`: where the end of the reply may go. */
  request(command: CommandName, operation: string, payload?: Uint8Array, fds?: readonly number[], sink?: Sink): Call<Reply> {
    return directCall<Reply>((asker) => {
      const request = new Request(command, operation, asker, sink, (late) => this.closeFds(late));
      try {
        const id = this.#id(command, operation);
        this.#socket.send(encodeMessage({ id, command: commands[command], kind: 'command' }, payload), fds);
        this.#wait(id, request);
      } catch (error) {
        asker.failed(error);
        return undefined;
      }
      return () => request.leave();
    });
  }

  /** The same with as little as can be: for what is asked often. What it throws was not sent. */
  exchange(exchange: Exchange): void {
    const { command, payloadBytes } = exchange;
    const id = this.#id(command, exchange.operation);
    const at = this.#socket.begin(headerLayout.sizeof + payloadBytes);
    writeCommand(this.#socket.outbox, at, id, commands[command], payloadBytes);
    exchange.encode(this.#socket.outbox, at + headerLayout.sizeof);
    this.#socket.commit(headerLayout.sizeof + payloadBytes);
    this.#wait(id, exchange);
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

  get #takesFds(): boolean {
    return this.#server.takesFds !== false || this.#fdsDue > 0;
  }

  #id(command: CommandName, operation: string): number {
    if (this.#over !== undefined) throw this.#over;
    if (this.#outstanding.size >= mostOutstanding + (command === 'DEVICE_SET_IRQS' ? mostIrqCalls : 0)) {
      throw new VfioError('VFIO_E_LIMIT', `${mostOutstanding} calls wait for a reply already`, { operation, device: this.#parts.name });
    }
    return this.#outstanding.nextId();
  }

  #wait(id: number, waiting: Waiting): void {
    this.#outstanding.add(id, waiting);
    if (waiting.command === bringsFds) this.#fdsDue += 1;
    if (waiting.alone === true) this.#alone += 1;
    if (this.#held) this.#hold();
  }

  #sinkOf({ id, command, reply, errno }: Header): Sink | undefined {
    if (!reply || errno !== undefined) return undefined;
    const waiting = this.#outstanding.get(id);
    return waiting !== undefined && commands[waiting.command] === command ? waiting.sink : undefined;
  }

  #hold(): void {
    if (this.#held && this.#outstanding.size === 0) this.#socket.pause();
    else this.#socket.resume();
  }

  #deliver(message: Message): void {
    const { header } = message;
    if (header.reply) {
      this.#reply(message, header);
      return;
    }
    let answered = header.noReply;
    this.#server.command(commandName(header.command), message.kept(), message.fds, (reply, replyFds) => {
      if (answered || this.#over !== undefined) return;
      answered = true;
      const envelope = { id: header.id, command: header.command, kind: 'reply' } as const;
      this.#socket.send(typeof reply === 'number' ? encodeMessage({ ...envelope, errno: reply }) : encodeMessage(envelope, reply), replyFds);
    });
  }

  #reply(message: Message, header: Header): void {
    const waiting = this.#outstanding.get(header.id);
    if (waiting === undefined || commands[waiting.command] !== header.command) {
      this.closeFds(message.fds);
      throw protocolError({ operation: 'vfio-user', device: this.#parts.name }, 0, `a reply with id ${header.id} to command ${header.command}, which was not asked`);
    }
    this.#outstanding.delete(header.id);
    if (waiting.command === bringsFds) this.#fdsDue -= 1;
    if (waiting.alone === true) this.#alone -= 1;
    if (this.#held) this.#hold();
    if (message.fds.length > 0 && (header.errno !== undefined || waiting.command !== bringsFds)) this.closeFds(message.fds);
    if (header.errno === undefined) waiting.replied(message);
    else waiting.failed(replyError(errnoName(header.errno), waiting.operation, this.#parts.name));
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
    for (const waiting of this.#outstanding.drain()) waiting.failed(reason);
  }
}

/** A command whose reply is kept. */
class Request implements Waiting {
  readonly command: CommandName;
  readonly operation: string;
  readonly alone: boolean;
  readonly sink: Sink | undefined;
  readonly #late: (fds: readonly number[]) => void;
  /** Until nobody waits for it any more. */
  #asker: Asker<Reply> | undefined;

  constructor(command: CommandName, operation: string, asker: Asker<Reply>, sink: Sink | undefined, late: (fds: readonly number[]) => void) {
    this.command = command;
    this.operation = operation;
    this.alone = sink !== undefined;
    this.sink = sink;
    this.#asker = asker;
    this.#late = late;
  }

  leave(): void {
    this.#asker = undefined;
  }

  replied(message: Message): void {
    const fds = this.command === bringsFds ? message.fds : [];
    if (this.#asker === undefined) this.#late(fds);
    else this.#asker.answered({ payload: message.kept(), fds, data: message.data });
  }

  failed(error: unknown): void {
    this.#asker?.failed(error);
  }
}

/** EPROTO is how a server says that its device broke the contract. */
function replyError(errno: string, operation: string, device: string): VfioError {
  if (errno !== 'EPROTO') return errnoError(errno, operation, device);
  return new VfioError('VFIO_E_PROTOCOL', 'by the word of its server, the device broke its contract', { operation, device, errno });
}
