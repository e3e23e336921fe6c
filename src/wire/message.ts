import { string, type } from 'io-ts';
import { decodeOrThrow } from '../codec.js';
import type { CheckedFrame } from './frame-decoder.js';
import { decodeHello, decodeWelcome, type Hello, type Welcome } from './hello.js';
import { encodeHeader, HeaderRoom, mostTextBytes, nextSequence, streamError, writeHeader, type Frame } from './frame.js';

/** Why a side gives a migration up, in its own words. */
export interface AbortReason {
  /** The code of its error. */
  readonly code: string;
  readonly message: string;
}

/** What travels. `device` is a place in the list of the hello. */
export type Message =
  | { readonly type: 'hello'; readonly hello: Hello }
  | { readonly type: 'welcome'; readonly welcome: Welcome }
  /** State of this device, and its crc32. */
  | { readonly type: 'data'; readonly device: number; readonly bytes: Uint8Array; readonly crc: number }
  /** So many bytes of this device have been consumed, and as many more may come. */
  | { readonly type: 'credit'; readonly device: number; readonly bytes: number }
  /** All bytes of this device have been sent: their number and crc32. */
  | { readonly type: 'end'; readonly device: number; readonly bytes: bigint; readonly crc: number }
  | { readonly type: 'abort'; readonly reason: AbortReason }
  | { readonly type: Plain };

type Plain = 'switch-over' | 'switch-over-ok' | 'prepared' | 'commit' | 'confirmed' | 'never-ran';

export type MessageType = Message['type'];

const nothing = new Uint8Array(0);

function frameOf(message: Exclude<Message, { readonly type: 'data' }>): Frame {
  switch (message.type) {
    case 'hello': return { type: 'hello', device: 0, payload: textBytes(message.hello) };
    case 'welcome': return { type: 'welcome', device: 0, payload: textBytes(message.welcome) };
    case 'abort': return { type: 'abort', device: 0, payload: textBytes(shortened(message.reason)) };
    case 'credit': {
      const payload = new Uint8Array(4);
      new DataView(payload.buffer).setUint32(0, message.bytes, true);
      return { type: 'credit', device: message.device, payload };
    }
    case 'end': {
      const payload = new Uint8Array(12);
      new DataView(payload.buffer).setBigUint64(0, message.bytes, true);
      new DataView(payload.buffer).setUint32(8, message.crc, true);
      return { type: 'end', device: message.device, payload };
    }
    default: return { type: message.type, device: 0, payload: nothing };
  }
}

/** Throws VFIO_E_STREAM where the payload does not say what its type should. */
export function messageOf({ type, device, payload, crc }: CheckedFrame): Message {
  if (type === 'data') return { type, device, bytes: payload, crc };
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  switch (type) {
    case 'hello': return { type, hello: decodeHello(valueOf(payload, type)) };
    case 'welcome': return { type, welcome: decodeWelcome(valueOf(payload, type)) };
    case 'abort': return { type, reason: decodeOrThrow(reasonCodec, valueOf(payload, type), 'VFIO_E_STREAM', 'abort') };
    case 'credit': return { type, device, bytes: view.getUint32(0, true) };
    case 'end': return { type, device, bytes: view.getBigUint64(0, true), crc: view.getUint32(8, true) };
    default: return { type };
  }
}

/** The messages of one direction, as the bytes to be written: a header, and the payload as it is. */
export class MessageEncoder {
  private readonly header = new HeaderRoom();
  private sequence = 0;

  /** The header is written anew by the next call. */
  encode(message: Message): readonly Uint8Array[] {
    const { sequence } = this;
    this.sequence = nextSequence(sequence);
    if (message.type === 'data') return [writeHeader(this.header, sequence, 'data', message.device, message.bytes.length, message.crc), message.bytes];
    const frame = frameOf(message);
    const header = encodeHeader(frame, sequence, this.header);
    return frame.payload.length === 0 ? [header] : [header, frame.payload];
  }
}

const reasonCodec = type({ code: string, message: string });

/** A message is there to be read; a long one is cut. */
function shortened({ code, message }: AbortReason): AbortReason {
  const most = mostTextBytes / 64;
  return { code: code.slice(0, 100), message: message.slice(0, most) };
}

function textBytes(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

function valueOf(payload: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload));
  } catch (cause) {
    throw streamError(`the ${what} is no JSON`, cause);
  }
}
