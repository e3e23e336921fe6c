import { lastValueFrom, map, merge, takeUntil, timer, toArray } from 'rxjs';
import { expect, it } from 'vitest';
import { demandingDevice } from '../../src/cli/demanding-device.js';
import { withDevice } from '../../src/devices/open.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { irq } from '../../src/streams/irq.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { virtualClock } from '../support/virtual-clock.js';

it('software:NAME?every=MS takes a region away, gives it back, and interrupts, for as long as it is open', async () => {
  const clock = virtualClock();
  const seen = lastValueFrom(withDevice(demandingDevice('nic', 10), (device) => {
    const remaps = remapIrq(device).pipe(remapRegions(device), map(({ batch, diffs }) => `${batch}: ${diffs.filter(({ index }) => index === 0).map(({ revoked, added }) => `-${revoked.length} +${added.length}`).join()}`));
    const msis = irq(device, { index: 1 }).pipe(map(({ count }) => `msi ${count}`));
    return merge(remaps, msis).pipe(takeUntil(timer(35, clock.scheduler)), toArray());
  }, { clock }));
  // It comes to an end by itself: a device that is closed demands nothing.
  clock.flush();
  expect(await seen).toEqual(['0: -0 +1', 'msi 1', '1: -1 +0', 'msi 1', '2: -0 +1', 'msi 1', '3: -1 +0']);
});
