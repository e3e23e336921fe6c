import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Open fds of this process by what they are, without the one that lists them. */
export function openFds(): Map<string, number> {
  const kinds = new Map<string, number>();
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      const kind = readlinkSync(`/proc/self/fd/${fd}`);
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    } catch {
      // The directory's own fd is gone by now.
    }
  }
  return kinds;
}

/** Open eventfds, epoll fds: the kinds that could leak here. */
export function countFds(kind: 'eventfd' | 'eventpoll'): number {
  return openFds().get(`anon_inode:[${kind}]`) ?? 0;
}

/** How many fds an epoll fd holds, and how many of these are armed for input. */
export function epollTargets(epollFd: number): { readonly total: number; readonly armed: number } {
  const masks = readFileSync(`/proc/self/fdinfo/${String(epollFd)}`, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('tfd:'))
    .map((line) => Number.parseInt(/events:\s*([0-9a-f]+)/.exec(line)?.[1] ?? '0', 16));
  return { total: masks.length, armed: masks.filter((mask) => (mask & 1) !== 0).length };
}

/** The mappings of this process that overlap an address range, as /proc/self/maps names them. */
export function mappingsAt(address: bigint, size: number): string[] {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => {
      const [start, end] = (line.split(' ')[0] ?? '').split('-').map((hex) => BigInt(`0x${hex === '' ? '0' : hex}`));
      return start !== undefined && end !== undefined && start < address + BigInt(size) && end > address;
    });
}

/** A file of test/devices/linux/children, to run in a process of its own. */
export function childFile(name: string): string {
  return fileURLToPath(new URL(`./children/${name}`, import.meta.url));
}

/** After this turn of the event loop: its check phase comes right after the fds were served. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
