import type { Observable } from 'rxjs';
import type { VfioDevice } from '../devices/device.js';
import { withDevice } from '../devices/open.js';
import type { Departure } from '../devices/replay/replay-run.js';
import { replayTrace } from '../devices/replay/replay-trace.js';
import { lineNumber, type Trace } from '../devices/trace/reader.js';
import { FrameScheduler } from './frame-scheduler.js';
import { VirtualClock } from './virtual-clock.js';

/** What came out of a run over a recording. */
export interface Followed<T> {
  readonly values: readonly T[];
  /** What it failed with: as it did when it was recorded, or because the recording was cut off. */
  readonly error?: unknown;
}

/** An entry of a trace brings the code under test to so many actions, or it runs for ever. */
const actionsPerEntry = 100;

/**
 * Runs code over a recorded device in virtual time, to its end, and gives what came out. Throws VFIO_E_DEPARTED with line,
 * expected and actual at the first call that the recording does not have there, and where the recording goes on and the code does not.
 * One that was cut off is followed to where it ends, and `error` says so.
 *
 * @example
 * const { values } = followTrace(readTraceFile('run.jsonl'), (device) => servedRun(device, { states: ['pre-copy', 'running'] }));
 * expect(values).toEqual(['batch 0, registered, region 0 -0 +1', 'running -> pre-copy', ...]);
 * @see servedRun, replayTrace
 */
export function followTrace<T>(trace: Trace, body: (device: VfioDevice) => Observable<T>): Followed<T> {
  const scheduler = new FrameScheduler('us', 10_000 + actionsPerEntry * trace.entries.length);
  const replay = replayTrace(trace);
  const values: T[] = [];
  const failed: unknown[] = [];
  scheduler.run(() => {
    const running = withDevice(replay, body, { clock: new VirtualClock(scheduler) }).subscribe({
      // Behind a departure everything fails, and what is made of that was never recorded.
      next: (value) => { if (replay.departure === undefined) values.push(value); },
      error: (error: unknown) => failed.push(error),
    });
    scheduler.flush();
    // What has not ended by now never does.
    running.unsubscribe();
    scheduler.flush();
  });
  const { departure } = replay;
  // A recording that was cut off says nothing about what follows.
  const cutOff = trace.incomplete !== undefined && (departure?.cause as Departure | undefined)?.line === lineNumber(trace.entries.length);
  if (!cutOff) replay.expectFollowed();
  return { values, ...(failed.length > 0 ? { error: failed[0] } : {}) };
}
