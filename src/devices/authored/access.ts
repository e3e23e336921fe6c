/** A register is read. Whoever knows it answers, at once or later, and once; what comes later than a second is not waited for. */
export interface RegisterRead {
  readonly kind: 'read';
  readonly bar: number;
  /** In the BAR, bytes; a multiple of `size`. */
  readonly offset: number;
  readonly size: 1 | 2 | 4;
  /** Bits beyond the size are cut off. */
  readonly answer: (value: number) => void;
}

/** A register is written. It is done when everybody has heard of it. */
export interface RegisterWrite {
  readonly kind: 'write';
  readonly bar: number;
  readonly offset: number;
  readonly size: 1 | 2 | 4;
  /** Unsigned. */
  readonly value: number;
}

export type RegisterAccess = RegisterRead | RegisterWrite;

/** A part of an access that is one register's. */
export interface Piece {
  readonly offset: number;
  readonly size: 1 | 2 | 4;
}

/** An access as registers see it: in order, each of 4, 2 or 1 bytes, naturally aligned. As the kernel splits a user's read or write of a BAR. */
export function* piecesOf(offset: number, bytes: number): Generator<Piece> {
  const end = offset + bytes;
  for (let at = offset; at < end;) {
    const size = at % 4 === 0 && at + 4 <= end ? 4 : at % 2 === 0 && at + 2 <= end ? 2 : 1;
    yield { offset: at, size };
    at += size;
  }
}

/** Little endian, unsigned. */
export function valueOf(bytes: Uint8Array): number {
  return bytes.reduceRight((value, byte) => value * 256 + byte, 0);
}

export function bytesOf(value: number, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, n) => (value >>> (8 * n)) & 0xff);
}
