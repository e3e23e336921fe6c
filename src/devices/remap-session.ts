import type { Observable } from 'rxjs';
import type { RemapAgreement } from './protocol/negotiation.js';

/** The remap pipeline of a device, as the device and `transition` see it. */
export interface RemapSession {
  /** undefined until the negotiation is over. */
  readonly agreement: RemapAgreement | undefined;
  /**
   * Asks, when subscribed, for one more batch that re-queries every declared region; completes when that batch has ended, at
   * once where layouts are static. Fails with VFIO_E_CANCELED where the pipeline ends before it.
   */
  requeryAll(): Observable<never>;
  /** The device is being closed: the stream completes, or fails where a batch has not ended. */
  deviceClosed(): void;
}

/** What a write of device_state may take at most as far as the driver's waits decide, ms; 0 where nothing is waited for. */
export function longestWaitMs(agreement: RemapAgreement | undefined): number {
  if (agreement === undefined || agreement.profile === 'static') return 0;
  return Math.max(...agreement.pages.map((page) => page.maxWaits * page.ackTimeoutMs));
}
