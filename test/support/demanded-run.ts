import { concat, concatMap, defer, EMPTY, from, ignoreElements, map, mergeMap, of, Subject, takeUntil, type Observable, type OperatorFunction } from 'rxjs';
import type { VfioDevice } from '../../src/devices/device.js';
import type { DataChannel, State } from '../../src/devices/port.js';
import type { Remap, RemapSignal } from '../../src/devices/remap-batch.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition } from '../../src/streams/transition.js';

/** How remaps are served; the usual way unless told. */
export type Serving = (device: VfioDevice) => OperatorFunction<RemapSignal, Remap>;

const path: readonly State[] = ['pre-copy', 'stop-copy', 'running'];

/**
 * A run that is recorded on the real kernel and replayed without it: remaps are served, the driver demands some while
 * device_state goes through a migration, and a register and the device's state are read. What it emits holds no times, so that it is the
 * same wherever and whenever it runs.
 */
export function demandedRun(device: VfioDevice, serving: Serving = remapRegions): Observable<string> {
  const over$ = new Subject<void>();
  const arcs$ = concat(
    device.region(7).request({ offset: 0, readBytes: 2 }).pipe(map((bytes) => `config ${Buffer.from(bytes).toString('hex')}`)),
    from(path).pipe(
      concatMap((to) => transition(device, to)),
      concatMap(({ from: before, to, data }) => concat(of(`${before} -> ${to}`), data === undefined ? EMPTY : firstBytes(data))),
    ),
    defer(() => {
      over$.next();
      return EMPTY;
    }),
  );
  return remapIrq(device).pipe(
    serving(device),
    mergeMap((remap, index) => (index === 0 ? concat(of(told(remap)), arcs$) : of(told(remap)))),
    takeUntil(over$),
  );
}

/** What a batch did, in words. */
function told({ because, sumRead, acked, diffs, notMapped }: Remap): string {
  const moved = diffs.filter(({ revoked, added }) => revoked.length + added.length > 0).map(({ index, revoked, added }) => `region ${index} -${revoked.length} +${added.length}`);
  return [`batch ${because}`, `read ${sumRead}`, acked ? 'acked' : 'not acked', ...moved, ...(notMapped.length > 0 ? [`${notMapped.length} not mapped`] : [])].join(', ');
}

/** Reads of a session once, and closes it. */
function firstBytes(data: DataChannel): Observable<string> {
  return concat(
    data.read(64).pipe(map((chunk) => (chunk.kind === 'bytes' ? `${chunk.bytes.length} bytes` : chunk.kind))),
    data.close().pipe(ignoreElements()),
  );
}
