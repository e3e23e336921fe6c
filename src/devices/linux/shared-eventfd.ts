import { EAGAIN, type Binding } from './binding.js';
import { eventfdFacts } from './eventfd-facts.js';

/** 2^64-2: what an eventfd holds at most by writes. */
const largestCount = 0xffff_ffff_ffff_fffen;

/**
 * Adds to an eventfd that another process has, too, as `writeCount` does: -EAGAIN where there is no room, which is not waited for. Of all who have it anybody can take
 * O_NONBLOCK off, and fill it: so it is looked at before. Only who fills it between that look and the write still keeps the writer.
 */
export function writeShared(binding: Binding, fd: number, count: bigint): number {
  // A poll says that there is room for 1.
  if (!binding.takesWrite(fd) || (count > 1n && !binding.nonBlocking(fd) && count > roomOf(fd))) return -EAGAIN;
  return binding.writeCount(fd, count);
}

/** None where the kernel does not say it: no file descriptor is left to ask with. */
function roomOf(fd: number): bigint {
  try {
    return largestCount - (eventfdFacts(fd)?.count ?? largestCount);
  } catch {
    return 0n;
  }
}
