/**
 * The arithmetic of eventfd counts in the `value` ack: the user writes back the sum of what it read, mod 2^64.
 */

/** An eventfd that reads this or more may have lost adds: anything may have changed. */
export const saturatedCount = 2n ** 64n - 2n;

/** The largest count that one write can add to an eventfd. */
const largestWrite = 2n ** 64n - 2n;

export function isSaturated(count: bigint): boolean {
  return count >= saturatedCount;
}

/** The writes that bring `sum` to the driver: none for 0, one for almost any, more for what no single write can carry. */
export function ackWrites(sum: bigint): readonly bigint[] {
  const writes: bigint[] = [];
  for (let rest = sum; rest > 0n; rest -= largestWrite) writes.push(rest < largestWrite ? rest : largestWrite);
  return writes;
}
