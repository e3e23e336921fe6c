import type { Clock } from '../clock.js';
import type { Call } from '../devices/port.js';
import { VfioError } from '../errors.js';

/** Bytes in both directions, pulled (law 8): between processes, or inside one. */
export interface Connection {
  /** How messages name the other end. */
  readonly name: string;
  /**
   * The next bytes, one at least, good until the next call; undefined once the other side has ended. One at a time. Unsubscribing takes
   * nothing away: what came meanwhile is the next read's. `into` is where they may be put in place of memory of the connection's own, no
   * more than it holds; one that does so answers when it is full, and says before that how much of it is, as it comes. Fails with VFIO_E_LINK, over TLS with VFIO_E_UNTRUSTED.
   */
  read(into?: Uint8Array, came?: (bytes: number) => void): Call<Uint8Array | undefined>;
  /** All parts, one after the other; answers when there is room for more, and the bytes are the caller's again. One at a time. Fails as `read`. */
  write(parts: readonly Uint8Array[]): Call<void>;
  /** *Now.* What was written still arrives, where it can. Idempotent. */
  close(): void;
}

/** A way to the other side. Each `open` is one connection; unsubscribing before it has come releases what was opened. */
export interface Transport {
  readonly name: string;
  /** Fails with VFIO_E_LINK, VFIO_E_ADDRESS. */
  open(clock: Clock): Call<Connection>;
}

export function linkError(name: string, what: string, cause?: unknown): VfioError {
  return new VfioError('VFIO_E_LINK', what, { operation: 'connection', device: name, cause });
}
