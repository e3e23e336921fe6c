import { concatWith, map, NEVER, throwError, timer, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { VfioDevice } from '../../src/devices/device.js';
import { withDevice } from '../../src/devices/open.js';
import { softwareDevice } from '../../src/devices/software/software-device.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { followTrace, marbles, memoryTrace, readTrace, servedRun, type Trace } from '../../src/testing/index.js';

function recorded(body: (device: VfioDevice) => Observable<unknown>): Trace {
  const record = memoryTrace();
  marbles((t) => {
    withDevice(softwareDevice(), body, { record, clock: t.clock }).subscribe({ error: () => undefined });
    t.atEnd(() => undefined);
  });
  return readTrace(record.text);
}

const forMs = (ms: number) => (device: VfioDevice) => servedRun(device, { forMs: ms });

describe('followTrace', () => {
  it('gives what came out, and takes no time', () => {
    expect(followTrace(recorded(forMs(3_600_000)), forMs(3_600_000))).toEqual({ values: ['batch 0, registered, region 0 -0 +1, region 1 -0 +2'] });
  });

  it('gives the error, too', () => {
    const failing = (device: VfioDevice) => timer(1, device.clock.scheduler).pipe(concatWith(throwError(() => new Error('as ever'))));
    expect(followTrace(recorded(failing), failing)).toEqual({ values: [0], error: new Error('as ever') });
  });

  it('throws where the code departs, and where it stops before the recording does', () => {
    const trace = recorded(forMs(1));
    expect(() => followTrace(trace, (device) => remapIrq(device).pipe(map(() => 0)))).toThrow(/expected regionInfo .*; actual /);
    expect(() => followTrace(trace, () => timer(1))).toThrow(expect.objectContaining({ code: 'VFIO_E_DEPARTED' }) as Error);
    expect(() => followTrace(recorded((device) => timer(1, device.clock.scheduler)), forMs(1))).toThrow(/expected close .*; actual irqInfo/);
  });

  it('ends also what never does: it is unsubscribed when nothing can come any more', () => {
    const trace = recorded((device) => timer(1, device.clock.scheduler));
    expect(() => followTrace(trace, () => NEVER)).not.toThrow();
  });
});
