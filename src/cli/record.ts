import { existsSync } from 'node:fs';
import { catchError, concat, concatMap, defer, EMPTY, finalize, ignoreElements, of, tap, throwError, type Observable } from 'rxjs';
import type { VfioDevice } from '../devices/device.js';
import { withDevice } from '../devices/open.js';
import type { State } from '../devices/port.js';
import { traceFile, type TraceFileReport } from '../devices/replay/trace-file.js';
import { VfioError } from '../errors.js';
import { servedRun } from '../testing/served-run.js';
import { parseDevice } from './devices.js';
import { keepAsTest } from './keep-as-test.js';
import { say, sayAt, type Screen } from './show.js';
import { tryFile, tryOther } from './write-text.js';

/** What `vfio-rx record` is told. */
export interface RecordOptions {
  readonly device: string;
  /** The trace's file. */
  readonly out: string;
  /** Where device_state goes while it is recorded. */
  readonly states: readonly State[];
  /** How long, ms. Default: to the last of the states, or until the interrupt. */
  readonly forMs?: number | undefined;
  /** How many bytes of one access or piece of device state are kept. Default 64. */
  readonly dataBytes?: number | undefined;
  /** Where a test that replays the trace is written. */
  readonly test?: string | undefined;
}

/**
 * Serves a device, takes it through states, and writes down what crosses its port. Emits the exit code. Fails as `openDevice` and the
 * remap pipeline do; what was recorded until then is kept. Throws VFIO_E_ADDRESS.
 */
export function recordCommand({ device: named, out, states, forMs, dataBytes, test }: RecordOptions, screen: Screen, interrupt: Observable<unknown>): Observable<number> {
  const { address } = parseDevice(named);
  return defer(() => {
    if (typeof address === 'string' && address.startsWith('trace:')) tryOther(out, [address.slice('trace:'.length)], 'write trace');
    tryFile(out, 'write trace');
    if (test !== undefined) tryTest(test, out);
    const record = traceFile(out, dataBytes === undefined ? {} : { dataBytes, maxPendingBytes: 64 * 2 ** 20 });
    let interrupted = false;
    const until = interrupt.pipe(tap(() => { interrupted = true; }));
    // Said when nobody listens to the interrupt any more: the next one is the system's.
    const saysSo = (): void => {
      if (interrupted) say(screen, { interrupted }, 'interrupted: the device is closed, and the trace written (Ctrl-C again ends at once)');
    };
    const written = record.closed.pipe(
      tap((report) => told(report, screen)),
      concatMap(({ error }) => (error === undefined ? EMPTY : fails(error))),
    );
    const run = (device: VfioDevice): Observable<string> => {
      say(screen, { recording: device.name, to: out }, `recording ${device.name} to ${out}${forMs === undefined && states.length === 0 ? ', until the interrupt (Ctrl-C)' : ''}`);
      const sinceNs = device.clock.nowNs();
      return servedRun(device, { states, until, ...(forMs === undefined ? {} : { forMs }) }).pipe(
        tap((did) => sayAt(screen, device.clock.nowNs() - sinceNs, did)),
        finalize(saysSo),
      );
    };
    const recorded = withDevice(address, run, { record }).pipe(catchError((error: unknown) => concat(written, fails(error))));
    const kept = defer(() => {
      if (test !== undefined) keepAsTest(out, test, screen);
      return of(0);
    });
    return concat(concat(recorded, written).pipe(ignoreElements()), kept);
  });
}

function tryTest(test: string, out: string): void {
  const operation = 'write test';
  if (existsSync(test)) throw new VfioError('VFIO_E_ADDRESS', 'there is such a file, and it may have been changed by hand: name another one', { operation, device: test });
  tryOther(test, [out], operation);
  tryFile(test, operation);
}

function fails(error: unknown): Observable<never> {
  return throwError(() => error);
}

function told({ path, lines, dropped }: TraceFileReport, screen: Screen): void {
  const missing = dropped === 0 ? '' : `, and ${dropped} that found no room: the disk is too slow, or full`;
  say(screen, { trace: path, lines, dropped }, `${path}: ${lines} lines${missing}${lines > 0 ? `. Look at it: vfio-rx render ${path}` : ''}`);
}
