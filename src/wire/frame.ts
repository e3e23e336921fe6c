import { crc32 } from 'node:zlib';
import { VfioError } from '../errors.js';

/**
 * One frame of a migration stream: a header of 20 bytes, little-endian, and its payload.
 *
 * ```
 *  0        4    5    6       8         12            16           20
 *  | length | ty | 0  | device | sequence | payload crc | header crc | payload ...
 * ```
 *
 * The header has a checksum of its own, so that a spoiled length is seen before anybody waits for, or makes room for, so many
 * bytes. The sequence counts the frames of one direction from 0: one that is lost, doubled or moved is seen as well.
 */
export interface Frame {
  readonly type: FrameType;
  /** The device's place in the list of the hello; 0 where a frame is about none. */
  readonly device: number;
  readonly payload: Uint8Array;
  /** crc32 of the payload, where it is known: large ones are read once. */
  readonly crc?: number;
}

export const headerBytes = 20;

/** The most device state that one frame carries, bytes. */
export const mostDataBytes = 1 << 20;

/** Of a hello, a welcome, the reason of an abort, bytes of JSON. */
export const mostTextBytes = 1 << 18;

/** Every frame: its number on the wire, and how many bytes its payload may and must have. */
const frames = {
  hello: { number: 1, least: 2, most: mostTextBytes },
  welcome: { number: 2, least: 2, most: mostTextBytes },
  data: { number: 3, least: 1, most: mostDataBytes },
  credit: { number: 4, least: 4, most: 4 },
  end: { number: 5, least: 12, most: 12 },
  'switch-over': { number: 6, least: 0, most: 0 },
  'switch-over-ok': { number: 7, least: 0, most: 0 },
  prepared: { number: 8, least: 0, most: 0 },
  commit: { number: 9, least: 0, most: 0 },
  confirmed: { number: 10, least: 0, most: 0 },
  abort: { number: 11, least: 2, most: mostTextBytes },
  'never-ran': { number: 12, least: 0, most: 0 },
} as const;

export type FrameType = keyof typeof frames;

export const frameTypes = Object.keys(frames) as readonly FrameType[];

const typeOfNumber: ReadonlyMap<number, FrameType> = new Map(frameTypes.map((type) => [frames[type].number, type]));

/** What is wrong with a stream, always with this code. */
export function streamError(what: string, cause?: unknown): VfioError {
  return new VfioError('VFIO_E_STREAM', what, { operation: 'migration stream', cause });
}

/** A header that has been checked: the payload that is announced is one that may be. */
export interface Header {
  readonly type: FrameType;
  readonly device: number;
  readonly length: number;
  readonly payloadCrc: number;
}

/** Room for one header, and the views of it, which are made once for many frames. */
export class HeaderRoom {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** What the header's checksum is of. */
  readonly checked: Uint8Array;

  constructor(bytes: Uint8Array = new Uint8Array(headerBytes)) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, headerBytes);
    this.checked = bytes.subarray(0, 16);
  }
}

/** @param room what is there is overwritten */
export function encodeHeader({ type, device, payload, crc = crc32(payload) }: Frame, sequence: number, room = new HeaderRoom()): Uint8Array {
  return writeHeader(room, sequence, type, device, payload.length, crc);
}

/** The same in numbers: there is one for every chunk. */
export function writeHeader({ bytes, view, checked }: HeaderRoom, sequence: number, type: FrameType, device: number, length: number, crc: number): Uint8Array {
  const { number, least, most } = frames[type];
  if (length < least || length > most) throw streamError(`a frame ${type} cannot carry ${length} bytes`);
  view.setUint32(0, length, true);
  view.setUint16(4, number, true);
  view.setUint16(6, device, true);
  view.setUint32(8, sequence, true);
  view.setUint32(12, crc, true);
  view.setUint32(16, crc32(checked), true);
  return bytes;
}

/** Throws VFIO_E_STREAM: spoiled, none that is known, out of order, or announcing more than its type may carry. */
export function readHeader({ view, checked }: HeaderRoom, sequence: number): Header {
  if (view.getUint32(16, true) !== crc32(checked)) throw streamError(`the header of frame ${sequence} has a wrong checksum: no migration stream, or a corrupted one`);
  const number = view.getUint8(4);
  const type = typeOfNumber.get(number);
  if (type === undefined || view.getUint8(5) !== 0) throw streamError(`frame ${sequence} is of type ${number}, which this version does not know`);
  if (view.getUint32(8, true) !== sequence) throw streamError(`frame ${view.getUint32(8, true)} (${type}) came where frame ${sequence} was due`);
  const length = view.getUint32(0, true);
  const { least, most } = frames[type];
  if (length < least || length > most) throw streamError(`frame ${sequence} (${type}) announces ${length} bytes: between ${least} and ${most} are allowed`);
  return { type, device: view.getUint16(6, true), length, payloadCrc: view.getUint32(12, true) };
}

/** Throws VFIO_E_STREAM where the payload, of this checksum, is not the one that the header was made for. */
export function checkPayload({ type, payloadCrc }: Header, crc: number, sequence: number): void {
  if (crc !== payloadCrc) throw streamError(`the payload of frame ${sequence} (${type}) has a wrong checksum`);
}

/** The next sequence number: it wraps after 2^32 frames. */
export function nextSequence(sequence: number): number {
  return (sequence + 1) >>> 0;
}
