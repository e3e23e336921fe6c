import fc from 'fast-check';
import { expect } from 'vitest';

import { VfioError, type VfioErrorCode } from '../../../src/errors.js';

/** Bytes as a dump shows them: hex pairs, spaces and line ends as one likes, `#` begins a comment. */
export function hex(dump: string): Uint8Array {
  const digits = dump.replace(/#.*$/gm, '').replace(/\s+/g, '');
  if (!/^([0-9a-f]{2})*$/.test(digits)) throw new Error(`no hex dump: ${dump}`);
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

/** Little-endian fields one behind the other, without padding. */
export function fields(...parts: readonly (readonly ['u16' | 'u32' | 'u64', number | bigint] | Uint8Array)[]): Uint8Array {
  return concat(
    parts.map((part) => {
      if (part instanceof Uint8Array) return part;
      const [type, value] = part;
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
      return bytes.subarray(0, Number(type.slice(1)) / 8);
    }),
  );
}

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** Runs `body` and returns the VfioError that it must throw. */
export function caught(body: () => unknown, code: VfioErrorCode): VfioError {
  let result: unknown;
  try {
    result = body();
  } catch (error) {
    if (!VfioError.is(error)) throw error;
    expect(error.code).toBe(code);
    return error;
  }
  throw new Error(`expected ${code}, got ${String(result)}`);
}

/** What a reader makes of bytes: a value, or a VfioError's message. Any other exception goes through. */
function outcome(read: (bytes: Uint8Array) => unknown, bytes: Uint8Array): unknown {
  try {
    return read(bytes);
  } catch (error) {
    if (!VfioError.is(error) || error.code !== 'VFIO_E_PROTOCOL') throw error;
    return error.message;
  }
}

/** The same bytes in the middle of a larger buffer that is full of `poison`. */
function within(bytes: Uint8Array, poison: number): Uint8Array {
  const room = new Uint8Array(bytes.length + 256).fill(poison);
  room.set(bytes, 128);
  return room.subarray(128, 128 + bytes.length);
}

/**
 * The contract of every reader: any bytes give a value or VFIO_E_PROTOCOL, and what surrounds the bytes in memory makes
 * no difference, so nothing beyond them is read.
 */
export function survivesAnyBytes(read: (bytes: Uint8Array) => unknown, likely: fc.Arbitrary<Uint8Array>): void {
  const anything = fc.oneof({ weight: 1, arbitrary: fc.uint8Array({ maxLength: 128 }) }, { weight: 4, arbitrary: damaged(likely) });
  fc.assert(
    fc.property(anything, (bytes) => {
      expect(outcome(read, within(bytes, 0xff))).toEqual(outcome(read, within(bytes, 0x00)));
    }),
    { numRuns: 2000 },
  );
}

/** Good bytes with a few of them changed, and perhaps cut off: these get past the first check of a reader. */
function damaged(good: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array> {
  const change = fc.record({ at: fc.nat(), to: fc.oneof(fc.constantFrom(0, 1, 4, 8, 16, 0x7f, 0xff), fc.nat(255)) });
  return fc
    .tuple(good, fc.array(change, { maxLength: 4 }), fc.oneof(fc.constant(1), fc.double({ min: 0, max: 1, noNaN: true })))
    .map(([bytes, changes, keep]) => {
      const copy = bytes.slice(0, Math.ceil(bytes.length * keep));
      for (const { at, to } of changes) if (copy.length > 0) copy[at % copy.length] = to;
      return copy;
    });
}
