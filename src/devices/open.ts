import { catchError, concat, concatMap, defer, filter, finalize, forkJoin, from, ignoreElements, map, Observable, of, throwError, toArray } from 'rxjs';
import { untilAborted, type Abortable } from '../abort.js';
import { realClock, type Clock } from '../clock.js';
import { VfioError, type VfioErrorDetails } from '../errors.js';
import { parsePathAddress } from './address.js';
import { absentIsEmpty } from './call.js';
import { VfioDevice } from './device.js';
import { openKernelPort, type KernelWay } from './kernel/open-kernel-port.js';
import { observedPort } from './observed-port.js';
import { readTraceFile } from './replay/read-trace-file.js';
import { recordPort } from './replay/record-port.js';
import type { TraceSink } from './replay/recorder.js';
import { replayTrace } from './replay/replay-trace.js';
import { openUserPort } from './vfio-user/open-user-port.js';
import type { Call, DevicePort, RegionInfo, State } from './port.js';

/** Whatever can open a port itself: a software device, a recorded trace, a port of your own. */
export interface PortSource {
  open(clock: Clock): Call<DevicePort>;
}

export type { KernelWay };

/**
 * Where a device is: an mdev uuid, a PCI address (`0000:03:00.0`), its own file (`/dev/vfio/devices/vfio3`), a group and its device (`group:7/0000:03:00.0`, or
 * `group:7` where it has one device), a device that another process serves (`unix:/run/device.sock`, or `vfio-user:/run/device.sock`), a recorded run (`trace:remap.jsonl`), or a
 * `PortSource`.
 */
export type DeviceAddress = string | PortSource;

/** How a device is opened. */
export interface OpenOptions extends Abortable {
  /** Default: real time. A virtual clock works on software devices and recorded runs only (else VFIO_E_CLOCK). */
  readonly clock?: Clock;
  /**
   * Which way a device of the kernel is opened. Default: as the address says; for an mdev uuid or a PCI address `cdev` where this machine has it, else `group`. `noiommu` gives the device
   * all of memory: only for machines on which nothing is to be protected.
   */
  readonly way?: KernelWay;
  /** Where what crosses the port is written down from the first call on; `traceFile` makes one. Default: nowhere, at no cost. */
  readonly record?: TraceSink;
}

/** More regions than any device has: a larger answer is hostile. */
const mostRegions = 1024;
const mostIrqs = 1024;

/**
 * Opens a device and passes it to the caller, who closes it (`await using`, `close()`); unsubscribing before the device has
 * come releases what was opened. Mind `firstValueFrom(openDevice(...))`: it is right, ownership is yours.
 *
 * Nothing is mapped yet: `remapRegions` maps in its first batch, `device.mapRegion()` maps one region.
 *
 * **Fails** with VFIO_E_ADDRESS, VFIO_E_UNAVAILABLE, VFIO_E_PERMISSION, VFIO_E_GROUP_NOT_VIABLE, VFIO_E_NO_DEVICE, VFIO_E_BUSY,
 * VFIO_E_LIMIT, VFIO_E_PROTOCOL; with VFIO_E_ABORTED before the device has come, if `signal` is aborted.
 */
export function openDevice(address: DeviceAddress, options: OpenOptions = {}): Call<VfioDevice> {
  const opened = new Observable<VfioDevice>((subscriber) => {
    const clock = options.clock ?? realClock;
    let port: DevicePort | undefined;
    let handedOver = false;
    const held = options.record?.hold?.();
    const opening = openPort(address, clock, options.way)
      .pipe(
        map((raw) => (port = options.record === undefined ? raw : recordPort(raw, options.record))),
        concatMap((seen) => survey(observedPort(seen))),
      )
      .subscribe({
        next: (device) => {
          handedOver = true;
          held?.open();
          subscriber.next(device);
        },
        error: (error: unknown) => {
          port?.close();
          subscriber.error(error);
        },
        complete: () => subscriber.complete(),
      });
    return () => {
      opening.unsubscribe();
      if (handedOver) return;
      port?.close();
      // A port ends its recording itself; of one that never was there is nothing to record.
      if (port === undefined) options.record?.end();
    };
  });
  return opened.pipe(untilAborted(options.signal, opening(address)));
}

function opening(address: DeviceAddress): VfioErrorDetails {
  return { operation: 'open', device: typeof address === 'string' ? address : undefined };
}

/**
 * Opens a device for the time that `body` lives: when it completes, fails or is unsubscribed the device is closed, and
 * completion or error is passed on only when nothing is held any more. An aborted `signal` ends `body`, too.
 *
 * @example
 * withDevice('0000:03:00.0', (device) => remapIrq(device).pipe(remapRegions(device)))
 */
export function withDevice<T>(address: DeviceAddress, body: (device: VfioDevice) => Observable<T>, options?: OpenOptions): Observable<T> {
  return openDevice(address, options).pipe(
    concatMap((device) => {
      const closed = defer(() => {
        void device.close();
        return device.released.pipe(ignoreElements());
      });
      const failed = (error: unknown) => concat(closed, throwError(() => error));
      return concat(defer(() => body(device)).pipe(untilAborted(options?.signal, opening(address)), catchError(failed)), closed).pipe(finalize(() => void device.close()));
    }),
  );
}

/** The port at an address, as it is. */
export function openPort(address: DeviceAddress, clock: Clock, way?: KernelWay): Call<DevicePort> {
  if (typeof address !== 'string') return address.open(clock);
  const at = parsePathAddress(address);
  if (at?.kind === 'trace') return defer(() => replayTrace(readTraceFile(at.path)).open(clock));
  if (!clock.virtual) return at === undefined ? openKernelPort(address, clock, way) : openUserPort(at.path, clock);
  return defer(() => {
    throw new VfioError('VFIO_E_CLOCK', 'a real device does not follow virtual time: open a software device or a trace, or leave the clock out', { operation: 'open', device: address });
  });
}

/** Asks the port what there is, once. */
function survey(port: DevicePort): Observable<VfioDevice> {
  return port.info().pipe(
    concatMap((info) => {
      if (info.regions > mostRegions || info.irqs > mostIrqs) {
        throw new VfioError('VFIO_E_PROTOCOL', `the device claims ${info.regions} regions and ${info.irqs} irqs: more than ${mostRegions} is not believed`, {
          operation: 'VFIO_DEVICE_GET_INFO',
          device: port.name,
        });
      }
      return forkJoin({ info: of(info), regions: queryAll(port, info.regions), migration: port.migration() });
    }),
    concatMap(({ info, regions, migration }) => {
      const state: Call<State> = migration === undefined ? of('running') : port.getState();
      return state.pipe(map((current) => new VfioDevice(port, { info, regions, migration, state: current })));
    }),
  );
}

/** The regions that exist: an index without one is left out, as is one of size 0. */
function queryAll(port: DevicePort, count: number): Observable<readonly RegionInfo[]> {
  return from(Array.from({ length: count }, (_, index) => index)).pipe(
    concatMap((index) => port.regionInfo(index).pipe(absentIsEmpty('VFIO_E_NO_REGION'))),
    filter((info) => info.size > 0),
    toArray(),
  );
}
