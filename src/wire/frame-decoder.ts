import { checkPayload, headerBytes, nextSequence, readHeader, streamError, type Frame, type Header } from './frame.js';

const nothing = new Uint8Array(0);

/** A header or a payload that comes in pieces. */
interface Filling {
  readonly bytes: Uint8Array;
  filled: number;
}

/**
 * Makes frames of bytes, however they are cut. It keeps at most one header and one payload, of a size that was checked before.
 *
 * A payload that lies in one piece is not copied: it is a view of the bytes that were pushed, which are the decoder's from then on.
 */
export class FrameDecoder {
  #sequence = 0;
  #header: Filling = { bytes: new Uint8Array(headerBytes), filled: 0 };
  #payload: (Filling & { readonly header: Header }) | undefined;
  #broken: Error | undefined;

  /**
   * Delivers each frame that is complete, in order. Throws VFIO_E_STREAM after the frames that were good, and on every call from then on.
   */
  push(bytes: Uint8Array, deliver: (frame: Frame) => void): void {
    if (this.#broken !== undefined) throw this.#broken;
    let rest = bytes;
    while (rest.length > 0) {
      let frame: Frame | undefined;
      try {
        [frame, rest] = this.#take(rest);
      } catch (error) {
        this.#broken = error as Error;
        throw error;
      }
      if (frame !== undefined) deliver(frame);
    }
  }

  /** The stream has ended. Throws VFIO_E_STREAM where that is inside a frame. */
  end(): void {
    if (this.#payload !== undefined) throw streamError(`the stream ended in frame ${this.#sequence} (${this.#payload.header.type}), ${this.#payload.bytes.length - this.#payload.filled} bytes before its end`);
    if (this.#header.filled > 0) throw streamError(`the stream ended in the header of frame ${this.#sequence}`);
  }

  #take(bytes: Uint8Array): [Frame | undefined, Uint8Array] {
    if (this.#payload !== undefined) {
      const rest = fill(this.#payload, bytes);
      return [this.#payload.filled < this.#payload.bytes.length ? undefined : this.#finish(this.#payload.header, this.#payload.bytes), rest];
    }
    const rest = fill(this.#header, bytes);
    if (this.#header.filled < headerBytes) return [undefined, rest];
    this.#header.filled = 0;
    const header = readHeader(this.#header.bytes, this.#sequence);
    const { length } = header;
    if (rest.length >= length) return [this.#finish(header, length === 0 ? nothing : rest.subarray(0, length)), rest.subarray(length)];
    this.#payload = { header, bytes: new Uint8Array(length), filled: 0 };
    return [undefined, rest];
  }

  #finish(header: Header, payload: Uint8Array): Frame {
    checkPayload(header, payload, this.#sequence);
    this.#payload = undefined;
    this.#sequence = nextSequence(this.#sequence);
    return { type: header.type, device: header.device, payload };
  }
}

/** Puts in what fits. What is left over. */
function fill(into: Filling, bytes: Uint8Array): Uint8Array {
  const taken = bytes.subarray(0, into.bytes.length - into.filled);
  into.bytes.set(taken, into.filled);
  into.filled += taken.length;
  return bytes.subarray(taken.length);
}
