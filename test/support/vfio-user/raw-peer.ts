import { readdirSync, readFileSync } from 'node:fs';
import { MessageSocket } from '../../../src/devices/linux/message-socket.js';
import { sharedReactor } from '../../../src/devices/linux/reactor.js';
import { linuxSyscalls } from '../../../src/devices/linux/syscalls.js';
import { MessageDecoder } from '../../../src/devices/vfio-user/messages/decoder.js';
import { commands, encodeMessage, type CommandName, type Message } from '../../../src/devices/vfio-user/messages/header.js';
import { encodeVersion, ownVersion } from '../../../src/devices/vfio-user/messages/version.js';

const calls = linuxSyscalls();

/** How many file descriptors of this process are sockets, eventfds or files without a name. */
export function openFds(): number {
  return readdirSync('/proc/self/fd').length;
}

/** How many places of this process show a file without a name. */
export function openMaps(): number {
  return readFileSync('/proc/self/maps', 'latin1').split('\n').filter((line) => line.includes('/memfd:')).length;
}

/** One end of a vfio-user socket that says whatever a test wants. What it receives is kept, the fds open. */
export class RawPeer {
  readonly #socket: MessageSocket;
  readonly #messages: Message[] = [];
  readonly #decoder = new MessageDecoder((fds) => fds.forEach((fd) => calls.close(fd)));
  #told: () => void = () => undefined;
  #id = 0;
  ended = false;

  constructor(fd: number) {
    this.#socket = new MessageSocket(fd, { calls, reactor: sharedReactor(), name: 'raw peer' }, {
      wanted: () => this.#decoder.wanted,
      received: (bytes, fds) => this.#decoder.push(bytes, fds, (message) => {
        this.#messages.push(message);
        this.#told();
      }),
      lost: () => {
        this.ended = true;
        this.close();
        this.#told();
      },
    });
  }

  static connect(path: string): RawPeer {
    return new RawPeer(calls.connect(path));
  }

  /** A client that has agreed on the version. */
  static async agreed(path: string, version = encodeVersion(ownVersion)): Promise<RawPeer> {
    const peer = RawPeer.connect(path);
    await peer.ask('VERSION', version);
    return peer;
  }

  /** The next message. */
  next(): Promise<Message> {
    return new Promise((resolve, reject) => {
      this.#told = () => {
        const message = this.#messages.shift();
        // One message for each who waits: the next one rests.
        if (message !== undefined || this.ended) this.#told = () => undefined;
        if (message !== undefined) resolve(message);
        else if (this.ended) reject(new Error('the other side has ended the connection'));
      };
      this.#told();
    });
  }

  /** When the other side has ended the connection. */
  end(): Promise<void> {
    return new Promise((resolve) => {
      this.#told = () => {
        if (this.ended) resolve();
      };
      this.#told();
    });
  }

  command(name: CommandName | number, payload?: Uint8Array, options: { readonly fds?: readonly number[]; readonly noReply?: boolean } = {}): number {
    this.#id += 1;
    this.raw(encodeMessage({ id: this.#id, command: typeof name === 'number' ? name : commands[name], kind: options.noReply === true ? 'no-reply' : 'command' }, payload), options.fds);
    return this.#id;
  }

  ask(name: CommandName | number, payload?: Uint8Array, fds: readonly number[] = []): Promise<Message> {
    this.command(name, payload, { fds });
    return this.next();
  }

  reply({ header }: Message, payload?: Uint8Array, fds?: readonly number[]): void {
    this.raw(encodeMessage({ id: header.id, command: header.command, kind: 'reply' }, payload), fds);
  }

  refuse({ header }: Message, errno: number): void {
    this.raw(encodeMessage({ id: header.id, command: header.command, kind: 'reply', errno }));
  }

  raw(bytes: Uint8Array, fds: readonly number[] = []): void {
    this.#socket.send(bytes, fds);
  }

  close(): void {
    this.#socket.close();
    for (const { fds } of this.#messages) for (const fd of fds) calls.close(fd);
  }
}

/** A listener that hands out its clients as raw peers. */
export class RawServer {
  readonly #listener: number;

  constructor(readonly path: string) {
    this.#listener = calls.listen(path, 4);
  }

  accept(): RawPeer {
    const fd = calls.accept(this.#listener);
    if (fd === undefined) throw new Error('nobody has connected');
    return new RawPeer(fd);
  }

  close(): void {
    calls.close(this.#listener);
  }
}
