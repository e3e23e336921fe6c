import { protocolError, viewOf, type Origin } from '../../uapi/bytes.js';
import { headerLayout, maxMessageFds, Message, readHeader, type Header } from './header.js';

const origin: Origin = { operation: 'vfio-user' };
const nothing = new Uint8Array(0);
/** So much of a payload that is missing is worth a read into its own memory, bytes. */
const largeBytes = 4096;

/** Where a payload goes that somebody waits for: behind its first `prefix` bytes into memory of his, until he takes it away. */
export interface Sink {
  readonly prefix: number;
  into: Uint8Array | undefined;
}

/**
 * Makes messages of bytes, however they are cut. It keeps at most one header and one payload, of a size that was checked before. A message
 * that comes in one piece is delivered where it stands: it is only good until `deliver` returns.
 *
 * File descriptors belong to the message whose first byte they came with. Which byte of a read that was, nobody can tell; so whoever
 * takes fds asks for no more than `wanted` bytes, and then it is the first one. Every fd that is pushed ends in a message or in
 * `refuse`, which closes it.
 */
export class MessageDecoder {
  readonly #refuse: (fds: readonly number[]) => void;
  readonly #sinkOf: (header: Header) => Sink | undefined;
  readonly #head = new Uint8Array(headerLayout.sizeof);
  readonly #headView = viewOf(this.#head);
  #filled = 0;
  #header: Header | undefined;
  #payload: Uint8Array = nothing;
  #sink: Sink | undefined;
  /** Of the payload what goes there. */
  #data: Uint8Array | undefined;
  #fds: readonly number[] = [];
  #broken: Error | undefined;

  constructor(refuse: (fds: readonly number[]) => void, sinkOf: (header: Header) => Sink | undefined = () => undefined) {
    this.#refuse = refuse;
    this.#sinkOf = sinkOf;
  }

  /** How many bytes are missing of the header, or of the payload (first of what stands before a sink). */
  get wanted(): number {
    if (this.#header === undefined) return headerLayout.sizeof - this.#filled;
    const own = this.#payload.length - this.#filled;
    return own > 0 ? own : own + (this.#data?.length ?? 0);
  }

  /** In the middle of a message: the end of the stream here is a loss. */
  get inside(): boolean {
    return this.#filled > 0 || this.#header !== undefined;
  }

  /** Many bytes are missing. */
  get large(): boolean {
    return this.#header !== undefined && this.wanted >= largeBytes;
  }

  /** Where the missing bytes go, when they are many: whoever reads them there pushes them all the same. */
  memory(): Uint8Array | undefined {
    if (this.#header === undefined || !this.large) return undefined;
    const [target, offset] = this.#target(this.#header);
    return target.subarray(offset);
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
    try {
      this.#take(fds);
      const at = this.inside ? this.#fill(bytes, 0, deliver) : 0;
      if (at < bytes.length) this.#inPlace(bytes, at, deliver);
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

  /** Whole messages where they stand; keeps what is left of the last one. */
  #inPlace(bytes: Uint8Array, from: number, deliver: (message: Message) => void): void {
    const view = viewOf(bytes);
    let at = from;
    while (bytes.length - at >= headerLayout.sizeof) {
      const header = readHeader(view, at);
      const payloadAt = at + headerLayout.sizeof;
      const end = payloadAt + header.payloadBytes;
      if (end > bytes.length) break;
      const fds = this.#fds;
      this.#fds = none;
      at = end;
      deliver(new Message(header, bytes, view, payloadAt, end, fds));
    }
    if (at < bytes.length) this.#fill(bytes, at, deliver);
  }

  /** One message that comes in pieces. Where the next one begins. */
  #fill(bytes: Uint8Array, from: number, deliver: (message: Message) => void): number {
    let at = from;
    while (at < bytes.length) {
      const end = Math.min(at + this.wanted, bytes.length);
      this.#put(at === 0 && end === bytes.length ? bytes : bytes.subarray(at, end));
      this.#filled += end - at;
      at = end;
      if (this.wanted > 0) continue;
      if (this.#header === undefined) this.#beginPayload();
      if (this.#header !== undefined && this.wanted === 0) {
        deliver(this.#finish(this.#header));
        return at;
      }
    }
    return at;
  }

  /** Where the next byte goes, of what there is a header of. */
  #target(header: Header | undefined): readonly [Uint8Array, number] {
    if (header === undefined) return [this.#head, this.#filled];
    const before = this.#payload.length;
    if (this.#filled < before || this.#data === undefined) return [this.#payload, this.#filled];
    // The memory is its owner's again: once the rest has another place, it keeps that.
    if (this.#sink !== undefined && this.#sink.into === undefined) {
      this.#data = new Uint8Array(this.#data.length);
      this.#sink = undefined;
    }
    return [this.#data, this.#filled - before];
  }

  #put(bytes: Uint8Array): void {
    const [target, offset] = this.#target(this.#header);
    // What was read into its place is there.
    if (bytes.buffer !== target.buffer || bytes.byteOffset !== target.byteOffset + offset) target.set(bytes, offset);
  }

  #beginPayload(): void {
    const header = readHeader(this.#headView);
    const sink = this.#sinkOf(header);
    const data = header.payloadBytes - (sink?.prefix ?? 0);
    this.#header = header;
    this.#sink = sink;
    this.#data = data >= 0 && data <= (sink?.into?.length ?? -1) ? sink?.into?.subarray(0, data) : undefined;
    this.#payload = new Uint8Array(header.payloadBytes - (this.#data?.length ?? 0));
    this.#filled = 0;
  }

  #finish(header: Header): Message {
    const message = new Message(header, this.#payload, viewOf(this.#payload), 0, this.#payload.length, this.#fds, this.#data);
    this.#clear();
    return message;
  }

  #clear(): void {
    this.#header = undefined;
    this.#payload = nothing;
    this.#sink = undefined;
    this.#data = undefined;
    this.#filled = 0;
    this.#fds = none;
  }

  #break(error: Error): void {
    this.#broken ??= error;
    if (this.#fds.length > 0) this.#refuse(this.#fds);
    this.#clear();
  }
}

const none: readonly number[] = [];
