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
    const followed = followTrace(trace, (device) => servedRun(device, planOf(trace)).pipe(map((did) => ({ ns: device.clock.nowNs(), did }))));
    for (const { ns, did } of followed.values) sayAt(screen, ns, did);
    const { incomplete, entries } = trace;
    if (incomplete !== undefined) say(screen, { followed: entries.length, incomplete }, `followed as far as it goes: ${incomplete.message}`);
    else if ('error' in followed) return fails(followed.error);
    else say(screen, { followed: entries.length }, `followed to its end: ${entries.length} entries`);
    return of(0);
  });
}

function fails(error: unknown): Observable<never> {
  return throwError(() => error);
}
