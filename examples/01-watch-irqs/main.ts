import { concatMap, map, merge, of, takeUntil, tap } from 'rxjs';
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
      concatMap(({ index, count }) =>
        merge(
          irqs(device, index, [...Array(count).keys()]).pipe(map(({ line: { vector }, count: times }) => `vector ${vector}: ${times} ${times === 1n ? 'signal' : 'signals'}`)),
          // Behind it: they are registered when this is said.
          of(`watching irq ${index} of ${device.name}: ${count} vectors`),
        ),
      ),
      tap((line) => console.log(line)),
      sayingStates(device),
      takeUntil(over),
    ),
  ),
);
