import { lastValueFrom, timeout, toArray } from 'rxjs';
import type { Call, DevicePort, IrqHandle, IrqSignal, ReleaseReport, StateReply } from '../../../devices/port.js';
import { Patience, settled, type Settled } from '../patience.js';
import { demand } from '../rule.js';
import { sampleFace, type OpenPort, type PortHarness } from './harness.js';

/** What a call brought inside subscribe(). */
export interface AtOnce<T> {
  readonly value: T | undefined;
  readonly error: unknown;
  readonly answered: boolean;
}

export function atOnce<T>(call: Call<T>): AtOnce<T> {
  let seen: AtOnce<T> = { value: undefined, error: undefined, answered: false };
  const subscription = call.subscribe({
    next: (value) => { seen = { ...seen, value }; },
    error: (error: unknown) => { seen = { ...seen, error, answered: true }; },
    complete: () => { seen = { ...seen, answered: true }; },
  });
  subscription.unsubscribe();
  return seen;
}

/** The steps that the checks of a port share, with one harness's patience. */
export class Steps extends Patience {
  readonly #readable: number;

  constructor(harness: PortHarness) {
    super(harness);
    this.#readable = harness.readable ?? sampleFace.trapped;
  }

  /** Lets turns pass: a round trip on the device's access lane. */
  async turns(port: DevicePort): Promise<void> {
    await this.value(port.access({ region: this.#readable, offset: 0, readBytes: 4 }), 'a trapped read');
  }

  /** What the teardown of a port that was closed has done. */
  released(port: DevicePort): Promise<readonly ReleaseReport[]> {
    return lastValueFrom(port.released.pipe(toArray(), timeout({ each: this.ms, scheduler: this.clock.scheduler, with: () => { throw new Error('released did not complete'); } })), { defaultValue: [] });
  }

  /** A driver revokes nothing while nobody listens: registers the remap irq. */
  enableRemaps(port: DevicePort): Promise<IrqHandle> {
    return this.value(port.irq(sampleFace.remap, { ackFd: true }), 'the registration');
  }

  /** Registers the remap irq and starts a write of device_state; resolves while the driver waits for its ack. */
  async blocked(opened: OpenPort): Promise<{ readonly irq: IrqHandle; readonly signal: IrqSignal; readonly set: Promise<Settled<StateReply>> }> {
    const { port, witness } = opened;
    const irq = await this.enableRemaps(port);
    const next = this.value(irq.next(), 'the signal of the remap irq');
    const set = settled(this.value(port.setState('stop-copy'), 'the write of device_state'));
    const signal = await next;
    demand(witness.waiters === 1, `the driver should wait now, waiters is ${witness.waiters}`);
    return { irq, signal, set };
  }
}
