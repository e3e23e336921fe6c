import { timeout } from 'rxjs';
import { realClock, type Clock } from '../../clock.js';
import { VfioError, type VfioErrorCode } from '../../errors.js';
import type { Call } from '../../devices/port.js';
import { demand } from './rule.js';

/** How long a check waits for something that must happen, and on which clock. */
export interface PatienceOptions {
  readonly patienceMs: number;
  readonly clock?: Clock;
}

/** What checks expect of calls, within a patience. */
export class Patience {
  readonly ms: number;
  readonly clock: Clock;

  constructor({ patienceMs, clock = realClock }: PatienceOptions) {
    this.ms = patienceMs;
    this.clock = clock;
  }

  /** The one value of a call, whenever it comes, within the patience. */
  value<T>(call: Call<T>, what: string): Promise<T> {
    return new Promise((resolve, reject) => {
      let value: { readonly arrived: T } | undefined;
      call.pipe(timeout({ each: this.ms, scheduler: this.clock.scheduler, with: () => { throw new Error(`${what} did not come within ${this.ms} ms`); } })).subscribe({
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
