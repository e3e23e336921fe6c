import fc from 'fast-check';
import { errorCodes, VfioError, type VfioErrorCode } from '../../../src/errors.js';
import type { AnswerOf, ArgsOf, CallName } from '../../../src/devices/trace/calls.js';
import type { TraceEntry, TraceHeader } from '../../../src/devices/trace/entry.js';
import { traceError, type KeptBytes, type TracedError } from '../../../src/devices/trace/values.js';
import { states } from '../../../src/devices/uapi/migration-state.js';

/** Values of every call: what a recorder could come to write. */

const whole = fc.nat();
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const bool = fc.boolean();
const area = fc.record({ offset: whole, size: whole });
const areas = fc.array(area, { maxLength: 3 });
const state = fc.constantFrom(...states);
const irq = fc.tuple(whole, whole);
const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const nothing = fc.constant(undefined);

export const kept: fc.Arbitrary<KeptBytes> = fc.tuple(fc.uint8Array({ maxLength: 12 }), fc.nat(100)).map(([bytes, more]) => ({ size: bytes.length + more, kept: bytes }));

/** A record whose fields may be left out. */
function fields<A, B>(required: { [K in keyof A]: fc.Arbitrary<A[K]> }, some: { [K in keyof B]: fc.Arbitrary<B[K]> }): fc.Arbitrary<A & Partial<B>> {
  return fc.tuple(fc.record(required), fc.record(some, { requiredKeys: [] })).map(([a, b]) => ({ ...a, ...b }) as A & Partial<B>);
}

const flags = { readable: bool, writable: bool, mmappable: bool, msixMappable: bool };
const region = fields(
  { index: whole, flags: whole, size: whole, fileOffset: whole, areas, ...flags },
  { savingAreas: areas, type: fc.record({ type: whole, subtype: whole }) },
);
const remap = fc.oneof(
  fc.record({ subtype: fc.constant('region-remap' as const), page: whole, doorbell: bool, noAck: bool, regions: u64, ackTimeoutMs: whole, maxWaits: whole }),
  fc.record({ subtype: fc.constant('rfc-v4' as const) }),
);
const irqInfo = fields({ index: whole, flags: whole, count: whole, eventfd: bool, maskable: bool, automasked: bool, noResize: bool }, { remap });
const action = fc.constantFrom('mask' as const, 'unmask' as const, 'trigger' as const);
const act = fc.oneof(
  fields({ index: whole, action, data: fc.constant('none' as const), count: whole }, { start: whole }),
  fields({ index: whole, action, data: fc.constant('bool' as const), vectors: fc.array(bool, { maxLength: 4 }) }, { start: whole }),
);
const access = fc.oneof(fc.record({ region: whole, offset: whole, write: kept }), fc.record({ region: whole, offset: whole, readBytes: whole }));
const chunk = fc.oneof(fc.record({ kind: fc.constant('bytes' as const), bytes: kept }), fc.record({ kind: fc.constantFrom('quiet' as const, 'end' as const) }));
const range = fc.record({ iova: u64, size: whole });
const limits = fc.record({
  pageSizes: u64,
  iovaRanges: optional(fc.array(fc.record({ start: u64, end: u64 }), { maxLength: 2 })),
  available: optional(whole),
  dirtyPages: optional(fc.record({ pageSizes: u64, maxBitmapBytes: whole })),
});

const none = fc.constant({});
const ofIrq = fc.record({ irq });

export const callArbitraries: { readonly [K in CallName]: { readonly args: fc.Arbitrary<ArgsOf<K>>; readonly answer: fc.Arbitrary<AnswerOf<K>> } } = {
  info: { args: none, answer: fc.record({ flags: whole, regions: whole, irqs: whole, pci: bool, reset: bool }) },
  regionInfo: { args: fc.record({ index: whole }), answer: region },
  irqInfo: { args: fc.record({ index: whole }), answer: irqInfo },
  irq: { args: fc.record({ index: whole, vector: whole, ackFd: bool }), answer: nothing },
  irqs: { args: fc.record({ index: whole, vectors: fc.array(whole, { maxLength: 4 }), ackFd: bool }), answer: nothing },
  setIrqs: { args: act, answer: nothing },
  map: { args: fc.record({ region: whole, offset: whole, size: whole }), answer: nothing },
  unmap: { args: fc.record({ mapping: whole, region: whole, offset: whole, size: whole }), answer: nothing },
  allocateDma: { args: fc.record({ bytes: whole }), answer: fc.record({ size: whole }) },
  dmaMap: { args: fc.record({ iova: u64, size: whole, source: whole, offset: whole, read: bool, write: bool }), answer: range },
  dmaUnmap: { args: range, answer: whole },
  dmaLimits: { args: none, answer: limits },
  'dmaLogging.start': { args: fc.record({ ranges: fc.array(fc.record({ iova: u64, size: whole })), pageSize: whole }), answer: whole },
  'dmaLogging.report': { args: fc.record({ iova: u64, size: whole, pageSize: whole }), answer: kept },
  'dmaLogging.stop': { args: none, answer: nothing },
  access: { args: access, answer: kept },
  accessNow: { args: access, answer: kept },
  migration: { args: none, answer: optional(fc.record({ version: fc.constantFrom(1 as const, 2 as const), flags: whole })) },
  getState: { args: none, answer: state },
  setState: { args: fc.record({ to: state }), answer: fields({ state }, { data: fc.constantFrom('save' as const, 'resume' as const) }) },
  reset: { args: none, answer: nothing },
  lowPower: { args: fc.record({ enter: bool }), answer: nothing },
  close: { args: fc.record({ keepViews: bool }), answer: nothing },
  'irq.next': { args: ofIrq, answer: fc.record({ count: u64, atNs: u64 }) },
  'irq.readNow': { args: ofIrq, answer: optional(u64) },
  'irq.ack': { args: fc.record({ irq, count: u64 }), answer: nothing },
  'irq.mask': { args: ofIrq, answer: nothing },
  'irq.unmask': { args: ofIrq, answer: nothing },
  'irq.trigger': { args: ofIrq, answer: nothing },
  'irq.close': { args: ofIrq, answer: nothing },
  'data.read': { args: fc.record({ data: whole, maxBytes: whole }), answer: chunk },
  'data.write': { args: fc.record({ data: whole, bytes: kept }), answer: nothing },
  'data.precopy': { args: fc.record({ data: whole }), answer: fc.record({ initialBytes: u64, dirtyBytes: u64, reinit: bool }) },
  'data.close': { args: fc.record({ data: whole }), answer: nothing },
  'dma.free': { args: fc.record({ memory: whole }), answer: nothing },
};

export const callNames = Object.keys(callArbitraries) as readonly CallName[];

const code = fc.constantFrom(...(Object.keys(errorCodes) as VfioErrorCode[]));
export const error: fc.Arbitrary<TracedError> = fc.oneof(
  fc.record({ code, message: fc.string(), operation: fc.string(), device: optional(fc.string()), errno: optional(fc.constantFrom('EIO', 'EBUSY')) })
    .map(({ code, message, ...details }) => traceError(new VfioError(code, message, details))),
  fc.string().map((message) => traceError(new Error(message))),
);

export const headers: fc.Arbitrary<TraceHeader> = fc.record({ device: fc.string(), atNs: fc.bigInt({ min: 0n, max: 2n ** 40n }), pageSize: whole, remapInOneTurn: bool, syncAccess: bool, dataBytes: whole });

/** What happens next in a run: how much later, and which of the possible things. */
const steps = fc.array(
  fc.record({
    laterNs: fc.bigInt({ min: 0n, max: 2n ** 30n }),
    name: fc.constantFrom(...callNames),
    what: fc.constantFrom('call', 'answered call', 'answer', 'detach', 'released', 'all released'),
    pick: whole,
    fails: bool,
    inside: bool,
    error,
    text: fc.string(),
  }),
  { maxLength: 30 },
);

/** A run as a recorder would write it, in which every call that is answered was made. */
export const runs: fc.Arbitrary<{ readonly header: TraceHeader; readonly entries: readonly TraceEntry[] }> = fc.tuple(headers, steps, fc.gen()).map(([header, list, gen]) => {
  const entries: TraceEntry[] = [];
  const open: { readonly call: number; readonly name: CallName }[] = [];
  let { atNs } = header;
  let call = 0;
  const outcome = (name: CallName, fails: boolean, failure: TracedError) => (fails ? { error: failure } : { value: gen(() => callArbitraries[name].answer as fc.Arbitrary<unknown>) });
  for (const { laterNs, name, what, pick, fails, inside, error: failure, text } of list) {
    atNs += laterNs;
    const within = inside && call > 0 ? { inside: call } : {};
    const chosen = open[pick % Math.max(1, open.length)];
    if (what === 'call' || what === 'answered call') {
      call += 1;
      const args = gen(() => callArbitraries[name].args as fc.Arbitrary<unknown>);
      entries.push({ kind: 'call', atNs, call, name, args, ...(what === 'call' ? {} : { outcome: outcome(name, fails, failure) }) } as TraceEntry);
      if (what === 'call') open.push({ call, name });
    } else if (what === 'released') entries.push({ kind: 'released', atNs, what: text, ...within, ...(fails ? { error: failure } : {}) });
    else if (what === 'all released') entries.push({ kind: 'released', atNs, what: undefined, ...within });
    else if (chosen !== undefined) {
      open.splice(open.indexOf(chosen), 1);
      if (what === 'detach') entries.push({ kind: 'detach', atNs, call: chosen.call });
      else entries.push({ kind: 'answer', atNs, ...chosen, ...within, outcome: outcome(chosen.name, fails, failure) } as TraceEntry);
    }
  }
  entries.push({ kind: 'end', atNs });
  return { header, entries };
});
