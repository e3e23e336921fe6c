import type { Observable } from 'rxjs';
import type { RemapAgreement } from './protocol/negotiation.js';

/** The remap pipeline of a device, as the device and `transition` see it. */
export interface RemapSession {
  /** undefined until the negotiation is over. */
  readonly agreement: RemapAgreement | undefined;
  /**
   * The idle rule of `rfc-v4`: completes, when subscribed, as soon as no batch is in flight and the trigger eventfd is empty;
   * what starts inside that completion starts before anything else. At once in every other profile, as soon as the irqs are registered, and where the pipeline ends.
   */
  atRest(): Observable<never>;
  /**
   * Asks, when subscribed, for one more batch that re-queries every declared region; completes when that batch has ended, at
   * once where there is no irq. Fails with VFIO_E_CANCELED where the pipeline ends before it.
   */
  requeryAll(): Observable<never>;
  /** The deadline of a write of device_state has passed, and the write has not returned. */
  deadlinePassed(): void;
  /** The device is being closed: the stream completes, or fails where a batch has not ended. */
  deviceClosed(): void;
}

/** What a write of device_state may take at most as far as the driver's waits decide, ms; 0 where nothing is waited for, or the driver does not say. */
export function longestWaitMs(agreement: RemapAgreement | undefined): number {
  if (agreement === undefined || !('pages' in agreement)) return 0;
  return Math.max(...agreement.pages.map(({ maxWaits, ackTimeoutMs }) => maxWaits * (ackTimeoutMs ?? 0)));
}

/** Whether an irq of this device is registered by the pipeline: its driver has no reason to refuse for want of it. */
export function isRegistered(session: RemapSession | undefined): boolean {
  return session?.agreement !== undefined && 'pages' in session.agreement;
}
