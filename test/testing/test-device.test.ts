import { ignoreElements, map, mergeMap, timer } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { remapRegions } from '../../src/operators/index.js';
import { remapIrq, transition } from '../../src/streams/index.js';
import { marbles, type MarbleTest, type TestDevice, type TestDeviceOptions } from '../../src/testing/index.js';

/** A device whose remap pipeline runs from frame 0 on. */
function served(t: MarbleTest, options: TestDeviceOptions): TestDevice {
  const device = t.device({ regions: [{ index: 0, size: 0x2000, areas: 'all', savingAreas: [] }], ...options });
  t.expect(remapIrq(device).pipe(remapRegions(device), ignoreElements()), '^ 900ms !').toBe('');
  return device;
}

describe('t.device', () => {
  it('runs the driver\'s lane, and shows what the pipeline does', () => {
    marbles((t) => {
      const device = served(t, { driver: '--<revoke0>----<restore0>' });
      t.expectDevice(device).toShow({
        driver: '--<revoke0>----<restore0>',
        signal: '--1        ----1',
        query: ' <q0,q0>-q        ----q', // can it be evaluated at all? then the first batch
        unmap: ' --u',
        map: '   m-         -----m',
        ack: '   --1        ----1',
      });
    });
  });

  it('blocks a write of device_state until the ack, in virtual time', () => {
    marbles((t) => {
      const device = served(t, { driver: '<signal-delay 20us>' });
      const written$ = timer(1, t.clock.scheduler).pipe(mergeMap(() => transition(device, 'pre-copy')), map(({ tookNs }) => tookNs));
      t.expect(written$).toBe('1020us <t,|>', { t: 20_000n });
      t.expectDevice(device).toShow({ state: ' 1ms [p 19us ]', unmap: '1ms - 19us u', ack: '1ms - 19us 1' });
    });
  });

  it('misbehaves as the script says, and ends by itself', () => {
    marbles((t) => {
      const device = served(t, { driver: '<drop-ack>', remap: { ackTimeoutMs: 10 } });
      t.expect(timer(1).pipe(mergeMap(() => transition(device, 'pre-copy')))).toBe('11ms #', undefined, { code: 'VFIO_E_ACK_TIMEOUT' });
    });
  });

  it('is released when it is closed', () => {
    marbles((t) => {
      const device = t.device();
      t.at('--c', { c: () => void device.close() });
      t.expectDevice(device).toBeReleased();
      t.atEnd(() => expect(device.driver.opens).toBe(0));
    });
    expect(() => marbles((t) => t.expectDevice(t.device()).toBeReleased())).toThrow('software0 is not released: it still holds something: was it closed?');
  });

  it('is closed with the test, in virtual time', () => {
    const seen: TestDevice[] = [];
    marbles((t) => {
      seen.push(served(t, {}));
    });
    expect(seen.map(({ driver }) => [driver.opens, driver.vmas, driver.irqs, driver.violations])).toEqual([[0, 0, 0, 0]]);
  });

  it('refuses a script that it cannot follow, before it begins', () => {
    expect(() => marbles((t) => t.device({ driver: '--<revok0>' }))).toThrow(/^the driver's script says <revok0>; it knows <revoke0> <restore0> <msi>/);
    expect(() => marbles((t) => t.device({ driver: '<fail-query0 EWHAT>' }))).toThrow('the software driver answers no errno EWHAT');
    expect(() => marbles((t) => t.device({ driver: '<arc-latency soon>' }))).toThrow('<soon> is no duration');
  });
});
