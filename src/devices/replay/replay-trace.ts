import { VfioError } from '../../errors.js';
import type { Clock } from '../../clock.js';
import { nowCall } from '../call.js';
import type { Call, DevicePort } from '../port.js';
import type { Trace } from '../trace/reader.js';
import { replayPort } from './replay-port.js';
import { ReplayRun } from './replay-run.js';

/** A recorded device, to be opened in place of the real one. */
export interface TraceReplay {
  readonly name: string;
  /** *Now.* Begins a run, from the first line. On a virtual clock it takes no real time. */
  open(clock: Clock): Call<DevicePort>;
  /**
   * Where the run departed from the recording: VFIO_E_DEPARTED, with line, expected and actual in message and `cause`. The call
   * itself fails with it, too, and so does all that follows.
   */
  readonly departure: VfioError | undefined;
  /** Throws VFIO_E_DEPARTED where the run has departed, and where the recording goes on and the run has not. */
  expectFollowed(): void;
}

/**
 * A trace as a device: code that does what was done when it was recorded gets what came then, signals, answers and errors, and in
 * virtual time always the same. It must do so in the same order; the first call that the recording does not have there is
 * named.
 *
 * @example
 * const replay = replayTrace(readTraceFile('remap.jsonl'));
 * marbles((t) => {
 *   const remaps$ = withDevice(replay, (device) => remapIrq(device).pipe(remapRegions(device)), { clock: t.clock });
 *   t.expect(remaps$.pipe(map(({ acked }) => acked))).toBe('...');
 *   t.atEnd(() => replay.expectFollowed());
 * });
 */
export function replayTrace(trace: Trace): TraceReplay {
  const { device: name } = trace.header;
  let run: ReplayRun | undefined;
  return {
    name,
    open: (clock) => nowCall(() => replayPort((run = new ReplayRun(trace, clock)), trace.header)),
    get departure() {
      return run?.departure;
    },
    expectFollowed() {
      if (run === undefined) throw new VfioError('VFIO_E_DEPARTED', 'it was not opened', { operation: 'replay', device: name });
      if (run.unfinished !== undefined) throw run.unfinished;
    },
  };
}
