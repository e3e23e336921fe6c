import { concatMap, defer, EMPTY, takeUntil, tap } from 'rxjs';
import { irqs, withDevice } from 'vfio-rx';
import { ownIrq } from '../shared/own-irq.js';
import { example, run, sayingStates } from '../shared/program.js';
import { lively } from '../shared/software.js';

/**
 * Every interrupt of a device, as a stream.
 *
 * ```
 * vector 0  --1-----1-----    what the device adds to the eventfd of each vector
 * vector 1  -----1--(11)--
 * irqs      --a--b--(cd)--    d: two signals, one delivery
 * ```
 */

/** One message at each of its turns, from one vector after the other; from the last one two at once. */
const software = lively((driver, turn) => {
  const vector = turn % 4;
  driver.raise({ index: 1, vector });
  if (vector === 3) driver.raise({ index: 1, vector });
});
const { address, over } = example(software);

run(
  withDevice(address, (device) =>
    ownIrq(device).pipe(
      concatMap(({ index, count }) => {
        // Where a device is told to do something it is done here, too: all vectors are registered then.
        const begin = defer(() => {
          console.log(`watching irq ${index} of ${device.name}: ${count} vectors`);
          return EMPTY;
        });
        return irqs(device, index, [...Array(count).keys()], { begin });
      }),
      tap(({ line: { vector }, count }) => console.log(`vector ${vector}: ${count} ${count === 1n ? 'signal' : 'signals'}`)),
      sayingStates(device),
      takeUntil(over),
    ),
  ),
);
