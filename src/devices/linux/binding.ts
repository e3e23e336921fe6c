import { constants } from 'node:os';
import type { StreamCalls } from './stream-calls.js';

/**
 * The one seam between this library and the C world: raw Linux calls, nothing else. Every call answers as the kernel
 * does, with its value or with `-errno`; `syscalls.ts` above turns that into typed errors and retries. The interface
 * is so narrow that a native addon can take the place of koffi, and that a test can put faults between the two.
 *
 * Why koffi and not ffi-napi: ffi-napi is abandoned and its install fails on Node 20 (its native code no longer
 * compiles against the headers), and where it can be built by hand a call costs about twenty times as much. koffi is
 * maintained, comes prebuilt for each platform (its install script, which compiles where no binary fits, need not run),
 * and brings what an event loop needs: typed arrays as pointers without a copy, views on mapped memory and a poll handle
 * on Node's own loop. It is pinned exactly, because the reactor leans on details of that poll handle.
 *
 * Addresses are numbers: user space of x86-64 and arm64 ends far below 2^53.
 */
export interface Binding extends StreamCalls {
  /** Bytes; 4096 on x86-64, up to 65536 on arm64. */
  readonly pageSize: number;

  open(path: string, flags: number): number;
  close(fd: number): number;
  /** `argument`: a struct's bytes, changed in place, or an integer where the call takes one (VFIO_SET_IOMMU). */
  ioctl(fd: number, request: number, argument: number | ArrayBufferView): number;
  read(fd: number, bytes: Uint8Array): number;
  write(fd: number, bytes: Uint8Array): number;
  pread(fd: number, bytes: Uint8Array, offset: bigint): number;
  pwrite(fd: number, bytes: Uint8Array, offset: bigint): number;

  /** The address, or -errno. `address` 0 lets the kernel choose. */
  mmap(address: number, length: number, protection: number, flags: number, fd: number, offset: bigint): number;
  munmap(address: number, length: number): number;
  madvise(address: number, length: number, advice: number): number;
  /** Native memory as an ArrayBuffer, without a copy and without ownership. Throws where V8 cannot (4 GiB on Node 20). */
  view(address: number, length: number): ArrayBuffer;
  /** Where the bytes of a typed array are, for a struct that holds a pointer. Keep the array alive meanwhile. */
  addressOf(bytes: ArrayBufferView): number;

  eventfd(initial: number, flags: number): number;
  /** The count (0 to 2^64-1), or -errno. */
  readCount(fd: number): bigint;
  /** The same of an eventfd that another process may have taken O_NONBLOCK off: it never waits (before Linux 5.8: unless somebody else reads it in the same moment). */
  readCountNow(fd: number): bigint;
  writeCount(fd: number, count: bigint): number;
  /** False where a write would wait now: what another process handed over may have no O_NONBLOCK. */
  takesWrite(fd: number): boolean;
  /** Whether it has O_NONBLOCK now. */
  nonBlocking(fd: number): boolean;

  epollCreate(flags: number): number;
  /** `slot` and `generation` (32 bits each) come back in the words of a ready event. */
  epollControl(epollFd: number, operation: number, fd: number, events: number, slot: number, generation: number): number;
  /**
   * Fills `batch.words` and answers how many events. Waits for `timeoutNs` at most (less than a second); 0 never waits.
   * A timeout needs epoll_pwait2 (Linux 5.11): -ENOSYS before.
   */
  epollWait(epollFd: number, batch: EpollBatch, timeoutNs: number): number;
  epollBatch(capacity: number): EpollBatch;

  listen(fd: number, backlog: number): number;
  /** Non-blocking, closed on exec: as all that these calls make. */
  accept(fd: number): number;
  /** No more is sent: the other side reads the end. */
  shutdownOutput(fd: number): number;
  dup(fd: number): number;
  /** Memory as a file, of `bytes`, for whoever gets its fd; nobody can make it shorter or longer any more. */
  memfd(name: string, bytes: number): number;
  /** One sendmsg; `fds` travel with the first byte. How many bytes went: they may be fewer. Never raises SIGPIPE. */
  sendMessage(fd: number, bytes: Uint8Array, fds: readonly number[]): number;
  /** One recvmsg, of at most `bytes.length`. What it brought beside them replaces the contents of `received`. */
  receiveMessage(fd: number, bytes: Uint8Array, received: ReceivedFds): number;

  /** Calls `ready` from the event loop whenever `fd` is readable (level-triggered), until closed. `ready` must not throw. */
  watch(fd: number, ready: (status: number) => void): Watch;

  /** Ends the process without any cleanup (`_exit`). */
  exit(code: number): void;
}

/** What the kernel takes with one message (SCM_MAX_FD): with room for all of them none is lost unseen. */
export const mostFdsAtOnce = 253;

/** What came beside the bytes of a message. */
export interface ReceivedFds {
  /** This process's own now: whoever asked closes them. */
  fds: number[];
  /** There were more than could be taken; the kernel has closed those. */
  cut: boolean;
}

/** Room for the events of one epoll_wait: `capacity` times `epollLayout.words` 32-bit words. */
export interface EpollBatch {
  readonly capacity: number;
  readonly words: Uint32Array;
  readonly address: number;
}

/** A fd on the event loop. */
export interface Watch {
  /** Keeps the process alive (so it starts). */
  ref(): void;
  unref(): void;
  /** Once; the others must not be called after it. */
  close(): void;
}

/** `struct epoll_event` (uapi/linux/eventpoll.h) is packed on x86-64 only: 12 bytes there, 16 elsewhere. */
export const epollLayout =
  process.arch === 'x64'
    ? ({ words: 3, events: 0, slot: 1, generation: 2 } as const)
    : ({ words: 4, events: 0, slot: 2, generation: 3 } as const);

/** Flags of the generic Linux ABI (uapi/asm-generic): the same on x86-64 and arm64. */
export const linux = {
  O_RDONLY: 0,
  O_RDWR: 2,
  O_NONBLOCK: 0o4000,
  O_CLOEXEC: 0o2000000,
  PROT_NONE: 0,
  PROT_READ: 1,
  PROT_WRITE: 2,
  MAP_SHARED: 0x01,
  MAP_PRIVATE: 0x02,
  MAP_FIXED: 0x10,
  MAP_ANONYMOUS: 0x20,
  MAP_NORESERVE: 0x4000,
  MADV_DONTFORK: 10,
  EPOLL_CTL_ADD: 1,
  EPOLL_CTL_DEL: 2,
  EPOLL_CTL_MOD: 3,
  EPOLLIN: 0x001,
  EPOLLOUT: 0x004,
  EPOLLERR: 0x008,
  EPOLLHUP: 0x010,
  EPOLLONESHOT: 0x40000000,
} as const;

const names = new Map<number, string>(Object.entries(constants.errno).map(([name, value]) => [value, name]));
// Node's table gives EAGAIN and EWOULDBLOCK, EOPNOTSUPP and ENOTSUP the same number: name the ones that man pages use.
names.set(constants.errno.EAGAIN, 'EAGAIN');
names.set(constants.errno.EOPNOTSUPP, 'EOPNOTSUPP');

/** `-11` -> `EAGAIN`. A number without a name reads `E512`: drivers do leak internal ones. */
export function errnoName(failure: number | bigint): string {
  const errno = Math.abs(Number(failure));
  return names.get(errno) ?? `E${String(errno)}`;
}

export const EAGAIN = constants.errno.EAGAIN;
export const ECONNABORTED = constants.errno.ECONNABORTED;
export const EINTR = constants.errno.EINTR;
export const EINPROGRESS = constants.errno.EINPROGRESS;
