import { closeSync, openSync, readSync } from 'node:fs';

/** What the kernel says of an eventfd that another process handed over. */
export interface EventfdFacts {
  readonly count: bigint;
  /** The same for every fd of it, in all processes. */
  readonly id: string;
  /** EFD_SEMAPHORE; false on kernels that do not say (before 6.5). */
  readonly semaphore: boolean;
}

/** undefined for a fd that is no eventfd. Source: fs/eventfd.c, what it shows in /proc/self/fdinfo. */
export function eventfdFacts(fd: number): EventfdFacts | undefined {
  const fields = new Map(headOf(`/proc/self/fdinfo/${fd}`).split('\n').map((line) => line.split(/:\s*/) as [string, string]));
  const [count, id] = [fields.get('eventfd-count'), fields.get('eventfd-id')];
  if (count === undefined || id === undefined) return undefined;
  return { count: BigInt(`0x${count.trim()}`), id, semaphore: fields.get('eventfd-semaphore') === '1' };
}

/** An eventfd's is shorter by far. Of other files it may be endless: an epoll fd has a line for each fd that it watches. */
const mostBytes = 1024;

function headOf(path: string): string {
  const file = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(mostBytes);
    return bytes.toString('latin1', 0, readSync(file, bytes));
  } finally {
    closeSync(file);
  }
}
