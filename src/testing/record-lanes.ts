import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { portChannel, type PortEvent } from '../diagnostics.js';

/** What happened at the ports of some devices, oldest first. */
export interface LaneRecording extends Disposable {
  /** At most `capacity`: the latest. */
  readonly events: readonly PortEvent[];
  /** How many older ones had to make room. */
  readonly dropped: number;
  /** Ends the recording; what was recorded stays. Idempotent. */
  stop(): void;
}

/** How much a recording keeps. */
export interface RecordOptions {
  /** Events; 10,000 unless told. The oldest make room. */
  readonly capacity?: number;
}

/**
 * Records what happens at the port of one device, of several, or (without names) of all, until `stop()`.
 *
 * Works on every port, also on a real kernel's; it costs what it keeps, and nothing when it is off.
 *
 * ```ts
 * using recording = recordLanes('eth-vf0');
 * // ... the run ...
 * console.log(renderDiagram(recording.events));
 * ```
 */
export function recordLanes(devices?: string | readonly string[], { capacity = 10_000 }: RecordOptions = {}): LaneRecording {
  if (!Number.isInteger(capacity) || capacity < 1) throw new RangeError(`a recording keeps at least one event, not ${capacity}`);
  const names = devices === undefined ? undefined : new Set(typeof devices === 'string' ? [devices] : devices);
  const ring: PortEvent[] = [];
  let recorded = 0;
  // The channel calls with its own name as a second argument, and with whatever a publisher hands it.
  const record = (event: unknown): void => {
    const one = event as PortEvent;
    if (names !== undefined && !names.has(one.device)) return;
    ring[recorded % capacity] = one;
    recorded += 1;
  };
  subscribe(portChannel.name, record);
  const stop = (): void => {
    unsubscribe(portChannel.name, record);
  };
  return {
    get events() {
      const oldest = recorded % capacity;
      return recorded <= capacity ? [...ring] : [...ring.slice(oldest), ...ring.slice(0, oldest)];
    },
    get dropped() {
      return Math.max(0, recorded - capacity);
    },
    stop,
    [Symbol.dispose]: stop,
  };
}
