import * as t from 'io-ts';
import type { Area, Chunk, DeviceInfo, DmaLimits, DmaLoggingRequest, IovaRange, IrqAct, IrqInfo, IrqSignal, MigrationTraits, PrecopyInfo, RegionInfo, State } from '../port.js';
import { states } from '../uapi/migration-state.js';
import { keptBytes, nothing, orNone, u64, whole, type KeptBytes } from './values.js';

/**
 * Every call of a `DevicePort` and of what it hands out, with its arguments and its answer. What a port hands out is named by
 * the call that brought it: a mapping by the id of its `map`, an irq by the id of its `irqs` and its place among them.
 */

/** io-ts says `T | undefined` for a field that may be left out; decoding leaves it out. */
function typed<A>(codec: t.Mixed): t.Type<A, unknown> {
  return codec;
}

/**
 * Fields that must be there, and fields that may be; others are dropped in reading. Writing is on the way of every event, so it
 * touches only what JSON cannot hold.
 */
function fields<A>(required: t.Props, optional: t.Props = {}): t.Type<A, unknown> {
  const codec = typed<A>(t.exact(t.intersection([t.type(required), t.partial(optional)])));
  const rewritten = Object.entries({ ...required, ...optional }).filter(([, { encode }]) => encode !== t.identity);
  const encode = (value: A): unknown => {
    const written = { ...(value as Record<string, unknown>) };
    for (const [key, { encode: write }] of rewritten) if (key in written) written[key] = (write as (field: unknown) => unknown)(written[key]);
    return written;
  };
  return new t.Type<A, unknown>(codec.name, (value): value is A => codec.is(value), (value, context) => codec.validate(value, context), rewritten.length === 0 ? t.identity : encode);
}

const none = fields<Readonly<Record<string, never>>>({});
const bool = t.boolean;
const area = fields<Area>({ offset: whole, size: whole });
const areas = t.readonlyArray(area);
const state = typed<State>(t.keyof(Object.fromEntries(states.map((name) => [name, null]))));

const deviceInfo = fields<DeviceInfo>({ flags: whole, regions: whole, irqs: whole, pci: bool, reset: bool });

const regionInfo = fields<RegionInfo>(
  { index: whole, flags: whole, readable: bool, writable: bool, mmappable: bool, size: whole, fileOffset: whole, areas, msixMappable: bool },
  { savingAreas: areas, type: fields({ type: whole, subtype: whole }) },
);

const remapCapability = t.union([
  fields({ subtype: t.literal('region-remap'), page: whole, doorbell: bool, noAck: bool, regions: u64, ackTimeoutMs: whole, maxWaits: whole }),
  fields({ subtype: t.literal('rfc-v4') }),
]);

const irqInfo = fields<IrqInfo>(
  { index: whole, flags: whole, count: whole, eventfd: bool, maskable: bool, automasked: bool, noResize: bool },
  { remap: remapCapability },
);

const action = t.keyof({ mask: null, unmask: null, trigger: null });
const irqAct = typed<IrqAct>(
  t.union([
    fields({ index: whole, action, data: t.literal('none'), count: whole }, { start: whole }),
    fields({ index: whole, action, data: t.literal('bool'), vectors: t.readonlyArray(bool) }, { start: whole }),
  ]),
);

const iova = { iova: u64, size: whole };
const dmaLimits = fields<DmaLimits>({
  pageSizes: u64,
  iovaRanges: orNone(t.readonlyArray(fields({ start: u64, end: u64 }))),
  available: orNone(whole),
  dirtyPages: orNone(fields({ pageSizes: u64, maxBitmapBytes: whole })),
});

/** An access: exactly one of `write` and `readBytes`, as the caller has it. */
export interface TracedAccess {
  readonly region: number;
  readonly offset: number;
  readonly write?: KeptBytes;
  readonly readBytes?: number;
}

const access = fields<TracedAccess>({ region: whole, offset: whole }, { write: keptBytes, readBytes: whole });

/** One irq of those that a call brought: the call's id, and the place among its handles. */
export type IrqRef = readonly [call: number, place: number];
const irq = fields<{ readonly irq: IrqRef }>({ irq: t.tuple([whole, whole]) });
const data = { data: whole };

type TracedChunk = Exclude<Chunk, { kind: 'bytes' }> | { readonly kind: 'bytes'; readonly bytes: KeptBytes };
const chunk = typed<TracedChunk>(t.union([fields({ kind: t.literal('bytes'), bytes: keptBytes }), fields({ kind: t.keyof({ quiet: null, end: null }) })]));

/** `data`: which way its data_fd goes, where it brought one. */
interface TracedReply {
  readonly state: State;
  readonly data?: 'save' | 'resume';
}

function call<A, R>(args: t.Type<A, unknown>, answer: t.Type<R, unknown>): { readonly args: typeof args; readonly answer: typeof answer } {
  return { args, answer };
}

const index = fields<{ readonly index: number }>({ index: whole });
const options = { ackFd: bool };

export const calls = {
  info: call(none, deviceInfo),
  regionInfo: call(index, regionInfo),
  irqInfo: call(index, irqInfo),
  irq: call(fields<{ readonly index: number; readonly vector: number; readonly ackFd: boolean }>({ index: whole, vector: whole, ...options }), nothing),
  irqs: call(fields<{ readonly index: number; readonly vectors: readonly number[]; readonly ackFd: boolean }>({ index: whole, vectors: t.readonlyArray(whole), ...options }), nothing),
  setIrqs: call(irqAct, nothing),
  map: call(fields<{ readonly region: number } & Area>({ region: whole, offset: whole, size: whole }), nothing),
  unmap: call(fields<{ readonly mapping: number; readonly region: number } & Area>({ mapping: whole, region: whole, offset: whole, size: whole }), nothing),
  allocateDma: call(fields<{ readonly bytes: number }>({ bytes: whole }), fields<{ readonly size: number }>({ size: whole })),
  dmaMap: call(
    fields<{ readonly iova: bigint; readonly size: number; readonly source: number; readonly offset: number; readonly read: boolean; readonly write: boolean }>({
      ...iova, source: whole, offset: whole, read: bool, write: bool,
    }),
    fields<{ readonly iova: bigint; readonly size: number }>(iova),
  ),
  dmaUnmap: call(fields<{ readonly iova: bigint; readonly size: number }>(iova), whole),
  dmaLimits: call(none, dmaLimits),
  'dmaLogging.start': call(
    fields<DmaLoggingRequest>({ ranges: t.readonlyArray(fields<IovaRange>(iova)), pageSize: whole }),
    whole,
  ),
  'dmaLogging.report': call(fields<IovaRange & { readonly pageSize: number }>({ ...iova, pageSize: whole }), keptBytes),
  'dmaLogging.stop': call(none, nothing),
  access: call(access, keptBytes),
  accessNow: call(access, keptBytes),
  migration: call(none, orNone(fields<MigrationTraits>({ version: t.union([t.literal(1), t.literal(2)]), flags: whole }))),
  getState: call(none, state),
  setState: call(fields<{ readonly to: State }>({ to: state }), fields<TracedReply>({ state }, { data: t.keyof({ save: null, resume: null }) })),
  reset: call(none, nothing),
  lowPower: call(fields<{ readonly enter: boolean }>({ enter: bool }), nothing),
  close: call(fields<{ readonly keepViews: boolean }>({ keepViews: bool }), nothing),
  'irq.next': call(irq, fields<Pick<IrqSignal, 'count' | 'atNs'>>({ count: u64, atNs: u64 })),
  'irq.readNow': call(irq, orNone(u64)),
  'irq.ack': call(fields<{ readonly irq: IrqRef; readonly count: bigint }>({ irq: t.tuple([whole, whole]), count: u64 }), nothing),
  'irq.mask': call(irq, nothing),
  'irq.unmask': call(irq, nothing),
  'irq.trigger': call(irq, nothing),
  'irq.close': call(irq, nothing),
  'data.read': call(fields<{ readonly data: number; readonly maxBytes: number }>({ ...data, maxBytes: whole }), chunk),
  'data.write': call(fields<{ readonly data: number; readonly bytes: KeptBytes }>({ ...data, bytes: keptBytes }), nothing),
  'data.precopy': call(fields<{ readonly data: number }>(data), fields<PrecopyInfo>({ initialBytes: u64, dirtyBytes: u64, reinit: bool })),
  'data.close': call(fields<{ readonly data: number }>(data), nothing),
  'dma.free': call(fields<{ readonly memory: number }>({ memory: whole }), nothing),
} as const;

export type Calls = typeof calls;
export type CallName = keyof Calls;
export type ArgsOf<K extends CallName> = t.TypeOf<Calls[K]['args']>;
export type AnswerOf<K extends CallName> = t.TypeOf<Calls[K]['answer']>;

export function isCallName(value: unknown): value is CallName {
  return typeof value === 'string' && Object.hasOwn(calls, value);
}

/** The codecs of a call, where its name is only known at run time. */
export function codecsOf<K extends CallName>(name: K): { readonly args: t.Type<ArgsOf<K>, unknown>; readonly answer: t.Type<AnswerOf<K>, unknown> } {
  return calls[name] as unknown as ReturnType<typeof codecsOf<K>>;
}
