import { catchError, combineLatest, EMPTY, map, of, scan, startWith, throwError, type Observable } from 'rxjs';
import { VfioError } from '../errors.js';
import type { VfioDevice } from '../devices/device.js';
import type { StuckCall } from '../devices/stuck-calls.js';
import { VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX } from '../devices/uapi/constants.js';
import { irq } from './irq.js';

/** How a device is. */
export interface Health {
  /** Uncorrectable errors of the device since the subscription: signals of its ERR irq (PCIe). */
  readonly errors: bigint;
  /** How often the kernel asked for the device since the subscription: signals of its REQ irq. Whoever unbinds it waits until it is closed. */
  readonly releaseRequests: bigint;
  /** Calls that have not returned although their time was up: a write of device_state (deadline of `transition`), `close` (10 s). */
  readonly stuck: readonly StuckCall[];
}

/**
 * Errors of a device, requests to give it back, and calls that its driver keeps.
 *
 * ```
 * ERR     --1----- ------
 * REQ     -----1-- ------     the device is being unbound
 * state   -------[p-----]     the deadline of the write passes at d
 * health  a-b--c-- --d--e     a: all well, b: one error, c: one request too, d: the write is stuck, e: it has returned
 * ```
 *
 * After an error reset the device, or close it; after a request close it. A stuck call can only be waited for: no other write
 * of device_state can start, and `close()` waits as well.
 *
 * - **Emits** the current `Health` at once, then at every change. A device without ERR or REQ counts none.
 * - **Drops** nothing: signals that come together are counted together.
 * - **Completes** when a device that was closed is released, so that a close that waits is seen until it is over.
 * - **Fails** with VFIO_E_BUSY where ERR or REQ is in use already (`share()` one of these streams), VFIO_E_LIMIT, and as `irq` does.
 * - **Releases** on unsubscribe: both irqs.
 *
 * @example
 * health(device).subscribe(({ releaseRequests }) => {
 *   if (releaseRequests > 0n) void device.close();
 * });
 * @see irq, transition
 */
export function health(device: VfioDevice): Observable<Health> {
  const stuck = device.stuck.cell.values;
  return combineLatest([counted(device, VFIO_PCI_ERR_IRQ_INDEX), counted(device, VFIO_PCI_REQ_IRQ_INDEX), stuck]).pipe(
    map(([errors, releaseRequests, calls]): Health => ({ errors, releaseRequests, stuck: calls })),
  );
}

/** The sum of an irq's signals so far; 0 for ever where the device has none. Closing the device is no failure. */
function counted(device: VfioDevice, index: number): Observable<bigint> {
  // Without the PCI face these indexes mean something else.
  if (!device.info.pci) return of(0n);
  return irq(device, { index }).pipe(
    scan((sum, { count }) => sum + count, 0n),
    catchError((error: unknown) => (VfioError.is(error) && (error.code === 'VFIO_E_NO_IRQ' || error.code === 'VFIO_E_CLOSED') ? EMPTY : throwError(() => error))),
    startWith(0n),
  );
}
