import { map, tap } from 'rxjs';
import { irqChannel, portChannel, type Lane, type PortEvent } from '../diagnostics.js';
import { ask, directCall, type Asker } from './call.js';
import type { AccessRequest, Area, Call, DevicePort, DmaMapRequest, IovaRange, IrqAct, IrqHandle, IrqLine, IrqOptions, Mapping, State, StateReply } from './port.js';

/**
 * The same port, whose calls are told on `portChannel` once they have succeeded (device_state: when it begins and ends), and
 * whose irqs on `irqChannel`.
 * One wrapper instruments every port alike, so that a diagram of a kernel device and of a software device read the same.
 */
export function observedPort(port: DevicePort): DevicePort {
  const publish = (lane: Lane, label: string, more?: Partial<PortEvent>): void => {
    if (portChannel.hasSubscribers) portChannel.publish({ device: port.name, atNs: port.clock.nowNs(), lane, label, ...more });
  };

  /** A call whose answer is told. Where nobody listens it is the call itself: these are made while a driver waits. */
  const told = <T>(call: Call<T>, tell: () => void): Call<T> => (portChannel.hasSubscribers ? call.pipe(tap(tell)) : call);

  const signalled = ({ index, vector = 0 }: IrqLine, count: bigint, atNs: bigint): void => irqChannel.publish({ device: port.name, atNs, index, vector, count });

  const observedIrq = (handle: IrqHandle): IrqHandle => ({
    line: handle.line,
    next: () => (irqChannel.hasSubscribers ? handle.next().pipe(tap(({ line, count, atNs }) => signalled(line, count, atNs))) : handle.next()),
    readNow: () => handle.readNow(),
    ack: (count: bigint) => told(handle.ack(count), () => publish('ack', `${count}`)),
    mask: () => handle.mask(),
    unmask: () => handle.unmask(),
    trigger: () => handle.trigger(),
    close: () => handle.close(),
  });

  const observedState = (to: State): Call<StateReply> =>
    directCall<StateReply>((asker) => {
      publish('state', to, { phase: 'begin' });
      return ask(port.setState(to), new StateEnd(asker, publish));
    });

  return {
    name: port.name,
    clock: port.clock,
    traits: port.traits,
    released: port.released,
    info: () => port.info(),
    regionInfo: (index: number) => told(port.regionInfo(index), () => publish('query', `q${index}`, { region: index })),
    irqInfo: (index: number) => port.irqInfo(index),
    irq: (line: IrqLine, options?: IrqOptions) => port.irq(line, options).pipe(map(observedIrq)),
    irqs: (index: number, vectors: readonly number[], options?: IrqOptions) => port.irqs(index, vectors, options).pipe(map((handles) => handles.map(observedIrq))),
    setIrqs: (act: IrqAct) => port.setIrqs(act),
    map: (region: number, area: Area) => told(port.map(region, area), () => publish('map', `m${region}`, { region, area })),
    unmap: (mapping: Mapping, area: Area = mapping.area) =>
      told(port.unmap(mapping, area), () => publish('unmap', `u${mapping.region}`, { region: mapping.region, area })),
    allocateDma: (bytes: number) => port.allocateDma(bytes),
    dmaMap: (request: DmaMapRequest) => port.dmaMap(request),
    dmaUnmap: (range: IovaRange) => port.dmaUnmap(range),
    dmaLimits: () => port.dmaLimits(),
    access: (request: AccessRequest) => port.access(request),
    accessNow: (request: AccessRequest) => port.accessNow(request),
    migration: () => port.migration(),
    getState: () => port.getState(),
    setState: observedState,
    reset: () => port.reset(),
    lowPower: (enter: boolean) => port.lowPower(enter),
    dmaLogging: port.dmaLogging,
    close: (options) => port.close(options),
    [Symbol.asyncDispose]: () => port[Symbol.asyncDispose](),
  };
}

/** Tells how a write of device_state ends, before its caller hears of it. */
class StateEnd implements Asker<StateReply> {
  readonly #asker: Asker<StateReply>;
  readonly #publish: (lane: Lane, label: string, more: Partial<PortEvent>) => void;

  constructor(asker: Asker<StateReply>, publish: (lane: Lane, label: string, more: Partial<PortEvent>) => void) {
    this.#asker = asker;
    this.#publish = publish;
  }

  get closed(): boolean {
    return this.#asker.closed;
  }

  answered(reply: StateReply): void {
    this.#publish('state', reply.state, { phase: 'end' });
    this.#asker.answered(reply);
  }

  failed(error: unknown): void {
    this.#publish('state', 'error', { phase: 'end', error });
    this.#asker.failed(error);
  }
}
