import { subscribe, unsubscribe, type Channel } from 'node:diagnostics_channel';
import { catchError, concatMap, filter, map, merge, Observable, of, throwError } from 'rxjs';
import type { VfioDevice } from '../devices/device.js';
import type { Area, IrqInfo, State } from '../devices/port.js';
import { irqKind, type IrqKind } from '../devices/protocol/irq-rules.js';
import type { BatchReason } from '../devices/remap-batch.js';
import { portChannel, warningChannel } from '../diagnostics.js';
import { VfioError } from '../errors.js';
import { remapRegions } from '../operators/remap-regions.js';
import { deviceState } from '../streams/device-state.js';
import { health } from '../streams/health.js';
import { irqs } from '../streams/irqs.js';
import { regions } from '../streams/regions.js';
import { remapIrq } from '../streams/remap-irq.js';

/** One thing that was seen of a device. */
export type Seen =
  | { readonly kind: 'state'; readonly state: State; readonly going: State | undefined }
  | { readonly kind: 'irq'; readonly irq: IrqKind; readonly index: number; readonly vector: number; readonly count: bigint }
  /** The driver demanded a remap (or it was the first), and was served. */
  | { readonly kind: 'remap'; readonly batch: number; readonly because: BatchReason; readonly acked: boolean; readonly servedNs: bigint; readonly notMapped: number }
  | { readonly kind: 'map' | 'unmap'; readonly region: number; readonly area: Area }
  /** What may be mapped. */
  | { readonly kind: 'regions'; readonly areas: number; readonly bytes: number }
  | { readonly kind: 'health'; readonly errors: bigint; readonly releaseRequests: bigint; readonly stuck: readonly string[] }
  | { readonly kind: 'warning'; readonly what: string; readonly error: unknown };

/** More vectors of one irq are not watched: each has an eventfd. */
const mostVectors = 64;

/**
 * Serves a device, and says what it sees of it.
 *
 * - **Emits** what there is at once, then every irq, remap, change of a mapping, of device_state and of health. **Drops** nothing.
 * - **Completes** when the device is closed. **Fails** as `remapIrq`, `remapRegions` and `health` do; an irq that cannot be had is a warning.
 * - **Releases** what these do.
 */
export function watched(device: VfioDevice): Observable<Seen> {
  return merge(
    mappings(device),
    warnings(device),
    deviceState(device).pipe(map(({ state, going }): Seen => ({ kind: 'state', state, going }))),
    regions(device).pipe(
      map((layouts) => [...layouts.values()].flatMap(({ mmappable, areas }) => (mmappable ? areas : []))),
      map((areas): Seen => ({ kind: 'regions', areas: areas.length, bytes: areas.reduce((sum, { size }) => sum + size, 0) })),
    ),
    health(device).pipe(map(({ errors, releaseRequests, stuck }): Seen => ({ kind: 'health', errors, releaseRequests, stuck: stuck.map(({ call }) => call) }))),
    device.irqs().pipe(concatMap((infos) => signals(device, infos))),
    remapIrq(device).pipe(
      remapRegions(device),
      map(({ batch, because, acked, servedNs, notMapped }): Seen => ({ kind: 'remap', batch, because, acked, servedNs, notMapped: notMapped.length })),
    ),
  );
}

function signals(device: VfioDevice, infos: readonly IrqInfo[]): Observable<Seen> {
  const all = infos.filter(({ count }) => count > 0).map((info) => ({ ...info, kind: irqKind(info, device.info.pci) }));
  // A PCI device interrupts by one of its ways; a level that nobody clears would signal for ever.
  const [messages] = (['msi-x', 'msi'] as const).flatMap((kind) => all.filter((info) => info.kind === kind && info.eventfd));
  const own = all.filter(({ kind, eventfd, automasked }) => kind === 'device' && eventfd && !automasked);
  const unwatched = messages === undefined ? all.filter(({ kind }) => kind === 'intx') : [];
  return merge(
    ...unwatched.map(({ index }) => of<Seen>({ kind: 'warning', what: `irq ${index} (INTx) is not watched: nobody here clears its cause`, error: undefined })),
    ...[...(messages === undefined ? [] : [messages]), ...own].map(({ index, kind, count }) =>
      irqs(device, index, Array.from({ length: Math.min(count, mostVectors) }, (_, vector) => vector)).pipe(
        map(({ line, count: times }): Seen => ({ kind: 'irq', irq: kind, index, vector: line.vector ?? 0, count: times })),
        catchError((error: unknown) => {
          if (!VfioError.is(error)) return throwError(() => error);
          return error.code === 'VFIO_E_CLOSED' ? [] : of<Seen>({ kind: 'warning', what: `irq ${index} is not watched`, error });
        }),
      ),
    ),
  );
}

function mappings({ name }: VfioDevice): Observable<Seen> {
  return published(portChannel).pipe(
    filter(({ device }) => device === name),
    concatMap(({ lane, region, area }): readonly Seen[] => ((lane === 'map' || lane === 'unmap') && region !== undefined && area !== undefined ? [{ kind: lane, region, area }] : [])),
  );
}

function warnings({ name }: VfioDevice): Observable<Seen> {
  return published(warningChannel).pipe(filter(({ device }) => device === name), map(({ what, error }): Seen => ({ kind: 'warning', what, error })));
}

/** What is published on a channel, while somebody is subscribed. */
function published<T>(channel: Channel<T>): Observable<T> {
  return new Observable<T>((subscriber) => {
    // The channel's own listeners are untyped: it has one kind of message.
    const listen = (message: unknown): void => subscriber.next(message as T);
    subscribe(channel.name, listen);
    return () => unsubscribe(channel.name, listen);
  });
}
