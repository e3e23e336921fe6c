import { defer, lastValueFrom, map } from 'rxjs';
import { VfioError } from '../../errors.js';
import type {
  AccessRequest, Area, Chunk, DataChannel, DevicePort, DmaMapRequest, DmaMemory, IovaRange, IrqAct, IrqHandle, IrqLine, IrqOptions, Mapping, State,
} from '../port.js';
import type { IrqRef, TracedAccess } from '../trace/calls.js';
import type { TraceHeader } from '../trace/entry.js';
import type { KeptBytes } from '../trace/values.js';
import { keepBytes } from './recorder.js';
import type { ReplayRun } from './replay-run.js';

/** One memory of a replay is at most so large, bytes: a trace may say anything. */
const maxMemoryBytes = 2 ** 30;

/**
 * The port of a recorded device. Mapped memory and memory for DMA are zeros, since accesses to them are not recorded, and so are
 * data bytes that the recording did not keep.
 */
export function replayPort(run: ReplayRun, header: TraceHeader): DevicePort {
  const { device: name, pageSize, remapInOneTurn, syncAccess, dataBytes } = header;
  const mappings = new WeakMap<Mapping, number>();
  const memories = new WeakMap<DmaMemory, number>();
  const done = (): undefined => undefined;
  const same = <T>(answer: T): T => answer;

  const zeros = (size: number): ArrayBuffer => {
    try {
      if (size <= maxMemoryBytes) return new ArrayBuffer(size);
    } catch {
      // No such memory is left.
    }
    throw new VfioError('VFIO_E_LIMIT', `the recording has ${size} bytes here, more than this process has for a replay`, { operation: 'replay', device: name });
  };
  const bytesOf = ({ size, kept }: KeptBytes): Uint8Array => {
    const bytes = new Uint8Array(zeros(size));
    bytes.set(kept);
    return bytes;
  };
  const tracedAccess = ({ region, offset, write, readBytes }: AccessRequest): TracedAccess => ({
    region,
    offset,
    ...(write === undefined ? {} : { write: keepBytes(write, dataBytes) }),
    ...(readBytes === undefined ? {} : { readBytes }),
  });

  const irqHandle = (line: IrqLine, irq: IrqRef): IrqHandle => ({
    line,
    next: () =>
      run.call('irq.next', { irq }, ({ count, atNs }) => {
        const [now, then] = [run.clock.nowNs(), run.timeNs(atNs)];
        return { line, count, atNs: then < now ? then : now };
      }),
    readNow: () => run.call('irq.readNow', { irq }, same),
    ack: (count) => run.call('irq.ack', { irq, count }, done),
    mask: () => run.call('irq.mask', { irq }, done),
    unmask: () => run.call('irq.unmask', { irq }, done),
    trigger: () => run.call('irq.trigger', { irq }, done),
    close: () => run.call('irq.close', { irq }, done),
  });

  const dataChannel = (direction: DataChannel['direction'], data: number): DataChannel => ({
    direction,
    read: (maxBytes) => run.call('data.read', { data, maxBytes }, (chunk): Chunk => (chunk.kind === 'bytes' ? { kind: 'bytes', bytes: bytesOf(chunk.bytes) } : chunk)),
    write: (bytes) => defer(() => run.call('data.write', { data, bytes: keepBytes(bytes, dataBytes) }, done)),
    precopy: () => run.call('data.precopy', { data }, same),
    close: () => run.call('data.close', { data }, done),
  });

  const close = (how?: { readonly keepViews?: boolean }): void => { run.close(how?.keepViews === true); };

  return {
    name,
    clock: run.clock,
    traits: { pageSize, remapInOneTurn, syncAccess },
    released: run.released,
    info: () => run.call('info', {}, same),
    regionInfo: (index) => run.call('regionInfo', { index }, same),
    irqInfo: (index) => run.call('irqInfo', { index }, same),
    irq: ({ index, vector = 0 }: IrqLine, how?: IrqOptions) => run.call('irq', { index, vector, ackFd: how?.ackFd === true }, (_, call) => irqHandle({ index, vector }, [call, 0])),
    irqs: (index, vectors, how) =>
      run.call('irqs', { index, vectors, ackFd: how?.ackFd === true }, (_, call) => vectors.map((vector, place) => irqHandle({ index, vector }, [call, place]))),
    setIrqs: (act: IrqAct) => run.call('setIrqs', act, done),
    map: (region: number, { offset, size }: Area) =>
      run.call('map', { region, offset, size }, (_, call) => {
        const mapping: Mapping = { region, area: { offset, size }, memory: zeros(size) };
        mappings.set(mapping, call);
        return mapping;
      }),
    unmap: (mapping: Mapping, { offset, size }: Area = mapping.area) => run.call('unmap', { mapping: mappings.get(mapping) ?? 0, region: mapping.region, offset, size }, done),
    allocateDma: (bytes: number) =>
      run.call('allocateDma', { bytes }, ({ size }, call) => {
        const memory: DmaMemory = { memory: zeros(size), size, free: () => run.call('dma.free', { memory: call }, done) };
        memories.set(memory, call);
        return memory;
      }),
    dmaMap: ({ iova, size, source, offset = 0, read, write }: DmaMapRequest) =>
      run.call('dmaMap', { iova, size, source: memories.get(source as DmaMemory) ?? mappings.get(source as Mapping) ?? 0, offset, read, write }, same),
    dmaUnmap: ({ iova, size }: IovaRange) => run.call('dmaUnmap', { iova, size }, same),
    dmaLimits: () => run.call('dmaLimits', {}, same),
    dmaLogging: {
      start: (request) => run.call('dmaLogging.start', request, same),
      report: (part) => run.call('dmaLogging.report', part, bytesOf),
      stop: () => run.call('dmaLogging.stop', {}, done),
    },
    access: (request: AccessRequest) => defer(() => run.call('access', tracedAccess(request), bytesOf)),
    accessNow: (request: AccessRequest) => run.callNow('accessNow', tracedAccess(request), bytesOf),
    migration: () => run.call('migration', {}, same),
    getState: () => run.call('getState', {}, same),
    setState: (to: State) => run.call('setState', { to }, ({ state, data }, call) => (data === undefined ? { state } : { state, data: dataChannel(data, call) })),
    reset: () => run.call('reset', {}, done),
    lowPower: (enter: boolean) => run.call('lowPower', { enter }, done),
    close,
    [Symbol.asyncDispose]: () => {
      close();
      return lastValueFrom(run.released.pipe(map(() => undefined)), { defaultValue: undefined });
    },
  };
}
