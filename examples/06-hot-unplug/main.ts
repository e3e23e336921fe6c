import { concat, defer, EMPTY, filter, ignoreElements, merge, take, takeUntil, tap } from 'rxjs';
import { health, remapIrq, remapRegions, withDevice } from 'vfio-rx';
import { example, interrupted, run, sayingStates } from '../shared/program.js';
import { lively, takeAndGive } from '../shared/software.js';

/**
 * The kernel wants a device back, because somebody unbinds its driver or pulls it out: the work with it ends, and it is closed at once.
 * Whoever unbinds it waits for that, in the kernel.
 *
 * ```
 * REQ     ----------1----
 * health  a---------b         b: releaseRequests 1
 * work    --x--x--x-|         ends with that
 * device  ----------|         and the device is closed: nothing is held
 * ```
 */

/** The irq of a PCI device by which the kernel asks for it. */
const req = { index: 4 };

const { address } = example(lively((driver, turn) => (turn === 4 ? driver.raise(req) : takeAndGive(driver, turn)), { irqs: { req: true } }));

let asked = false;

run(
  concat(
    withDevice(address, (device) => {
      const wanted = health(device).pipe(
        filter(({ releaseRequests }) => releaseRequests > 0n),
        take(1),
        tap(() => {
          asked = true;
          console.log('the kernel wants it back');
        }),
      );
      // Whatever the device is there for.
      const work = remapIrq(device).pipe(remapRegions(device), tap(({ batch }) => console.log(`at work: batch ${batch}`)));
      return work.pipe(ignoreElements(), sayingStates(device), takeUntil(merge(wanted, interrupted)));
    }),
    defer(() => {
      console.log(asked ? 'closed: whoever unbinds it goes on' : 'closed');
      return EMPTY;
    }),
  ),
);
