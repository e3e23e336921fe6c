import { concat, concatMap, defer, EMPTY, ignoreElements, of, timer, type MonoTypeOperatorFunction } from 'rxjs';
import type { RemapSignal } from '../../src/devices/remap-batch.js';
import type { MarbleTest } from '../../src/testing/index.js';

/** Passes every batch on, and acks and ends it so many frames later, as `acknowledge` would; `ended` hears it. */
export function endBatches(t: MarbleTest, frames = 0, ended?: (name: string) => void): MonoTypeOperatorFunction<RemapSignal> {
  const pause = () => (frames === 0 ? EMPTY : timer(frames / 1000, t.clock.scheduler).pipe(concatMap(() => EMPTY)));
  return concatMap((signal: RemapSignal) =>
    concat(
      of(signal),
      defer(pause),
      defer(() => signal.channel.ack(signal.sumRead)).pipe(ignoreElements()),
      defer(() => {
        ended?.('x');
        signal.channel.end(signal.batch);
        return EMPTY;
      }),
    ),
  );
}
