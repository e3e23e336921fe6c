import { defer } from 'rxjs';
import type {
  AccessRequest, Area, Call, Chunk, DataChannel, DevicePort, DmaMapRequest, DmaMemory, IovaRange, IrqAct, IrqHandle, IrqLine, IrqOptions, Mapping, State,
} from '../port.js';
import type { IrqRef, TracedAccess } from '../trace/calls.js';
import { Recorder, type RecordingOptions, type TraceSink } from './recorder.js';

/**
 * The same port, and everything that crosses it is written down: each call with its arguments and its answer or error, irq
 * signals, what is mapped, the steps of the teardown; of data bytes as many of each call as `options` say.
 *
 * What is written is a trace: it can be drawn, and replayed where there is no device. Accesses to mapped memory do not cross
 * the port and are not in it. A port that is not recorded pays nothing.
 */
export function recordPort(port: DevicePort, sink: TraceSink, options: RecordingOptions = sink.recording ?? {}): DevicePort {
  const { name, clock, traits } = port;
  const { pageSize, remapInOneTurn, syncAccess } = traits;
  const recorder = new Recorder(sink, clock, { device: name, pageSize, remapInOneTurn, syncAccess }, options);
  const mappings = new WeakMap<Mapping, number>();
  /** The port knows its own memory by identity, and callers know the one that tells. */
  const memories = new WeakMap<DmaMemory, { readonly real: DmaMemory; readonly call: number }>();
  const done = (): [undefined, undefined] => [undefined, undefined];
  const same = <T>(value: T): [T, T] => [value, value];

  const tracedAccess = ({ region, offset, write, readBytes }: AccessRequest): TracedAccess => ({
    region,
    offset,
    ...(write === undefined ? {} : { write: recorder.keep(write) }),
    ...(readBytes === undefined ? {} : { readBytes }),
  });

  const irqHandle = (handle: IrqHandle, irq: IrqRef): IrqHandle => ({
    line: handle.line,
    next: () => recorder.call('irq.next', { irq }, handle.next(), (signal) => [{ count: signal.count, atNs: signal.atNs }, signal]),
    readNow: () => recorder.call('irq.readNow', { irq }, handle.readNow(), same),
    ack: (count) => recorder.call('irq.ack', { irq, count }, handle.ack(count), done),
    mask: () => recorder.call('irq.mask', { irq }, handle.mask(), done),
    unmask: () => recorder.call('irq.unmask', { irq }, handle.unmask(), done),
    trigger: () => recorder.call('irq.trigger', { irq }, handle.trigger(), done),
    close: () => recorder.call('irq.close', { irq }, handle.close(), done),
  });

  const dataChannel = (channel: DataChannel, data: number): DataChannel => ({
    direction: channel.direction,
    read: (maxBytes) => recorder.call('data.read', { data, maxBytes }, channel.read(maxBytes), (chunk: Chunk) => [chunk.kind === 'bytes' ? { kind: 'bytes', bytes: recorder.keep(chunk.bytes) } : chunk, chunk]),
    write: (bytes) => defer(() => recorder.call('data.write', { data, bytes: recorder.keep(bytes) }, channel.write(bytes), done)),
    precopy: () => recorder.call('data.precopy', { data }, channel.precopy(), same),
    close: () => recorder.call('data.close', { data }, channel.close(), done),
  });

  const dmaMemory = (real: DmaMemory, call: number): DmaMemory => {
    const told: DmaMemory = { memory: real.memory, size: real.size, free: () => recorder.call('dma.free', { memory: call }, real.free(), done) };
    memories.set(told, { real, call });
    return told;
  };

  port.released.subscribe({
    next: ({ what, error }) => { recorder.released(what, error); },
    // It never fails.
    error: () => undefined,
    complete: () => {
      recorder.released(undefined);
      recorder.end();
    },
  });

  const close = (closing?: { readonly keepViews?: boolean }): void => {
    recorder.callNow('close', { keepViews: closing?.keepViews === true }, () => { port.close(closing); }, () => undefined);
  };

  return {
    name,
    clock,
    traits,
    released: port.released,
    info: () => recorder.call('info', {}, port.info(), same),
    regionInfo: (index) => recorder.call('regionInfo', { index }, port.regionInfo(index), same),
    irqInfo: (index) => recorder.call('irqInfo', { index }, port.irqInfo(index), same),
    irq: (line: IrqLine, how?: IrqOptions): Call<IrqHandle> =>
      recorder.call('irq', { index: line.index, vector: line.vector ?? 0, ackFd: how?.ackFd === true }, port.irq(line, how), (handle, call) => [undefined, irqHandle(handle, [call, 0])]),
    irqs: (index: number, vectors: readonly number[], how?: IrqOptions): Call<readonly IrqHandle[]> =>
      recorder.call('irqs', { index, vectors, ackFd: how?.ackFd === true }, port.irqs(index, vectors, how), (handles, call) => [undefined, handles.map((handle, place) => irqHandle(handle, [call, place]))]),
    setIrqs: (act: IrqAct) => recorder.call('setIrqs', act, port.setIrqs(act), done),
    map: (region: number, area: Area) =>
      recorder.call('map', { region, offset: area.offset, size: area.size }, port.map(region, area), (mapping, call) => {
        mappings.set(mapping, call);
        return [undefined, mapping];
      }),
    unmap: (mapping: Mapping, area?: Area) => {
      const { offset, size } = area ?? mapping.area;
      return recorder.call('unmap', { mapping: mappings.get(mapping) ?? 0, region: mapping.region, offset, size }, port.unmap(mapping, area), done);
    },
    allocateDma: (bytes: number) => recorder.call('allocateDma', { bytes }, port.allocateDma(bytes), (memory, call) => [{ size: memory.size }, dmaMemory(memory, call)]),
    dmaMap: (request: DmaMapRequest) => {
      const memory = memories.get(request.source as DmaMemory);
      const { iova, size, offset = 0, read, write } = request;
      const source = memory?.call ?? mappings.get(request.source as Mapping) ?? 0;
      return recorder.call('dmaMap', { iova, size, source, offset, read, write }, port.dmaMap(memory === undefined ? request : { ...request, source: memory.real }), same);
    },
    dmaUnmap: ({ iova, size }: IovaRange) => recorder.call('dmaUnmap', { iova, size }, port.dmaUnmap({ iova, size }), same),
    dmaLimits: () => recorder.call('dmaLimits', {}, port.dmaLimits(), same),
    dmaLogging: {
      start: (request) => recorder.call('dmaLogging.start', request, port.dmaLogging.start(request), same),
      report: (part) => recorder.call('dmaLogging.report', part, port.dmaLogging.report(part), (bits) => [recorder.keep(bits), bits]),
      stop: () => recorder.call('dmaLogging.stop', {}, port.dmaLogging.stop(), done),
    },
    access: (request: AccessRequest) => defer(() => recorder.call('access', tracedAccess(request), port.access(request), (bytes) => [recorder.keep(bytes), bytes])),
    accessNow: (request: AccessRequest) => recorder.callNow('accessNow', tracedAccess(request), () => port.accessNow(request), (bytes) => recorder.keep(bytes)),
    migration: () => recorder.call('migration', {}, port.migration(), same),
    getState: () => recorder.call('getState', {}, port.getState(), same),
    setState: (to: State) =>
      recorder.call('setState', { to }, port.setState(to), ({ state, data }, call) =>
        data === undefined ? [{ state }, { state }] : [{ state, data: data.direction }, { state, data: dataChannel(data, call) }]),
    reset: () => recorder.call('reset', {}, port.reset(), done),
    lowPower: (enter: boolean) => recorder.call('lowPower', { enter }, port.lowPower(enter), done),
    close,
    [Symbol.asyncDispose]: () => {
      close();
      return port[Symbol.asyncDispose]();
    },
  };
}
