import { timeout } from 'rxjs';
import { VfioError, type VfioErrorCode } from '../../src/errors.js';
import type { Call, DevicePort, IrqHandle, IrqSignal, StateReply } from '../../src/devices/port.js';
import type { DriverScript, Witness } from '../support/witness.js';

/** A port, freshly opened, with its driver's two faces. */
export interface OpenPort {
  readonly port: DevicePort;
  readonly witness: Witness;
  readonly script: DriverScript;
}

/** How the suite gets its ports. Every one shows the sample driver's face; see `face`. */
export interface PortHarness {
  /** A device of its own each time, or one whose trace was cleared: the checks count what they find there. */
  openPort(options?: { readonly ackTimeoutMs?: number }): Promise<OpenPort>;
  /** Closes whatever the check left open. After each check. */
  dispose(): Promise<void>;
  /** How long a check waits for something that must happen, ms. */
  readonly patienceMs: number;
  /** An ack timeout that leaves time to look at the wait, and that a check can wait out, ms. */
  readonly briefMs: number;
}

/** What the sample vendor driver looks like, kernel and software alike. */
export const face = {
  /** 64 KiB, mmappable as a whole, not in the saving group. */
  mailbox: 0,
  /** 128 KiB, two sparse areas, the second not offered in the saving group. */
  sparse: 1,
  /** 4 KiB, never mmappable. */
  trapped: 2,
  intx: { index: 0 },
  msi: { index: 1 },
  remap: { index: 5 },
  whole: { offset: 0, size: 0x1_0000 },
  firstArea: { offset: 0, size: 0x8000 },
  secondArea: { offset: 0x1_0000, size: 0x8000 },
  irqs: 6,
} as const;

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

/** A failed expectation of a check, in words. */
export function demand(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

/** The steps that the checks share, bound to one harness's patience. */
export class Steps {
  readonly #patienceMs: number;

  constructor(harness: PortHarness) {
    this.#patienceMs = harness.patienceMs;
  }

  /** The one value of a call, whenever it comes, within the patience. */
  value<T>(call: Call<T>, what: string): Promise<T> {
    return new Promise((resolve, reject) => {
      let value: { readonly arrived: T } | undefined;
      call.pipe(timeout({ each: this.#patienceMs, with: () => { throw new Error(`${what} did not come within ${this.#patienceMs} ms`); } })).subscribe({
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
    await this.value(port.access({ region: face.trapped, offset: 0, readBytes: 4 }), 'a trapped read');
  }

  /** A driver revokes nothing while nobody listens: registers the remap irq. */
  enableRemaps(port: DevicePort): Promise<IrqHandle> {
    return this.value(port.irq(face.remap, { ackFd: true }), 'the registration');
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

/** One rule's test. `check` throws where the port breaks the rule. */
export interface PortCheck {
  readonly rule: `PORT-${number}`;
  readonly name: string;
  readonly check: (harness: PortHarness) => Promise<void>;
  /** Part of the driver's script that not every driver has. */
  readonly needs?: 'lieAboutRegion';
}
