import { defer, map, of, throwError, type Observable } from 'rxjs';
import { readTraceFile } from '../devices/replay/read-trace-file.js';
import { followTrace } from '../testing/follow-trace.js';
import { planOf } from '../testing/run-plan.js';
import { servedRun } from '../testing/served-run.js';
import { say, sayAt, type Screen } from './show.js';

/**
 * Runs the standard pipeline over what `vfio-rx record` has kept, in virtual time. Emits the exit code. Fails with VFIO_E_DEPARTED where
 * it does another call than was recorded, with what the recorded run failed with, and as `readTraceFile` does.
 */
export function replayCommand(path: string, screen: Screen): Observable<number> {
  return defer(() => {
    const trace = readTraceFile(path);
    const { values, error } = followTrace(trace, (device) => servedRun(device, planOf(trace)).pipe(map((did) => ({ ns: device.clock.nowNs(), did }))));
    for (const { ns, did } of values) sayAt(screen, ns, did);
    const { incomplete, entries } = trace;
    if (error !== undefined && incomplete === undefined) return throwError(() => error as Error);
    say(screen, { followed: entries.length, ...(incomplete === undefined ? {} : { incomplete }) }, incomplete === undefined ? `followed to its end: ${entries.length} entries` : `followed as far as it goes: ${incomplete.message}`);
    return of(0);
  });
}
