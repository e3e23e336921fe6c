import { concatMap, ignoreElements, lastValueFrom, merge, Subject, takeUntil, timer } from 'rxjs';
import { expect, it } from 'vitest';
import { demoGuest } from '../../src/cli/demo-guest.js';
import { withDevice } from '../../src/devices/open.js';
import { softwareDevice } from '../../src/devices/software/software-device.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition } from '../../src/streams/transition.js';
import { virtualClock } from '../support/virtual-clock.js';

it('the guest writes on, mapped and trapped, and all that it counts has arrived when it has stopped', async () => {
  const clock = virtualClock();
  const source = softwareDevice({ scanMs: 1 });
  const count = lastValueFrom(withDevice(source, (device) => {
    const stop = new Subject<unknown>();
    timer(20, clock.scheduler).subscribe(stop);
    const saving = timer(10, clock.scheduler).pipe(concatMap(() => transition(device, 'pre-copy')));
    const serving = merge(remapIrq(device).pipe(remapRegions(device)), saving).pipe(ignoreElements(), takeUntil(timer(25, clock.scheduler)));
    return merge(demoGuest(device, stop), serving);
  }, { clock }));
  clock.flush();
  const sent = await count;
  expect(sent).toBeGreaterThan(10);
  expect(source.driver.mailbox.guests[0]).toMatchObject({ received: sent, duplicates: 0, missing: 0 });
  expect(source.driver.mailbox.guests[0]?.byTrap).toBeGreaterThan(0);
});
