import { map, type Observable } from 'rxjs';
import type { Clock } from '../../src/clock.js';
import { VfioDevice } from '../../src/devices/device.js';
import type { PortSource } from '../../src/devices/open.js';
import { observedPort } from '../../src/devices/observed-port.js';
import type { DevicePort, IrqHandle, RegionInfo } from '../../src/devices/port.js';
import type { SoftwareVendorDriver } from '../../src/devices/software/driver-face.js';
import type { SoftwareDeviceOptions } from '../../src/devices/software/options.js';
import { softwareDevice } from '../../src/devices/software/software-device.js';
import { VfioError, type VfioErrorCode } from '../../src/errors.js';

/** What a call that answers inside subscribe() says. Throws what it fails with. */
export function now<T>(call: Observable<T>): T {
  const answers: T[] = [];
  const failures: unknown[] = [];
  call.subscribe({ next: (value) => answers.push(value), error: (error: unknown) => failures.push(error) }).unsubscribe();
  if (failures.length > 0) throw failures[0];
  if (answers.length === 0) throw new Error('the call has not answered yet');
  return answers[0] as T;
}

/** The code of what `work` throws. */
export function codeOf(work: () => unknown): VfioErrorCode | 'nothing thrown' {
  try {
    work();
  } catch (error) {
    if (VfioError.is(error)) return error.code;
    throw error;
  }
  return 'nothing thrown';
}

/** Some calls of a port, made otherwise. */
export type Alter = (port: DevicePort) => Partial<DevicePort>;

const asItIs: Alter = () => ({});

export function altered(port: DevicePort, alter: Alter): DevicePort {
  return {
    name: port.name,
    clock: port.clock,
    traits: port.traits,
    released: port.released,
    info: () => port.info(),
    regionInfo: (index) => port.regionInfo(index),
    irqInfo: (index) => port.irqInfo(index),
    irq: (line, options) => port.irq(line, options),
    irqs: (index, vectors, options) => port.irqs(index, vectors, options),
    setIrqs: (act) => port.setIrqs(act),
    map: (region, area) => port.map(region, area),
    unmap: (mapping, area) => port.unmap(mapping, area),
    allocateDma: (bytes) => port.allocateDma(bytes),
    dmaMap: (request) => port.dmaMap(request),
    dmaUnmap: (range) => port.dmaUnmap(range),
    dmaLimits: () => port.dmaLimits(),
    access: (request) => port.access(request),
    accessNow: (request) => port.accessNow(request),
    migration: () => port.migration(),
    getState: () => port.getState(),
    setState: (to) => port.setState(to),
    reset: () => port.reset(),
    lowPower: (enter) => port.lowPower(enter),
    dmaLogging: port.dmaLogging,
    close: () => port.close(),
    [Symbol.asyncDispose]: () => port[Symbol.asyncDispose](),
    ...alter(port),
  };
}

/** Some calls of an irq, made otherwise. */
export function alteredIrq(handle: IrqHandle, change: Partial<IrqHandle>): IrqHandle {
  return {
    line: handle.line,
    next: () => handle.next(),
    readNow: () => handle.readNow(),
    ack: (count) => handle.ack(count),
    mask: () => handle.mask(),
    unmask: () => handle.unmask(),
    trigger: () => handle.trigger(),
    close: () => handle.close(),
    ...change,
  };
}

/** A software device whose port is altered as soon as it is open, for `openDevice`. */
export function softwareSource(options: SoftwareDeviceOptions = {}, alter: Alter = asItIs): PortSource & { readonly driver: SoftwareVendorDriver } {
  const software = softwareDevice(options);
  return { driver: software.driver, open: (clock) => software.open(clock).pipe(map((port) => altered(port, alter))) };
}

export interface Opened {
  readonly device: VfioDevice;
  readonly driver: SoftwareVendorDriver;
}

/**
 * A software device, open at once: what `openDevice` does, less the turn in which it asks for device_state, so that the
 * body of a marble test has its device before frame 0. On the lanes stands only what comes after.
 */
export function openedNow(clock: Clock, options: SoftwareDeviceOptions = {}, alter: Alter = asItIs): Opened {
  const software = softwareDevice(options);
  const port = altered(now(software.open(clock)), alter);
  const info = now(port.info());
  const regions: RegionInfo[] = [];
  for (let index = 0; index < info.regions; index += 1) regions.push(now(port.regionInfo(index)));
  const migration = now(port.migration());
  const device = new VfioDevice(observedPort(port), { info, regions: regions.filter(({ size }) => size > 0), migration, state: 'running' });
  return { device, driver: software.driver };
}

/** Two regions of two pages; outside the saving group all of them may be mapped, inside it nothing. */
export const twoRegions: SoftwareDeviceOptions = {
  regions: [
    { index: 0, size: 0x2000, areas: 'all', savingAreas: [] },
    { index: 1, size: 0x2000, areas: 'all', savingAreas: [] },
  ],
  mailbox: false,
};

export const whole = { offset: 0, size: 0x2000 };
export const firstPage = { offset: 0, size: 0x1000 };
export const secondPage = { offset: 0x1000, size: 0x1000 };
