import { checkPayload, headerBytes, nextSequence, readHeader, streamError, type Frame, type Header } from './frame.js';

/** A frame whose payload has been checked. */
export type CheckedFrame = Required<Frame>;

/** A header or a payload that comes in pieces. */
interface Filling {
  readonly bytes: Uint8Array;
  filled: number;
}

/** Less than this is copied: a call for each small frame would cost more, bytes. */
const leastRoom = 1 << 13;

/** How many payloads that were given back are kept. */
const mostSpares = 16;

/**
 * Makes frames of bytes, however they are cut. It keeps at most one header and one payload, of a size that was checked before, and a
 * few that were given back.
 */
export class FrameDecoder {
  #sequence = 0;
  #header: Filling = { bytes: new Uint8Array(headerBytes), filled: 0 };
  #payload: (Filling & { readonly header: Header }) | undefined;
  readonly #spares: Uint8Array[] = [];
  #broken: Error | undefined;

  /**
   * Delivers each frame that is complete, in order; payloads are copies, but for what came into `room`. Throws VFIO_E_STREAM after the frames that were good, and on
   * every call from then on.
   */
  push(bytes: Uint8Array, deliver: (frame: CheckedFrame) => void): void {
    if (this.#broken !== undefined) throw this.#broken;
    let rest = bytes;
    while (rest.length > 0) {
      let frame: CheckedFrame | undefined;
      try {
        [frame, rest] = this.#take(rest);
      } catch (error) {
        this.#broken = error as Error;
        throw error;
      }
      if (frame !== undefined) deliver(frame);
    }
  }

  /** Where the next bytes belong, if they are many: what comes into it is not copied. Good until the next `push`. What is small is better read ahead. */
  get room(): Uint8Array | undefined {
    if (this.#payload === undefined) return undefined;
    const { bytes, filled } = this.#payload;
    return bytes.length - filled < leastRoom ? undefined : bytes.subarray(filled);
  }

  /** A payload that nobody needs any more: the next one of its length takes its place. */
  giveBack(payload: Uint8Array): void {
    this.#spares.push(payload);
    if (this.#spares.length > mostSpares) this.#spares.shift();
  }

  /** The stream has ended. Throws VFIO_E_STREAM where that is inside a frame. */
  end(): void {
    if (this.#payload !== undefined) throw streamError(`the stream ended in frame ${this.#sequence} (${this.#payload.header.type}), ${this.#payload.bytes.length - this.#payload.filled} bytes before its end`);
    if (this.#header.filled > 0) throw streamError(`the stream ended in the header of frame ${this.#sequence}`);
  }

  #take(bytes: Uint8Array): [CheckedFrame | undefined, Uint8Array] {
    let rest = bytes;
    if (this.#payload === undefined) {
      rest = fill(this.#header, rest);
      if (this.#header.filled < headerBytes) return [undefined, rest];
      this.#header.filled = 0;
      const header = readHeader(this.#header.bytes, this.#sequence);
      this.#payload = { header, bytes: this.#room(header.length), filled: 0 };
    }
    const { header, bytes: payload } = this.#payload;
    rest = fill(this.#payload, rest);
    if (this.#payload.filled < payload.length) return [undefined, rest];
    checkPayload(header, payload, this.#sequence);
    this.#payload = undefined;
    this.#sequence = nextSequence(this.#sequence);
    return [{ type: header.type, device: header.device, payload, crc: header.payloadCrc }, rest];
  }

  /** Not shown to anybody before it is full. */
  #room(length: number): Uint8Array {
    // The last one that was given back is the one that is still in the processor's cache.
    const place = this.#spares.findLastIndex((spare) => spare.length === length);
    const [spare] = place < 0 ? [] : this.#spares.splice(place, 1);
    return spare ?? Buffer.allocUnsafeSlow(length);
  }
}

/** Puts in what fits, unless it is there already. What is left over. */
function fill(into: Filling, bytes: Uint8Array): Uint8Array {
  const taken = bytes.subarray(0, into.bytes.length - into.filled);
  const isThere = bytes.buffer === into.bytes.buffer && bytes.byteOffset === into.bytes.byteOffset + into.filled;
  if (!isThere) into.bytes.set(taken, into.filled);
  into.filled += taken.length;
  return bytes.subarray(taken.length);
}
