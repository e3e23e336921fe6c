import { randomUUID } from 'node:crypto';
import { Observable } from 'rxjs';
import { eitherAbort } from '../abort.js';
import type { MigrationEvent, MigrationPlan } from './plan.js';
import { SourceRun } from './source-run.js';

/**
 * Moves devices to a `receive` at the other end of a transport, all of them together, while the remap pipelines of the devices go on
 * serving.
 *
 * ```
 * vf0, vf1      r-p-------P-c-----------s     r: running, p: PRE_COPY, P: PRE_COPY_P2P, c: STOP_COPY, s: STOP
 * migrate       c-p--o--o-s-t---e-m-----r(d|) c: check, p: pre-copy, o: a round, s: stop, t: transfer, e: prepare, m: commit, r: release, d: moved
 * destination   --r-------------s---R-r       R: RUNNING_P2P
 * ```
 *
 * Nothing runs twice: the destination runs only after the source has written its decision to the journal and said COMMIT, and
 * after that the source never runs by itself.
 *
 * - **Emits** progress at each phase, each round, and a few times a second while bytes flow; last `moved` or `in-doubt`; then **completes**.
 * - **Drops** nothing.
 * - **Fails** before the decision, and only when the source runs again: VFIO_E_ABORTED (the caller, or the policy), VFIO_E_PEER (the
 *   destination gave up), VFIO_E_LINK, VFIO_E_STREAM, VFIO_E_INCOMPATIBLE, VFIO_E_DEADLINE (names the phase), VFIO_E_JOURNAL,
 *   VFIO_E_UNSUPPORTED (several devices without P2P), VFIO_E_BUSY (the device is in a migration, or was taken elsewhere), VFIO_E_DEVICE_ERROR
 *   (its ERR irq), and as `transition` does. After it only where the destination gives the devices back.
 * - **Releases** on unsubscribe: aborts; before the decision the source runs again, after it the handover goes on unseen.
 *
 * @example
 * migrate({ devices: [{ source: device, destination: 'vf0' }], transport: connectTo('tcp://192.0.2.7:4444'), journal: fileJournal('vf0.journal') })
 *   .subscribe((event) => console.log(event.phase, event.devices));
 * @see receive, fitDowntime
 */
export function migrate(plan: MigrationPlan): Observable<MigrationEvent> {
  return new Observable<MigrationEvent>((subscriber) => {
    const run = new SourceRun({ ...plan, abort: eitherAbort(plan.abort, plan.signal) }, subscriber, plan.migration ?? randomUUID());
    run.start();
    return () => run.abort();
  });
}
