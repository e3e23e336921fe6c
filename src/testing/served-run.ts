import { concat, ignoreElements, merge, mergeMap, NEVER, Observable, of, Subject, takeUntil, tap, timer } from 'rxjs';
import { timerMs } from '../clock.js';
import { disregard } from '../devices/call.js';
import type { VfioDevice } from '../devices/device.js';
import type { Call, Chunk, DataChannel, State } from '../devices/port.js';
import { isSaving } from '../devices/protocol/migration-states.js';
import type { Remap } from '../devices/remap-batch.js';
import { steps } from '../devices/steps.js';
import { VfioError } from '../errors.js';
import { remapRegions } from '../operators/remap-regions.js';
import { remapIrq } from '../streams/remap-irq.js';
import { transition, type Arc } from '../streams/transition.js';

/** What happens in a run of `servedRun`. */
export interface RunPlan {
  /**
   * Where device_state goes, one after the other, beginning when the first batch has ended. What there is to save is read; RESUMING is given what was
   * saved last to its end, as far as that is 64 MiB or less.
   */
  readonly states?: readonly State[];
  /** When it ends, ms after its begin, whatever goes on. Default: after the last of the states; where there are none, never. */
  readonly forMs?: number;
  /** Ends it too, with its first value. */
  readonly until?: Observable<unknown>;
}

/** What one read asks for, bytes. */
const readBytes = 1 << 20;
/** As much is kept of what was saved, bytes. */
const mostKept = 64 * 2 ** 20;
/** A stream longer than this is left, bytes: it may have no end. */
const mostBytes = 2 ** 32;

/**
 * A run of a device to be recorded: its remaps are served, device_state goes where it is told, and what happened is told in
 * lines without times, so that a replay tells the same.
 *
 * ```
 * signal     ---1--- --------
 * state      -- ---[p---]----
 * servedRun  r--s--- ----(ab)     r, s: a batch; a: the arc; b: what there was to save
 * ```
 *
 * - **Emits** a line for each batch, for each arc or why it failed, and for the bytes that were saved after it. **Drops** nothing.
 * - **Completes** as its plan says. **Fails** as `remapIrq` and `remapRegions` do.
 * - **Releases** what these do, and closes the data_fd.
 *
 * @example
 * withDevice('0000:03:00.1', (device) => servedRun(device, { states: ['pre-copy', 'running'] }), { record: traceFile('run.jsonl') })
 * @see followTrace
 */
export function servedRun(device: VfioDevice, { states = [], forMs, until = NEVER }: RunPlan = {}): Observable<string> {
  return new Observable<string>((subscriber) => {
    const { scheduler } = device.clock;
    const gone = new Subject<void>();
    // In a turn of its own: so that it makes no difference whether the states end a run or a timer does.
    const going = concat(goneThrough(device, states), timer(0, scheduler).pipe(tap(() => gone.next()), ignoreElements()));
    const served = remapIrq(device).pipe(
      remapRegions(device),
      mergeMap((remap, index) => (index === 0 ? concat(of(inWords(remap)), going) : of(inWords(remap)))),
    );
    const end: Observable<unknown> = forMs !== undefined ? timer(timerMs(forMs), scheduler) : states.length > 0 ? gone : NEVER;
    return concat(served, NEVER).pipe(takeUntil(merge(end, until))).subscribe(subscriber);
  });
}

/** One arc after the other; a failure is told, and the next one is tried. */
function goneThrough(device: VfioDevice, states: readonly State[]): Observable<string> {
  return new Observable<string>((subscriber) => {
    let data: DataChannel | undefined;
    const image = new Image();
    const leave = (): void => {
      if (data !== undefined) disregard(data.close());
      data = undefined;
    };
    subscriber.add(leave);
    const going = steps<undefined>(function* () {
      for (const to of states) {
        try {
          if (to === 'resuming' && !image.whole) {
            subscriber.next('device_state resuming was not asked for: nothing was saved to its end that could be loaded');
            continue;
          }
          const arc = (yield transition(device, to)) as Arc;
          subscriber.next(`${arc.from} -> ${to}`);
          if (arc.data !== undefined || !isSaving(to)) leave();
          if (arc.data?.direction === 'save') image.begin();
          data ??= arc.data;
          if (data?.direction === 'save' && isSaving(to)) subscriber.next(yield* drained(data, image));
          if (data?.direction === 'resume') subscriber.next(yield* loaded(data, image));
        } catch (error) {
          subscriber.next(`device_state ${to} failed: ${VfioError.is(error) ? error.code : String(error)}`);
        }
      }
      return undefined;
    });
    subscriber.add(going.pipe(ignoreElements()).subscribe(subscriber));
  });
}

/** What a session of saving has brought. */
class Image {
  readonly chunks: Uint8Array[] = [];
  whole = false;
  #bytes = 0;

  begin(): void {
    this.chunks.length = 0;
    this.whole = false;
    this.#bytes = 0;
  }

  take(bytes: Uint8Array): void {
    this.#bytes += bytes.length;
    if (this.#bytes <= mostKept) this.chunks.push(bytes);
  }

  end(): void {
    this.whole = this.#bytes <= mostKept;
  }
}

function* drained(data: DataChannel, image: Image): Generator<Call<unknown>, string, unknown> {
  for (let bytes = 0; ;) {
    const chunk = (yield data.read(readBytes)) as Chunk;
    if (chunk.kind === 'end') image.end();
    if (chunk.kind !== 'bytes') return `${bytes} bytes saved, then ${chunk.kind}`;
    image.take(chunk.bytes);
    bytes += chunk.bytes.length;
    if (bytes > mostBytes) return `more than ${mostBytes} bytes saved, and no end: left`;
  }
}

function* loaded(data: DataChannel, { chunks }: Image): Generator<Call<unknown>, string, unknown> {
  let bytes = 0;
  for (const chunk of chunks) {
    yield data.write(chunk);
    bytes += chunk.length;
  }
  return `${bytes} bytes loaded`;
}

/** `batch 3, signal, 1 read, acked, region 0 -1 +0` */
function inWords({ batch, because, sumRead, acked, diffs, notMapped }: Remap): string {
  const moved = diffs.filter(({ revoked, added }) => revoked.length + added.length > 0).map(({ index, revoked, added }) => `region ${index} -${revoked.length} +${added.length}`);
  return [`batch ${batch}`, because, ...(sumRead > 0n ? [`${sumRead} read`] : []), ...(acked ? ['acked'] : []), ...moved, ...(notMapped.length > 0 ? [`${notMapped.length} not mapped`] : [])].join(', ');
}
