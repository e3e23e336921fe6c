import { concat, concatMap, defer, EMPTY, finalize, from, ignoreElements, map, range, reduce, repeat, takeWhile, tap, timer, type Observable } from 'rxjs';
import { transition, type Arc, type DataChannel, type State, type VfioDevice } from 'vfio-rx';

/** A step of a round: an arc was gone, or the device has said what it had to say in this state. */
export type Step = { readonly kind: 'arc'; readonly arc: Arc } | { readonly kind: 'saved'; readonly state: State; readonly bytes: number };

/** The ways into the saving group and back, in turn. */
const paths: readonly (readonly State[])[] = [
  ['pre-copy', 'running'],
  ['stop-copy', 'running'],
  ['pre-copy', 'stop-copy', 'running'],
];

/** The most that one read of a data_fd asks for, bytes. */
const chunkBytes = 0x1_0000;

/** Drives device_state into the saving group and back, again and again, and stays `seconds` in all. */
export function migrationRounds(device: VfioDevice, rounds: number, seconds: number): Observable<Step> {
  const chosen = Array.from({ length: rounds }, (_, round) => paths[round % paths.length] ?? []);
  const stayMs = (seconds * 1000) / (chosen.flat().length + 1);
  return concat(
    pause(device, stayMs),
    range(0, rounds).pipe(concatMap((round) => oneRound(device, chosen[round] ?? [], stayMs))),
  );
}

/** The data_fd that a saving state opened is read until it has no more, and closed with the round. */
function oneRound(device: VfioDevice, path: readonly State[], stayMs: number): Observable<Step> {
  return defer(() => {
    let data: DataChannel | undefined;
    const close = (): void => void data?.close().subscribe();
    const go = (to: State): Observable<Step> =>
      concat(
        transition(device, to).pipe(
          tap((arc) => (data = arc.data ?? data)),
          map((arc): Step => ({ kind: 'arc', arc })),
        ),
        defer(() => (to === 'running' || data === undefined ? EMPTY : drained(data, to))),
        pause(device, stayMs),
      );
    return from(path).pipe(concatMap(go), finalize(close));
  });
}

/** Bytes are pulled: one read at a time, until the device has no more for now. */
function drained(data: DataChannel, state: State): Observable<Step> {
  return data.read(chunkBytes).pipe(
    repeat(),
    takeWhile((chunk) => chunk.kind === 'bytes'),
    reduce((sum, { bytes }) => sum + bytes.length, 0),
    map((bytes): Step => ({ kind: 'saved', state, bytes })),
  );
}

function pause(device: VfioDevice, ms: number): Observable<never> {
  return timer(ms, device.clock.scheduler).pipe(ignoreElements());
}
