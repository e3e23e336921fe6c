import { VfioError } from '../../../errors.js';
import { protocolError, viewOf, type Origin } from '../../uapi/bytes.js';

/** The header of every message of vfio-user. All numbers of the protocol are in host byte order: little endian here. */
export const headerLayout = { id: 0, command: 2, size: 4, flags: 8, error: 12, sizeof: 16 } as const;

/** The commands, by the names of the protocol's text. */
export const commands = {
  VERSION: 1,
  DMA_MAP: 2,
  DMA_UNMAP: 3,
  DEVICE_GET_INFO: 4,
  DEVICE_GET_REGION_INFO: 5,
  DEVICE_GET_REGION_IO_FDS: 6,
  DEVICE_GET_IRQ_INFO: 7,
  DEVICE_SET_IRQS: 8,
  REGION_READ: 9,
  REGION_WRITE: 10,
  DMA_READ: 11,
  DMA_WRITE: 12,
  DEVICE_RESET: 13,
  REGION_WRITE_MULTI: 15,
  DEVICE_FEATURE: 16,
  MIG_DATA_READ: 17,
  MIG_DATA_WRITE: 18,
} as const;

export type CommandName = keyof typeof commands;

const names = new Map<number, CommandName>(Object.entries(commands).map(([name, number]) => [number, name as CommandName]));

/** undefined for a number that stands for no command. */
export function commandName(command: number): CommandName | undefined {
  return names.get(command);
}

const typeMask = 0xf;
const typeReply = 1;
const flagNoReply = 0x10;
const flagError = 0x20;

/** What one `count` of the protocol may be at most unless the peer says less (max_data_xfer_size), bytes. */
export const maxDataBytes = 1 << 20;

/** The largest message that is taken: that much data, and what stands before it. */
export const maxMessageBytes = maxDataBytes + 4096;

/** What the peer may send with one message (max_msg_fds). */
export const maxMessageFds = 16;

/** A header, read. */
export interface Header {
  /** Chosen by whoever sent the command; the two directions are name spaces of their own. */
  readonly id: number;
  readonly command: number;
  readonly reply: boolean;
  /** Of a command: it is not answered, not even with an error. */
  readonly noReply: boolean;
  /** Of a reply: the errno, which may be 0 in a reply that says it failed; undefined where it succeeded. */
  readonly errno: number | undefined;
  readonly payloadBytes: number;
}

/** One message. */
export class Message {
  readonly header: Header;
  /** Where its payload stands: from `at` to `end`. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly at: number;
  readonly end: number;
  /** The receiver's: it closes them. */
  readonly fds: readonly number[];
  /** What of the payload came into other memory, behind it. */
  readonly data: Uint8Array | undefined;

  constructor(header: Header, bytes: Uint8Array, view: DataView, at: number, end: number, fds: readonly number[], data?: Uint8Array) {
    this.header = header;
    this.bytes = bytes;
    this.view = view;
    this.at = at;
    this.end = end;
    this.fds = fds;
    this.data = data;
  }

  get payload(): Uint8Array {
    return this.bytes.subarray(this.at, this.end);
  }

  /** The payload, for who keeps it: what stands in one piece with its header is the reader's memory. */
  kept(): Uint8Array {
    return this.at === 0 ? this.bytes : this.bytes.slice(this.at, this.end);
  }
}

const origin: Origin = { operation: 'vfio-user' };

/** Reads a header. Throws VFIO_E_PROTOCOL for a size that no message has, and for a type that is none. */
export function readHeader(view: DataView, at = 0): Header {
  const size = view.getUint32(at + headerLayout.size, true);
  if (size < headerLayout.sizeof || size > maxMessageBytes) {
    throw protocolError(origin, headerLayout.size, `a message of ${size} bytes, where ${headerLayout.sizeof} to ${maxMessageBytes} are taken`);
  }
  const flags = view.getUint32(at + headerLayout.flags, true);
  const type = flags & typeMask;
  if (type > typeReply) throw protocolError(origin, headerLayout.flags, `a message of type ${type}, neither command nor reply`);
  const reply = type === typeReply;
  return {
    id: view.getUint16(at + headerLayout.id, true),
    command: view.getUint16(at + headerLayout.command, true),
    reply,
    noReply: !reply && (flags & flagNoReply) !== 0,
    errno: reply && (flags & flagError) !== 0 ? view.getUint32(at + headerLayout.error, true) : undefined,
    payloadBytes: size - headerLayout.sizeof,
  };
}

/** What a message is beside its payload. */
export interface Envelope {
  readonly id: number;
  readonly command: number;
  readonly kind: 'command' | 'no-reply' | 'reply';
  /** Makes it an error reply. */
  readonly errno?: number;
}

/** The header of a command, in place. */
export function writeCommand(view: DataView, at: number, id: number, command: number, payloadBytes: number): void {
  view.setUint16(at + headerLayout.id, id, true);
  view.setUint16(at + headerLayout.command, command, true);
  view.setUint32(at + headerLayout.size, headerLayout.sizeof + payloadBytes, true);
  view.setUint32(at + headerLayout.flags, 0, true);
  view.setUint32(at + headerLayout.error, 0, true);
}

/** A whole message, header first. Throws VFIO_E_RANGE for a payload that no peer would take. */
export function encodeMessage({ id, command, kind, errno }: Envelope, payload: Uint8Array = new Uint8Array(0)): Uint8Array {
  const size = headerLayout.sizeof + payload.length;
  if (size > maxMessageBytes) throw new VfioError('VFIO_E_RANGE', `a message of ${size} bytes: at most ${maxMessageBytes}`, origin);
  const bytes = new Uint8Array(size);
  const view = viewOf(bytes);
  view.setUint16(headerLayout.id, id, true);
  view.setUint16(headerLayout.command, command, true);
  view.setUint32(headerLayout.size, size, true);
  view.setUint32(headerLayout.flags, (kind === 'reply' ? typeReply : 0) | (kind === 'no-reply' ? flagNoReply : 0) | (errno === undefined ? 0 : flagError), true);
  view.setUint32(headerLayout.error, errno ?? 0, true);
  bytes.set(payload, headerLayout.sizeof);
  return bytes;
}
