import type { Observable } from 'rxjs';
import { VfioError } from '../../../src/errors.js';
import type { DevicePort, IrqHandle } from '../../../src/devices/port.js';
import type { SoftwareDeviceOptions } from '../../../src/devices/software/options.js';
import { softwareDevice, type SoftwareDevice } from '../../../src/devices/software/software-device.js';
import { virtualClock, type VirtualClock } from '../../support/virtual-clock.js';

/** The value of a call that answers inside subscribe(); what it fails with is thrown. */
export function now<T>(call: Observable<T>): T {
  const seen = watch(call);
  if (seen.error !== undefined) throw seen.error;
  if (seen.values.length !== 1 || !seen.complete) throw new Error('this call did not answer inside subscribe()');
  return seen.values[0] as T;
}

/** What a call has brought so far. */
export interface Watched<T> {
  readonly values: readonly T[];
  readonly error: VfioError | undefined;
  readonly complete: boolean;
  stop(): void;
}

export function watch<T>(call: Observable<T>): Watched<T> {
  const values: T[] = [];
  const seen: { values: T[]; error: VfioError | undefined; complete: boolean; stop: () => void } = { values, error: undefined, complete: false, stop: () => undefined };
  const subscription = call.subscribe({
    next: (value) => values.push(value),
    error: (error: unknown) => { seen.error = VfioError.is(error) ? error : undefined; if (seen.error === undefined) throw error; },
    complete: () => { seen.complete = true; },
  });
  seen.stop = () => { subscription.unsubscribe(); };
  return seen;
}

/** The code of what a call that answers at once fails with. */
export function failure(call: Observable<unknown>): string {
  const { error, values } = watch(call);
  return error?.code ?? `no error, ${values.length} values`;
}

export interface Opened {
  readonly clock: VirtualClock;
  readonly device: SoftwareDevice;
  readonly port: DevicePort;
}

/** A device on virtual time, opened. */
export function opened(options: SoftwareDeviceOptions = {}): Opened {
  const clock = virtualClock();
  const device = softwareDevice(options);
  return { clock, device, port: now(device.open(clock)) };
}

/** The same with its remap irq registered. */
export function registered(options: SoftwareDeviceOptions = {}): Opened & { readonly irq: IrqHandle } {
  const all = opened(options);
  return { ...all, irq: now(all.port.irq({ index: 5 }, { ackFd: true })) };
}

/** The trace from the first of these words on, as text. */
export function traced(device: SoftwareDevice, ...words: readonly string[]): readonly string[] {
  return device.driver.trace
    .filter(({ event }) => words.length === 0 || words.includes(event))
    .map(({ event, fields }) => [event, ...Object.entries(fields).map(([name, value]) => `${name}=${value}`)].join(' '));
}
