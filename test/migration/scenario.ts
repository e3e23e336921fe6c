import fc from 'fast-check';

/** Times are ms of virtual time; a migration without faults takes about 30. */
const atMs = fc.integer({ min: 0, max: 60 });
const device = fc.nat({ max: 7 });
const side = fc.constantFrom('source' as const, 'destination' as const);

/** One thing that goes wrong, or somebody else's request. */
const happening = fc.oneof(
  fc.constant({ kind: 'none' as const }),
  fc.record({ kind: fc.constantFrom('cut' as const, 'abort' as const, 'unsubscribe' as const, 'give-up' as const, 'leave' as const, 'source dies' as const, 'destination dies' as const), atMs }),
  // A lost connection and a death, at the very messages that the commit is made of.
  fc.record({ kind: fc.constantFrom('cut at' as const, 'source dies at' as const, 'destination dies at' as const), message: fc.constantFrom('prepared' as const, 'commit' as const, 'confirmed' as const), after: fc.boolean() }),
  fc.record({ kind: fc.constant('bit flips' as const), side, message: fc.nat({ max: 12 }), bit: fc.nat() }),
  fc.record({ kind: fc.constant('source arc' as const), device, arc: fc.constantFrom('pre-copy' as const, 'pre-copy-p2p' as const, 'running-p2p' as const, 'stop-copy' as const, 'running' as const), times: fc.constantFrom(1, 9) }),
  fc.record({ kind: fc.constant('destination arc' as const), device, arc: fc.constantFrom('resuming' as const, 'stop' as const, 'running-p2p' as const, 'running' as const) }),
  fc.record({ kind: fc.constantFrom('source disk' as const, 'destination disk' as const), record: fc.nat({ max: 3 }), twice: fc.boolean(), kept: fc.boolean() }),
  fc.record({ kind: fc.constantFrom('stalls' as const, 'removed' as const), side, device, atMs }),
  fc.record({ kind: fc.constantFrom('ERR' as const, 'REQ' as const), side, device, atMs: fc.integer({ min: 5, max: 30 }) }),
  fc.record({ kind: fc.constant('illegal request' as const), side, device, atMs, pick: fc.nat() }),
  // Legal for the device, and against the migration that has it; also a reset, at either side.
  fc.record({ kind: fc.constantFrom('other request' as const, 'reset' as const), side, device, atMs, pick: fc.nat() }),
  fc.record({ kind: fc.constant('second migration' as const), side, atMs }),
);

export const scenario = fc.record({
  count: fc.integer({ min: 1, max: 8 }),
  version: fc.constantFrom(1 as const, 2 as const),
  flags: fc.constantFrom(7, 7, 7, 1, 3, 5),
  latencyMs: fc.integer({ min: 0, max: 3 }),
  windowBytes: fc.constantFrom(undefined, 256, 4096),
  /** How much more each device has to say than the one before it, bytes: the first ones are loaded while the others still wait. */
  uneven: fc.constantFrom(0, 4000),
  /** What each device, source and destination, was asked for before the migration: picks among what is legal there. */
  walks: fc.array(fc.array(fc.nat(), { maxLength: 4 }), { maxLength: 16 }),
  happenings: fc.array(happening, { minLength: 1, maxLength: 3 }),
});

export type Scenario = typeof scenario extends fc.Arbitrary<infer S> ? S : never;
export type Happening = Scenario['happenings'][number];

/** Every kind of happening. */
export const kinds: readonly Happening['kind'][] = [
  'none', 'cut', 'abort', 'unsubscribe', 'give-up', 'leave', 'source dies', 'destination dies', 'cut at', 'source dies at', 'destination dies at', 'bit flips', 'source arc', 'destination arc', 'source disk', 'destination disk',
  'stalls', 'removed', 'ERR', 'REQ', 'illegal request', 'other request', 'reset', 'second migration',
];

const calm = { count: 4, version: 2, flags: 7, latencyMs: 1, windowBytes: 256, uneven: 0, walks: [], happenings: [] } as const;

/** What chance brings about seldom: with some seeds never. The outcome, and a migration that has it. */
export const rare: readonly (readonly [string, Scenario])[] = [
  ['taken back', { ...calm, walks: [], happenings: [{ kind: 'destination disk', record: 2, twice: false, kept: true }] }],
  ['given back to the kernel', { ...calm, latencyMs: 3, uneven: 4000, walks: [], happenings: [{ kind: 'REQ', side: 'source', device: 0, atMs: 8 }] }],
  ['a device was reset', { ...calm, version: 1, latencyMs: 2, windowBytes: 4096, uneven: 4000, walks: [], happenings: [{ kind: 'ERR', side: 'source', device: 1, atMs: 8 }, { kind: 'source arc', device: 0, arc: 'running', times: 1 }] }],
  ['a device did not come back', { ...calm, count: 1, version: 1, latencyMs: 3, windowBytes: 4096, walks: [], happenings: [{ kind: 'stalls', side: 'source', device: 0, atMs: 4 }] }],
  ['reset at the destination', { ...calm, version: 1, uneven: 4000, walks: [], happenings: [{ kind: 'reset', side: 'destination', device: 1, atMs: 5, pick: 0 }] }],
  ['v2 pre-copy-p2p -> pre-copy', { ...calm, count: 1, walks: [[0, 6, 5]], happenings: [{ kind: 'none' }] }],
];
