import { readFileSync } from 'node:fs';

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
  const fields = new Map(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1').split('\n').map((line) => line.split(/:\s*/) as [string, string]));
  const [count, id] = [fields.get('eventfd-count'), fields.get('eventfd-id')];
  if (count === undefined || id === undefined) return undefined;
  return { count: BigInt(`0x${count.trim()}`), id, semaphore: fields.get('eventfd-semaphore') === '1' };
}
