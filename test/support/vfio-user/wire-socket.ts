import { MessageSocket } from '../../../src/devices/linux/message-socket.js';
import { sharedReactor } from '../../../src/devices/linux/reactor.js';
import { linuxSyscalls } from '../../../src/devices/linux/syscalls.js';

const headerBytes = 16;
const calls = linuxSyscalls();

/** One end of a vfio-user socket that takes messages as bytes: the size in the header is all that it reads of them. */
export class WireSocket {
  readonly #socket: MessageSocket;
  #bytes = new Uint8Array(headerBytes);
  #filled = 0;
  #fds: readonly number[] = [];

  /** The fd is its own, the fds that come with messages are `received`'s. */
  constructor(fd: number, user: { received(bytes: Uint8Array, fds: readonly number[]): void; ended(): void }) {
    this.#socket = new MessageSocket(fd, { calls, reactor: sharedReactor(), name: 'wire' }, {
      wanted: () => this.#bytes.length - this.#filled,
      received: (bytes, fds) => {
        if (fds.length > 0) this.#fds = fds.slice();
        this.#bytes.set(bytes, this.#filled);
        this.#filled += bytes.length;
        if (this.#filled < this.#bytes.length) return;
        const size = new DataView(this.#bytes.buffer).getUint32(4, true);
        if (this.#filled < size) {
          const longer = new Uint8Array(size);
          longer.set(this.#bytes);
          this.#bytes = longer;
          return;
        }
        const [message, its] = [this.#bytes, this.#fds];
        [this.#bytes, this.#filled, this.#fds] = [new Uint8Array(headerBytes), 0, []];
        user.received(message, its);
      },
      lost: () => {
        this.close();
        user.ended();
      },
    });
  }

  send(bytes: Uint8Array, fds: readonly number[] = []): void {
    this.#socket.send(bytes, fds);
  }

  /** The other side sees the end. */
  close(): void {
    this.#socket.close();
  }
}
