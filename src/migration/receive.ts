import { Observable } from 'rxjs';
import { eitherAbort } from '../abort.js';
import { DestinationRun } from './destination-run.js';
import type { MigrationEvent, ReceivePlan } from './plan.js';

/**
 * Takes devices from a `migrate` at the other end of a transport. Waits for it as long as it takes.
 *
 * ```
 * vf0        r-l-----------s------R-r      r: running, l: RESUMING, s: STOP, R: RUNNING_P2P
 * vf1        r-l---------------s--R-r      has more to load
 * receive    c-p---------t---e-m-r--(d|)   c: check, p: pre-copy, t: transfer, e: prepare, m: commit, r: release, d: moved
 * ```
 *
 * A device loads its state, and stops, as soon as it has all of it. When all devices have it is prepared, and runs nothing before the
 * source says COMMIT. If the connection is lost in between it is in doubt, and keeps what it has.
 *
 * - **Emits** progress at each phase, and a few times a second while bytes flow; last `moved` or `in-doubt`; then **completes**.
 * - **Drops** nothing.
 * - **Fails** when the devices are discarded: VFIO_E_PEER (the source gave up), VFIO_E_LINK, VFIO_E_STREAM, VFIO_E_INCOMPATIBLE,
 *   VFIO_E_DEADLINE (names the phase), VFIO_E_JOURNAL, VFIO_E_ABORTED, VFIO_E_BUSY (a migration has the device), VFIO_E_DEVICE_ERROR, and as `resumeState` does. A device that was taking state is
 *   reset; one that has loaded it stays stopped, and the error names it.
 * - **Releases** on unsubscribe: before COMMIT the devices are discarded, unseen.
 *
 * @example
 * receive({ devices: [{ name: 'vf0', destination: device }], transport: listenAt('tcp://0.0.0.0:4444'), journal: fileJournal('vf0.journal') })
 *   .subscribe((event) => console.log(event.phase, event.devices));
 * @see migrate
 */
export function receive(plan: ReceivePlan): Observable<MigrationEvent> {
  return new Observable<MigrationEvent>((subscriber) => {
    const run = new DestinationRun({ ...plan, abort: eitherAbort(plan.abort, plan.signal) }, subscriber);
    run.start();
    return () => run.abort();
  });
}
