import { crc32 } from 'node:zlib';
import { checkPayload, HeaderRoom, nextSequence, readHeader, streamError, type Frame, type Header } from './frame.js';

/** A frame whose payload has been checked. */
export type CheckedFrame = Required<Frame>;

/** Less than this is copied: a call for each small frame would cost more, bytes. */
const leastRoom = 1 << 13;

/** How many payloads that were given back are kept. */
const mostSpares = 16;

const nothing = new Uint8Array(0);

/**
 * Makes frames of bytes, however they are cut. It keeps at most one header and one payload, of a size that was checked before, and a
 * few that were given back.
 */
export class FrameDecoder {
  private sequence = 0;
  private readonly headerRoom = new HeaderRoom();
  /** Of the frame whose payload comes. */
  private header: Header | undefined;
  /** What comes, a header or a payload: its memory, and how much of it is there. */
  private coming: Uint8Array = this.headerRoom.bytes;
  private filled = 0;
  /** Of the payload: so many bytes have this checksum. */
  private summed = 0;
  private crc = 0;
  private readonly spares: Uint8Array[] = [];
  private broken: Error | undefined;

  /**
   * Delivers each frame that is complete, in order; payloads are copies, but for what came into `room`. Throws VFIO_E_STREAM after the frames that were good, and on
   * every call from then on.
   */
  push(bytes: Uint8Array, deliver: (frame: CheckedFrame) => void): void {
    if (this.broken !== undefined) throw this.broken;
    for (let at = 0; at < bytes.length; ) {
      at += this.fill(bytes, at);
      if (this.filled < this.coming.length) return;
      const frame = this.complete();
      if (frame !== undefined) deliver(frame);
    }
  }

  /** Where the next bytes belong, if they are many: what comes into it is not copied. Good until the next `push`. What is small is better read ahead. */
  get room(): Uint8Array | undefined {
    if (this.header === undefined || this.coming.length - this.filled < leastRoom) return undefined;
    return this.filled === 0 ? this.coming : this.coming.subarray(this.filled);
  }

  /** So many bytes have come into `room`, and more will: they are read for their checksum while they are in the processor's cache. */
  readonly came = (bytes: number): void => this.sum(this.filled + bytes);

  /** A payload that nobody needs any more: the next one of its length takes its place. */
  giveBack(payload: Uint8Array): void {
    this.spares.push(payload);
    if (this.spares.length > mostSpares) this.spares.shift();
  }

  /** The stream has ended. Throws VFIO_E_STREAM where that is inside a frame. */
  end(): void {
    if (this.header !== undefined) throw streamError(`the stream ended in frame ${this.sequence} (${this.header.type}), ${this.coming.length - this.filled} bytes before its end`);
    if (this.filled > 0) throw streamError(`the stream ended in the header of frame ${this.sequence}`);
  }

  /** Puts in what fits, unless it is there already; how much that is. */
  private fill(bytes: Uint8Array, at: number): number {
    const into = this.coming;
    const count = Math.min(into.length - this.filled, bytes.length - at);
    const isThere = bytes.buffer === into.buffer && bytes.byteOffset + at === into.byteOffset + this.filled;
    if (!isThere) into.set(bytes.subarray(at, at + count), this.filled);
    this.filled += count;
    return count;
  }

  /** What came is whole. */
  private complete(): CheckedFrame | undefined {
    try {
      const header = this.header;
      if (header !== undefined) return this.frame(header, this.coming);
      this.filled = 0;
      const next = readHeader(this.headerRoom, this.sequence);
      if (next.length === 0) return this.frame(next, nothing);
      this.header = next;
      this.coming = this.memory(next.length);
      return undefined;
    } catch (error) {
      this.broken = error as Error;
      throw error;
    }
  }

  private frame(header: Header, payload: Uint8Array): CheckedFrame {
    this.sum(payload.length);
    checkPayload(header, this.crc, this.sequence);
    this.summed = 0;
    this.crc = 0;
    this.filled = 0;
    this.header = undefined;
    this.coming = this.headerRoom.bytes;
    this.sequence = nextSequence(this.sequence);
    return { type: header.type, device: header.device, payload, crc: header.payloadCrc };
  }

  private sum(end: number): void {
    if (end > this.summed) this.crc = crc32(this.coming.subarray(this.summed, end), this.crc);
    this.summed = end;
  }

  /** Not shown to anybody before it is full. */
  private memory(length: number): Uint8Array {
    // The last one that was given back is the one that is still in the processor's cache.
    for (let place = this.spares.length - 1; place >= 0; place -= 1) {
      if (this.spares[place]?.length === length) return this.spares.splice(place, 1)[0] as Uint8Array;
    }
    return Buffer.allocUnsafeSlow(length);
  }
}
