import { setImmediate } from 'node:timers/promises';
import { defer, map, type Observable, type Subscription } from 'rxjs';
import type { VfioDevice } from '../../devices/device.js';
import { openDevice } from '../../devices/open.js';
import type { DevicePort, IrqHandle } from '../../devices/port.js';
import type { SoftwareVendorDriver } from '../../devices/software/driver-face.js';
import type { SoftwareDeviceOptions } from '../../devices/software/options.js';
import { softwareDevice } from '../../devices/software/software-device.js';
import { FrameScheduler } from '../frame-scheduler.js';
import { VirtualClock } from '../virtual-clock.js';
import { demand } from './rule.js';

/** What a subscription has heard so far. */
export interface Heard<T> {
  readonly values: T[];
  /** The frame of each value. */
  readonly frames: number[];
  readonly errors: unknown[];
  completed: boolean;
  readonly subscription: Subscription;
}

/** A software device on virtual time, and who asked it for what: the place where rules of streams and operators are checked. */
export class VirtualBench {
  readonly device: VfioDevice;
  readonly driver: SoftwareVendorDriver;
  /** Every call of the port and of its irqs, as it was subscribed. */
  readonly calls: string[] = [];
  readonly #scheduler = new FrameScheduler('us');

  constructor(options: SoftwareDeviceOptions = {}) {
    const software = softwareDevice(options);
    this.driver = software.driver;
    const opened: VfioDevice[] = [];
    const failed: unknown[] = [];
    const source = { open: (clock: VirtualClock) => software.open(clock).pipe(map((port) => counted(port, this.calls))) };
    openDevice(source, { clock: new VirtualClock(this.#scheduler) }).subscribe({ next: (device) => opened.push(device), error: (error: unknown) => failed.push(error) });
    this.#scheduler.settle();
    const [device] = opened;
    if (device === undefined) throw new Error(`${software.name} did not open`, { cause: failed[0] });
    this.device = device;
  }

  get frame(): number {
    return this.#scheduler.frame;
  }

  /** Timers that somebody has set and not taken back. */
  get timers(): number {
    return this.#scheduler.actions.filter(({ closed }) => !closed).length;
  }

  /** Does something in virtual time, also for what asks rxjs's own schedulers. */
  run<T>(work: () => T): T {
    return this.#scheduler.run(() => {
      const result = work();
      this.#scheduler.maxFrames = this.#scheduler.frame;
      return result;
    });
  }

  /** Lets virtual time pass. Only inside `run`. */
  pass(ms: number): void {
    this.#scheduler.pass(ms);
  }

  /** Lets Promises run, and what they make due at once: no time passes for them. */
  async turn(): Promise<void> {
    for (let n = 0; n < 3; n += 1) {
      await setImmediate();
      this.run(() => this.pass(0));
    }
  }

  listen<T>(source: Observable<T>, heard?: (value: T) => void): Heard<T> {
    const seen: Omit<Heard<T>, 'subscription'> = { values: [], frames: [], errors: [], completed: false };
    const subscription = source.subscribe({
      next: (value) => {
        seen.values.push(value);
        seen.frames.push(this.frame);
        heard?.(value);
      },
      error: (error: unknown) => seen.errors.push(error),
      complete: () => {
        seen.completed = true;
      },
    });
    return Object.assign(seen, { subscription });
  }

  /** What is registered and waits, in words: what a subscription that has ended must have given back. */
  get held(): string {
    const { irqs, waiters } = this.driver;
    return `${irqs} eventfds, ${waiters} blocked writes, ${this.timers} timers`;
  }

  /** Closes the device; fails where something stays. */
  close(): void {
    void this.device.close();
    this.pass(patienceMs);
    const { opens, vmas, irqs } = this.driver;
    demand(opens + vmas + irqs === 0, `closing the device should leave nothing: opens ${opens}, vmas ${vmas}, irqs ${irqs}`);
  }
}

/** How long a rule waits for what must happen, ms of virtual time: longer than any bound of the library. */
export const patienceMs = 30_000;

/** The port, whose calls are written down as they are made. */
function counted(port: DevicePort, calls: string[]): DevicePort {
  const irqCalls = ['next', 'readNow', 'ack', 'mask', 'unmask', 'trigger'];
  const irqOf = (handle: IrqHandle): IrqHandle => noted(handle, irqCalls, 'irq.', calls);
  const inner = noted(port, ['info', 'regionInfo', 'irqInfo', 'setIrqs', 'map', 'unmap', 'allocateDma', 'dmaMap', 'dmaUnmap', 'dmaLimits', 'access', 'migration', 'getState', 'setState', 'reset', 'lowPower'], '', calls);
  return new Proxy(inner, {
    get(target, key) {
      if (key === 'irq') return (...args: Parameters<DevicePort['irq']>) => noting('irq', calls, () => port.irq(...args).pipe(map(irqOf)));
      if (key === 'irqs') return (...args: Parameters<DevicePort['irqs']>) => noting('irqs', calls, () => port.irqs(...args).pipe(map((handles) => handles.map(irqOf))));
      return Reflect.get(target, key) as unknown;
    },
  });
}

function noted<T extends object>(whole: T, names: readonly string[], prefix: string, calls: string[]): T {
  return new Proxy(whole, {
    get(target, key) {
      const value = Reflect.get(target, key, target) as unknown;
      if (typeof value !== 'function') return value;
      const method = value.bind(target) as (...args: unknown[]) => Observable<unknown>;
      const name = String(key);
      return names.includes(name) ? (...args: unknown[]) => noting(`${prefix}${name}`, calls, () => method(...args)) : method;
    },
  });
}

function noting<T>(name: string, calls: string[], call: () => Observable<T>): Observable<T> {
  return defer(() => {
    calls.push(name);
    return call();
  });
}
