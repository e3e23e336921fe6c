import { lastValueFrom, timeout, toArray } from 'rxjs';
import { realClock } from '../../../clock.js';
import { VfioError, type VfioErrorCode } from '../../../errors.js';
import type { Call, DevicePort, IrqHandle, IrqSignal, ReleaseReport, StateReply } from '../../../devices/port.js';
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

/** The steps that the checks share, bound to one harness's patience. */
export class Steps {
  readonly #harness: PortHarness;

  constructor(harness: PortHarness) {
    this.#harness = harness;
  }

  /** The one value of a call, whenever it comes, within the patience. */
  value<T>(call: Call<T>, what: string): Promise<T> {
    const { patienceMs, clock = realClock } = this.#harness;
    return new Promise((resolve, reject) => {
      let value: { readonly arrived: T } | undefined;
      call.pipe(timeout({ each: patienceMs, scheduler: clock.scheduler, with: () => { throw new Error(`${what} did not come within ${patienceMs} ms`); } })).subscribe({
        next: (arrived) => {
          if (value !== undefined) reject(new Error(`${what} came twice: a call has one value`));
          value = { arrived };
        },
        error: reject,
        complete: () => {
          if (value === undefined) reject(new Error(`${what} completed without a value`));
          else resolve(value.arrived);
        },
      });
    });
  }

  /** The code with which a call fails. */
  async failure(call: Call<unknown>, what: string): Promise<{ readonly code: VfioErrorCode; readonly errno: string | undefined; readonly message: string }> {
    let value: unknown;
    try {
      value = await this.value(call, what);
    } catch (error) {
      if (VfioError.is(error)) return error;
      throw error;
    }
    throw new Error(`${what} should have failed, it brought ${typeof value}`);
  }

  async fails(code: VfioErrorCode, call: Call<unknown>, what: string): Promise<void> {
    const error = await this.failure(call, what);
    demand(error.code === code, `${what} should have failed with ${code}, it failed with ${error.message}`);
  }

  /** Lets turns pass: a round trip on the device's access lane. */
  async turns(port: DevicePort): Promise<void> {
    await this.value(port.access({ region: sampleFace.trapped, offset: 0, readBytes: 4 }), 'a trapped read');
  }

  /** What the teardown of a port that was closed has done. */
  released(port: DevicePort): Promise<readonly ReleaseReport[]> {
    const { patienceMs, clock = realClock } = this.#harness;
    return lastValueFrom(port.released.pipe(toArray(), timeout({ each: patienceMs, scheduler: clock.scheduler, with: () => { throw new Error('released did not complete'); } })), { defaultValue: [] });
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

export type Settled<T> = { readonly value: T } | { readonly error: unknown };

/** A promise that never rejects, so that one which nobody awaits yet is no unhandled rejection. */
export function settled<T>(promise: Promise<T>): Promise<Settled<T>> {
  return promise.then((value) => ({ value }), (error: unknown) => ({ error }));
}

/** The value of what must have gone well. */
export function success<T>(outcome: Settled<T>, what: string): T {
  if ('error' in outcome) throw new Error(`${what}: ${codeOf(outcome)}`);
  return outcome.value;
}

export function codeOf(outcome: Settled<unknown>): string {
  if ('value' in outcome) return 'success';
  return VfioError.is(outcome.error) ? outcome.error.code : String(outcome.error);
}
