import { concat, concatMap, ignoreElements, of, Subject, tap, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { disregard } from '../../src/devices/call.js';
import type { VfioDevice } from '../../src/devices/device.js';
import type { Call } from '../../src/devices/port.js';
import type { SoftwareVendorDriver } from '../../src/devices/software/driver-face.js';
import { remapRegions } from '../../src/operators/index.js';
import * as streams from '../../src/streams/index.js';
import { deviceState, dirtyPages, health, irq, irqs, regions, remapIrq, resumeState, savedState, transition } from '../../src/streams/index.js';
import { describeStream, type StreamSubject } from '../../src/testing/index.js';

const noIrq = (driver: SoftwareVendorDriver): void => { driver.faults.failIrq('EMFILE'); };
const noArc = (driver: SoftwareVendorDriver): void => { for (const to of ['stop', 'pre-copy'] as const) driver.faults.failArc(to, 'EIO'); };
const wanted = new Subject<void>();
const other = (device: VfioDevice) => (device.currentState.state === 'running' ? 'stop' : 'running');

/** One of two layouts after the other; nobody hears of it where no irq is registered. */
function changeLayout(driver: SoftwareVendorDriver): void {
  if (driver.layout.get(0)?.length === 0) driver.restore(0);
  else driver.revoke(0);
}

/** What was handed out, and then the device back where it was: a session is there once. */
function andBack<T extends { close(): Call<void> }>(device: VfioDevice, session: T): Observable<T> {
  return concat(of(session), concat(session.close(), transition(device, 'running')).pipe(ignoreElements()));
}

/** Every stream of the package, and how it is had to do its work: a new one needs a line here. */
const subjects: Readonly<Record<keyof typeof streams, StreamSubject>> = {
  irq: { make: (device) => irq(device, { index: 1 }), provoke: (driver) => { driver.raiseMsi(); }, fail: noIrq },
  irqs: { make: (device) => irqs(device, 1, [0, 2]), provoke: (driver) => { driver.raise({ index: 1, vector: 2 }); }, fail: noIrq },
  health: { make: health, device: { irqs: { err: true, req: true } }, provoke: (driver) => { driver.raise({ index: 3 }); }, fail: noIrq },
  regions: { make: regions, beside: (device) => remapIrq(device).pipe(remapRegions(device)), provoke: changeLayout, current: true },
  deviceState: { make: deviceState, device: { remap: false }, provoke: (_, device) => { disregard(device.writeState(other(device))); }, current: true },
  remapIrq: {
    make: (device) => remapIrq(device).pipe(concatMap((signal) => signal.channel.ack(signal.sumRead).pipe(tap(() => { signal.channel.end(signal.batch); })))),
    provoke: changeLayout,
    fail: noIrq,
  },
  savedState: { make: (device) => savedState(device).pipe(concatMap((saved) => andBack(device, saved))), device: { remap: false }, completes: true, fail: noArc },
  resumeState: { make: (device) => resumeState(device).pipe(concatMap((resuming) => andBack(device, resuming))), device: { remap: false }, completes: true, fail: noArc },
  dirtyPages: {
    make: (device) => dirtyPages(device, { ranges: [{ iova: 0n, size: 4096 }], when: wanted }),
    device: { dmaLogging: 4096 },
    provoke: () => { wanted.next(); },
    fail: (driver) => { driver.faults.failDma('log start', 'EIO'); },
  },
  transition: { make: (device) => transition(device, other(device)), device: { remap: false }, completes: true, fail: noArc },
};

for (const [name, subject] of Object.entries(subjects)) describeStream({ describe, it }, name, subject);

describe('the streams of the package', () => {
  it('are all checked', () => {
    expect(Object.keys(subjects).sort()).toEqual(Object.keys(streams).sort());
  });
});
