import type { State } from '../port.js';
import { recordBytes, SaveSession, type Session } from './state-stream.js';

/**
 * What a device has to say while it runs, as a script sets it: filling that its reader takes for data, in sizes of 16 bytes or more.
 * By itself a session has its header (16 initial bytes) and nothing that is dirty.
 */
export class PreCopyScript {
  readonly #machine: () => { readonly state: State; readonly session: Session | undefined };
  #initialBytes = 0;

  /** @internal */
  constructor(machine: () => { readonly state: State; readonly session: Session | undefined }) {
    this.#machine = machine;
  }

  /** Initial bytes of every session from now on, beside the header's; 0 for none. */
  get initialBytes(): number {
    return this.#initialBytes;
  }

  set initialBytes(bytes: number) {
    if (bytes !== 0) requireRecord(bytes);
    this.#initialBytes = bytes;
  }

  /** So many bytes more are dirty. RangeError where no session is in a PRE_COPY state. */
  dirty(bytes: number): void {
    requireRecord(bytes);
    this.#saving().fill(bytes, false);
  }

  /** So many initial bytes more, and whatever is unread is initial again (PRECOPY_INFOv2's REINIT). RangeError as `dirty`. */
  reinit(bytes: number): void {
    requireRecord(bytes);
    this.#saving().reinit(bytes);
  }

  /** What the state machine tells: a session of saving begins. @internal */
  begins(session: Session): void {
    if (session instanceof SaveSession && this.#initialBytes > 0) session.fill(this.#initialBytes, true);
  }

  #saving(): SaveSession {
    const { state, session } = this.#machine();
    if (session instanceof SaveSession && state !== 'stop-copy') return session;
    throw new RangeError(`the device is in ${state}: no PRE_COPY state`);
  }
}

function requireRecord(bytes: number): void {
  if (!Number.isSafeInteger(bytes) || bytes < recordBytes) throw new RangeError(`filling takes ${recordBytes} bytes or more, not ${bytes}`);
}
