import { Worker } from 'node:worker_threads';
import { concatMap, defer, filter, finalize, ignoreElements, map, merge, Observable, share, take, takeWhile, tap } from 'rxjs';
import type { VfioDevice } from 'vfio-rx';
import type { Progress } from './guest.js';
import { workerHolder, type WorkerLine } from './holder.js';
import { mailboxRegion, wordBytes, type GuestPlan } from './mailbox.js';
import type { FromWorker, WorkerPlan } from './worker-messages.js';

export interface WorkerOptions {
  /** How often it looks for empty slots. */
  readonly turnMs: number;
  /** How long the thread may take to make its first view, ms. */
  readonly firstViewMs: number;
  readonly stale?: boolean;
}

/**
 * A guest in a worker thread that writes by its own view of the mapped piece. While it has none it asks for trapped writes,
 * one at a time, so that it goes on during every revocation.
 *
 * Emits its progress; completes after `stop`, when it holds nothing and no number is on its way any more.
 */
export function workerGuest(device: VfioDevice, plan: GuestPlan, stop: Observable<unknown>, options: WorkerOptions): Observable<Progress> {
  return defer(() => {
    const thread = startThread({ ...plan, turnMs: options.turnMs, stale: options.stale === true });
    const region = device.region(mailboxRegion);
    const stopped = defer(() => {
      thread.tell({ kind: 'stop' });
      return thread.says.pipe(filter(({ kind }) => kind === 'stopped'));
    });
    const holding = thread.says.pipe(
      filter(({ kind }) => kind === 'ready'),
      concatMap(() => region.hold([plan.area], workerHolder(plan.name, thread), options.firstViewMs)),
      concatMap((hold) => stop.pipe(take(1), concatMap(() => stopped), concatMap(() => hold.release()))),
      ignoreElements(),
    );
    const trapping = thread.says.pipe(
      filter((message) => message.kind === 'trap'),
      concatMap(({ word }) => region.request({ offset: plan.trapOffset, write: wordBytes(word) })),
      tap(() => thread.tell({ kind: 'trapped' })),
      ignoreElements(),
    );
    const progress = thread.says.pipe(
      filter((message) => message.kind === 'progress' || message.kind === 'stopped'),
      map(({ sent }): Progress => ({ guest: plan.id, sent })),
    );
    return merge(holding, trapping, progress).pipe(finalize(() => thread.end()));
  });
}

interface Thread extends WorkerLine {
  end(): void;
}

function startThread(workerData: WorkerPlan): Thread {
  // Without the loaders of whoever started us: the thread is plain JavaScript and starts sooner.
  const worker = new Worker(new URL('./worker-thread.mjs', import.meta.url), { workerData, execArgv: [] });
  const says = new Observable<FromWorker>((subscriber) => {
    worker.on('message', (message: FromWorker) => subscriber.next(message));
    worker.on('error', (error) => subscriber.error(error));
  }).pipe(
    takeWhile(({ kind }) => kind !== 'stopped', true),
    share(),
  );
  return { says, tell: (message) => worker.postMessage(message), end: () => void worker.terminate() };
}
