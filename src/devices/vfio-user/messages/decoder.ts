import { protocolError, type Origin } from '../../uapi/bytes.js';
import { headerLayout, maxMessageFds, readHeader, type Header, type Message } from './header.js';

const origin: Origin = { operation: 'vfio-user' };
const nothing = new Uint8Array(0);

/**
 * Makes messages of bytes, however they are cut. It keeps at most one header and one payload, of a size that was checked before.
 *
 * File descriptors belong to the message whose first byte they came with. Which byte of a read that was, nobody can tell; so whoever
 * reads asks for no more than `wanted` bytes, and then it is the first one. Every fd that is pushed ends in a message or in
 * `refuse`, which closes it.
 */
export class MessageDecoder {
  readonly #refuse: (fds: readonly number[]) => void;
  readonly #head = new Uint8Array(headerLayout.sizeof);
  #filled = 0;
  #header: Header | undefined;
  #payload: Uint8Array = nothing;
  #fds: readonly number[] = [];
  #broken: Error | undefined;

  constructor(refuse: (fds: readonly number[]) => void) {
    this.#refuse = refuse;
  }

  /** How many bytes are missing of the header, or of the payload. */
  get wanted(): number {
    return (this.#header === undefined ? headerLayout.sizeof : this.#payload.length) - this.#filled;
  }

  /** In the middle of a message: the end of the stream here is a loss. */
  get inside(): boolean {
    return this.#filled > 0 || this.#header !== undefined;
  }

  /**
   * Delivers each message that is complete, in order. `fds` came with the first of the bytes. Throws VFIO_E_PROTOCOL where the peer broke the
   * protocol, after the messages that were good, and on every call from then on.
   */
  push(bytes: Uint8Array, fds: readonly number[], deliver: (message: Message) => void): void {
    if (this.#broken !== undefined) {
      this.#refuse(fds);
      throw this.#broken;
    }
    let rest = bytes;
    try {
      this.#take(fds);
      while (rest.length > 0) {
        rest = this.#fill(rest);
        if (this.wanted > 0) continue;
        const message = this.#header === undefined ? this.#beginPayload() : this.#finish(this.#header);
        if (message !== undefined) deliver(message);
      }
    } catch (error) {
      this.#break(error as Error);
      throw error;
    }
  }

  /** Nothing comes any more: gives back the fds of what was half there. */
  end(): void {
    this.#break(protocolError(origin, 0, 'the connection is over'));
  }

  #take(fds: readonly number[]): void {
    if (fds.length === 0) return;
    const late = this.inside || this.#fds.length > 0;
    const many = fds.length > maxMessageFds;
    if (!late && !many) {
      this.#fds = fds;
      return;
    }
    this.#refuse(fds);
    throw protocolError(origin, 0, late ? 'file descriptors came with a later byte than the first one of a message' : `${fds.length} file descriptors came with one message, at most ${maxMessageFds} are taken`);
  }

  #fill(bytes: Uint8Array): Uint8Array {
    const count = Math.min(this.wanted, bytes.length);
    (this.#header === undefined ? this.#head : this.#payload).set(bytes.subarray(0, count), this.#filled);
    this.#filled += count;
    return bytes.subarray(count);
  }

  #beginPayload(): Message | undefined {
    const header = readHeader(this.#head);
    if (header.payloadBytes === 0) return this.#finish(header);
    this.#header = header;
    this.#payload = new Uint8Array(header.payloadBytes);
    this.#filled = 0;
    return undefined;
  }

  #finish(header: Header): Message {
    const message = { header, payload: this.#payload, fds: this.#fds };
    this.#clear();
    return message;
  }

  #clear(): void {
    this.#header = undefined;
    this.#payload = nothing;
    this.#filled = 0;
    this.#fds = [];
  }

  #break(error: Error): void {
    this.#broken ??= error;
    if (this.#fds.length > 0) this.#refuse(this.#fds);
    this.#clear();
  }
}
