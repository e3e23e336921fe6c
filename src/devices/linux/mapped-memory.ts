import { VfioError } from '../../errors.js';
import { linux } from './binding.js';
import { linuxSyscalls, type Syscalls } from './syscalls.js';

/** A part of a mapping, bytes from its start; both multiples of the page size. */
export interface MemoryRange {
  readonly offset: number;
  readonly size: number;
}

/** What may be done with a mapping; a region's info says what it allows. */
export interface Protection {
  readonly read: boolean;
  readonly write: boolean;
}

/**
 * Memory that can be taken away from under its views.
 *
 * A view on memory that is unmapped is a crash waiting for its next access, and an ArrayBuffer on foreign memory cannot
 * be detached. So `revoke` does not unmap: it puts private zero pages in the same place. The driver's mapping is gone
 * (its vma is closed), a stale view reads zeros and writes into nothing. `place` puts a device there again: then every
 * view of this memory, however old, shows that.
 *
 * Not copied into a child on fork (MADV_DONTFORK): a child would keep the driver's mapping open.
 */
export class MappedMemory {
  /** The memory, without a copy. Hand out accessors rather than this: only they can tell that it was revoked. */
  readonly memory: ArrayBuffer;
  /** Where it is, for a view made in another thread of this process, or for DMA. */
  readonly address: bigint;
  readonly size: number;
  readonly #calls: Syscalls;
  readonly #start: number;
  readonly #device: string | undefined;
  #closed = false;

  /** @internal Use `mapRegion` or `mapAnonymous`. */
  constructor(calls: Syscalls, start: number, size: number, memory: ArrayBuffer, device: string | undefined) {
    this.#calls = calls;
    this.#start = start;
    this.size = size;
    this.memory = memory;
    this.address = BigInt(start);
    this.#device = device;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Takes a part, or all, away: what was there is unmapped, and zero pages of this process stand in its place.
   * Already revoked parts may be revoked again.
   *
   * The device's pages go first, stale views come second. Where the kernel gives no writable zero pages (ENOMEM: the
   * commit limit, RLIMIT_DATA) they are read-only: a stale view reads zeros, and a write through it ends the process by
   * SIGSEGV. Where it gives no mapping at all (vm.max_map_count) the range is unmapped, and filled again as soon as that
   * made room; if even that fails, an access through a stale view ends the process by SIGSEGV.
   *
   * @throws VfioError `VFIO_E_RANGE` (not page-aligned, or outside), `VFIO_E_CLOSED`, `VFIO_E_LIMIT` (ENOMEM: a part
   *   in the middle would split the mapping, and vm.max_map_count is reached): only then it is still mapped.
   */
  revoke(range: MemoryRange = { offset: 0, size: this.size }): void {
    if (this.#closed) throw new VfioError('VFIO_E_CLOSED', 'the mapping is closed', { operation: 'revoke', device: this.#device });
    const { offset, size } = range;
    const page = this.#calls.binding.pageSize;
    if (!isPages(offset, page) || !isPages(size, page) || size === 0 || offset + size > this.size) {
      throw new VfioError('VFIO_E_RANGE', `bytes ${String(offset)} to ${String(offset + size)} are not whole pages of this mapping (${String(this.size)} bytes)`, { operation: 'revoke', device: this.#device });
    }
    this.#zero(offset, size);
  }

  /**
   * Puts a part of a device's region over all of it, as `mapRegion` does. On failure it is revoked.
   *
   * @param offset in the file, bytes
   * @throws VfioError as `mapRegion`; `VFIO_E_CLOSED`.
   */
  place(fd: number, offset: bigint, protection: Protection): void {
    if (this.#closed) throw new VfioError('VFIO_E_CLOSED', 'the mapping is closed', { operation: 'mmap', device: this.#device });
    try {
      putDevice(this.#calls, this.#start, this.size, fd, offset, protection, this.#device);
    } catch (error) {
      // Linux has unmapped what was there before it asks the driver: without this, stale views would have nothing.
      this.#zero(0, this.size);
      throw error;
    }
  }

  #zero(offset: number, size: number): void {
    const names = { operation: 'revoke', device: this.#device };
    const start = this.#start + offset;
    const fill = (protection: number): void => {
      this.#calls.mmap(start, size, protection, zeroPages | linux.MAP_FIXED, -1, 0n, names);
    };
    if (fits(() => fill(linux.PROT_READ | linux.PROT_WRITE)) || fits(() => fill(linux.PROT_READ))) return;
    this.#calls.munmap(start, size, names);
    fits(() => fill(linux.PROT_READ));
  }

  /**
   * Unmaps everything, address space included. Safe only when no view is used any more, in no thread: a later access
   * kills the process (SIGSEGV), or reads whatever is mapped there by then. When in doubt, `revoke` and keep it: that
   * costs address space and nothing else. Twice is fine.
   *
   * @throws VfioError `VFIO_E_LIMIT` (ENOMEM: the kernel had joined it with its neighbours, and vm.max_map_count is reached): only then it is still mapped.
   */
  close(): void {
    if (this.#closed) return;
    this.#calls.munmap(this.#start, this.size, { operation: 'munmap', device: this.#device });
    this.#closed = true;
  }
}

/** Costs nothing until touched. */
const zeroPages = linux.MAP_PRIVATE | linux.MAP_ANONYMOUS | linux.MAP_NORESERVE;

/**
 * Maps a part of a device's region: first reserves address space, then puts the device over it, so that it can be
 * revoked in place.
 *
 * @param offset in the file, bytes: the region's offset plus the area's; a multiple of the page size
 * @param size bytes, whole pages
 * @throws VfioError by errno: EINVAL where the region does not allow it, EAGAIN/ENOMEM at a limit, ENODEV when the device
 *   is gone; nothing stays mapped then. `VFIO_E_RANGE` before the kernel is asked.
 */
export function mapRegion(fd: number, offset: bigint, size: number, protection: Protection, calls: Syscalls = linuxSyscalls(), device?: string): MappedMemory {
  const page = calls.binding.pageSize;
  if (!isPages(size, page) || size === 0 || offset < 0n || offset % BigInt(page) !== 0n) {
    throw new VfioError('VFIO_E_RANGE', `offset ${String(offset)} and size ${String(size)} are not whole pages of ${String(page)} bytes`, { operation: 'mmap', device });
  }
  return reserved(calls, size, device, (start) => {
    putDevice(calls, start, size, fd, offset, protection, device);
  });
}

function putDevice(calls: Syscalls, start: number, size: number, fd: number, offset: bigint, protection: Protection, device: string | undefined): void {
  const flags = (protection.read ? linux.PROT_READ : 0) | (protection.write ? linux.PROT_WRITE : 0);
  calls.mmap(start, size, flags, linux.MAP_SHARED | linux.MAP_FIXED, fd, offset, { operation: 'mmap', device });
  calls.madvise(start, size, linux.MADV_DONTFORK, { operation: 'madvise(MADV_DONTFORK)', device });
}

/** False where there was no room for it (ENOMEM). */
function fits(map: () => void): boolean {
  try {
    map();
    return true;
  } catch (error) {
    if (VfioError.is(error) && error.errno === 'ENOMEM') return false;
    throw error;
  }
}

/** Zeroed memory of this process, outside V8's heap: for DMA and for tests. Rounded up to whole pages. */
export function mapAnonymous(size: number, calls: Syscalls = linuxSyscalls()): MappedMemory {
  const page = calls.binding.pageSize;
  const rounded = Math.ceil(size / page) * page;
  if (!Number.isSafeInteger(rounded) || rounded <= 0) {
    throw new VfioError('VFIO_E_RANGE', `cannot map ${String(size)} bytes`, { operation: 'mmap' });
  }
  return reserved(calls, rounded, undefined, (start) => {
    calls.mmap(start, rounded, linux.PROT_READ | linux.PROT_WRITE, linux.MAP_PRIVATE | linux.MAP_ANONYMOUS | linux.MAP_FIXED, -1, 0n);
    calls.madvise(start, rounded, linux.MADV_DONTFORK);
  });
}

/** Address space, filled by `fill`, or given back when that or the view on it fails. */
function reserved(calls: Syscalls, size: number, device: string | undefined, fill: (start: number) => void): MappedMemory {
  const start = calls.mmap(0, size, linux.PROT_NONE, zeroPages, -1, 0n, { operation: 'mmap', device });
  try {
    fill(start);
    return new MappedMemory(calls, start, size, view(calls, start, size, device), device);
  } catch (error) {
    calls.munmap(start, size, { operation: 'munmap', device });
    throw error;
  }
}

function view(calls: Syscalls, start: number, size: number, device: string | undefined): ArrayBuffer {
  try {
    return calls.binding.view(start, size);
  } catch (cause) {
    throw new VfioError('VFIO_E_LIMIT', `this JavaScript engine cannot view ${String(size)} bytes of foreign memory in one ArrayBuffer`, { operation: 'view', device, cause });
  }
}

function isPages(bytes: number, page: number): boolean {
  return Number.isSafeInteger(bytes) && bytes >= 0 && bytes % page === 0;
}
