import { defer, filter, ignoreElements, merge, take, type Observable } from 'rxjs';
import type { Holder, MappedPiece } from 'vfio-rx';
import type { FromWorker, SharedPiece, ToWorker } from './worker-messages.js';

/** The line to the guest's thread. */
export interface WorkerLine {
  tell(message: ToWorker): void;
  /** What it says from now on; fails when the thread does. */
  readonly says: Observable<FromWorker>;
}

/**
 * The thread as a holder of mapped areas: before an area is unmapped the thread has said that it writes there no more.
 * Asked and answered in messages and Observables; there is no Promise on the way to the ack.
 */
export function workerHolder(name: string, line: WorkerLine): Holder {
  // Listening begins before the question is asked.
  const ask = (question: ToWorker, answer: FromWorker['kind']): Observable<unknown> =>
    merge(line.says.pipe(filter(({ kind }) => kind === answer), take(1)), defer(() => {
      line.tell(question);
      return [];
    })).pipe(ignoreElements());
  return {
    name,
    // The guest holds one area, and all of it comes and goes together.
    release: () => ask({ kind: 'release' }, 'released'),
    regain: (pieces: readonly MappedPiece[]) => ask({ kind: 'regain', pieces: pieces.map(shared) }, 'regained'),
  };
}

/** A view of native memory cannot be posted to a thread; its address can. */
function shared({ area, memory, byteOffset, address }: MappedPiece): SharedPiece {
  return address === undefined ? { ...area, memory, byteOffset } : { ...area, address };
}
