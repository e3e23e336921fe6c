import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { MessageEncoder, messageOf, type Message } from '../../src/wire/message.js';
import { FrameDecoder } from '../../src/wire/frame-decoder.js';
import type { Hello } from '../../src/wire/hello.js';

const kind = fc.record({
  destination: fc.string({ maxLength: 8 }),
  generation: fc.constantFrom(1 as const, 2 as const),
  pci: fc.boolean(),
  irqs: fc.nat({ max: 9 }),
  regions: fc.array(fc.tuple(fc.nat({ max: 9 }), fc.nat()), { maxLength: 4 }),
});

export const hello = fc.record({
  protocol: fc.constant('vfio-rx migration' as const),
  versions: fc.constant<[number, number]>([1, 1]),
  migration: fc.string({ minLength: 1, maxLength: 16 }),
  purpose: fc.constantFrom('migrate' as const, 'resolve' as const),
  devices: fc.array(kind, { maxLength: 3 }),
}) as fc.Arbitrary<Hello>;

const device = fc.nat({ max: 0xffff });

export const message: fc.Arbitrary<Message> = fc.oneof(
  fc.record({ type: fc.constant('hello' as const), hello }),
  fc.record({ type: fc.constant('welcome' as const), welcome: fc.record({ version: fc.nat(), migration: fc.string(), windowBytes: fc.integer({ min: 1 << 16, max: 1 << 26 }), chunkBytes: fc.integer({ min: 1, max: 1 << 16 }) }) }) as fc.Arbitrary<Message>,
  fc.record({ type: fc.constant('data' as const), device, bytes: fc.uint8Array({ minLength: 1, maxLength: 100 }) }).map((one) => ({ ...one, bytes: Buffer.from(one.bytes), crc: crc32(one.bytes) })),
  fc.record({ type: fc.constant('credit' as const), device, bytes: fc.integer({ min: 0, max: 0xffff_ffff }) }),
  fc.record({ type: fc.constant('end' as const), device, bytes: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), crc: fc.integer({ min: 0, max: 0xffff_ffff }) }),
  fc.record({ type: fc.constant('abort' as const), reason: fc.record({ code: fc.string(), message: fc.string() }) }),
  fc.record({ type: fc.constantFrom('switch-over', 'switch-over-ok', 'prepared', 'commit', 'confirmed', 'never-ran') }) as fc.Arbitrary<Message>,
);

export function encoded(messages: readonly Message[]): Uint8Array {
  const encoder = new MessageEncoder();
  return Uint8Array.from(Buffer.concat(messages.map((one) => Buffer.concat(encoder.encode(one)))));
}

/** What a decoder makes of the bytes when they come in these pieces; with `ended`, the stream's end as well. */
export function decoded(pieces: readonly Uint8Array[], ended = true): { readonly messages: readonly Message[]; readonly error: unknown } {
  const decoder = new FrameDecoder();
  const messages: Message[] = [];
  try {
    for (const piece of pieces) decoder.push(piece.slice(), (frame) => messages.push(messageOf(frame)));
    if (ended) decoder.end();
  } catch (error) {
    return { messages, error };
  }
  return { messages, error: undefined };
}

/** The bytes, cut at these places. */
export function cut(bytes: Uint8Array, places: readonly number[]): readonly Uint8Array[] {
  const ends = [...places.map((place) => place % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  return ends.map((end, n) => bytes.subarray(ends[n - 1] ?? 0, end));
}
