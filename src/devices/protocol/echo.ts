/**
 * The echo of a `write-one` ack: it goes to the trigger eventfd, so the user may read its own 1 again. It reads right after
 * the ack, and so never owes itself more than one.
 */

/** What an ack by `write-one` adds. */
export const echo = 1n;

/**
 * What was read right after such an ack.
 *
 * - `drained`: nothing. The driver took the echo out; none is owed.
 * - `doubtful`: as much as the echo. It is that, or the driver drained it and signalled once: only the layouts can tell.
 * - `signal`: more, so the driver has signalled.
 */
export type AfterAck = 'drained' | 'doubtful' | 'signal';

export function readAfterAck(count: bigint | undefined): AfterAck {
  if (count === undefined) return 'drained';
  return count === echo ? 'doubtful' : 'signal';
}
