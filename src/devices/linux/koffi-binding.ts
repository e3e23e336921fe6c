import { constants } from 'node:buffer';
import { createRequire } from 'node:module';
import { VfioError } from '../../errors.js';
import { addressIn } from './koffi-arguments.js';
import { bindSockets } from './koffi-sockets.js';
import { bindStreams } from './koffi-streams.js';
import { epollLayout, type Binding, type EpollBatch, type Watch } from './binding.js';

type Koffi = typeof import('koffi');

/** What koffi's poll handle really calls back with; its type declaration names one argument only. */
type PollCallback = (status: number) => void;

let loaded: Binding | undefined;

/**
 * The binding over koffi, loaded at its first use: importing this library costs nothing on a machine without it.
 *
 * @throws VfioError `VFIO_E_UNAVAILABLE` where koffi cannot load or the machine is not 64-bit Linux.
 */
export function koffiBinding(): Binding {
  loaded ??= bind(loadKoffi());
  return loaded;
}

function loadKoffi(): Koffi {
  if (process.platform !== 'linux' || (process.arch !== 'x64' && process.arch !== 'arm64')) {
    throw new VfioError('VFIO_E_UNAVAILABLE', `system calls are bound for Linux on x86-64 and arm64 only, this is ${process.platform} on ${process.arch}`, { operation: 'load' });
  }
  try {
    return createRequire(import.meta.url)('koffi') as Koffi;
  } catch (cause) {
    throw new VfioError('VFIO_E_UNAVAILABLE', 'koffi (the FFI) cannot be loaded: install it with its optional platform package (not with --omit=optional)', { operation: 'load', cause });
  }
}

/** Flat closures over pre-bound functions: what a call costs here is paid for every irq. */
function bind(koffi: Koffi): Binding {
  const libc = koffi.load(null);
  const func = (definition: string): unknown => libc.func(definition);

  // ioctl is variadic in C; on x86-64 and arm64 Linux its third argument travels like a named one, and a fixed
  // prototype costs half of a variadic call. `int64_t` results keep a failed mmap (all ones) a plain -1.
  const open = func('int open(const char *, int)') as (path: string, flags: number) => number;
  const close = func('int close(int)') as (fd: number) => number;
  const ioctlBytes = func('int ioctl(int, unsigned long, void *)') as (fd: number, request: number, argument: ArrayBufferView) => number;
  const ioctlInteger = func('int ioctl(int, unsigned long, int64_t)') as (fd: number, request: number, argument: number) => number;
  const read = func('int64_t read(int, void *, size_t)') as (fd: number, bytes: Uint8Array, length: number) => number;
  const write = func('int64_t write(int, void *, size_t)') as (fd: number, bytes: Uint8Array, length: number) => number;
  const pread = func('int64_t pread(int, void *, size_t, int64_t)') as (fd: number, bytes: Uint8Array, length: number, offset: bigint) => number;
  const pwrite = func('int64_t pwrite(int, void *, size_t, int64_t)') as (fd: number, bytes: Uint8Array, length: number, offset: bigint) => number;
  const mmap = func('int64_t mmap(int64_t, int64_t, int, int, int, int64_t)') as (address: number, length: number, protection: number, flags: number, fd: number, offset: bigint) => number;
  const munmap = func('int munmap(int64_t, int64_t)') as (address: number, length: number) => number;
  const madvise = func('int madvise(int64_t, int64_t, int)') as (address: number, length: number, advice: number) => number;
  const eventfd = func('int eventfd(unsigned int, int)') as (initial: number, flags: number) => number;
  const epollCreate = func('int epoll_create1(int)') as (flags: number) => number;
  const exit = func('void _exit(int)') as (code: number) => void;
  const sysconf = func('int64_t sysconf(int)') as (name: number) => number;
  // The calls made for every signal take addresses of one scratch buffer as plain numbers: koffi unpacks a number
  // faster than a typed array.
  const readAt = func('int read(int, int64_t, int)') as (fd: number, address: number, length: number) => number;
  const writeAt = func('int write(int, int64_t, int)') as (fd: number, address: number, length: number) => number;
  const epollControl = func('int epoll_ctl(int, int, int, int64_t)') as (epollFd: number, operation: number, fd: number, event: number) => number;
  const epollWait = func('int epoll_wait(int, int64_t, int, int)') as (epollFd: number, events: number, capacity: number, timeout: number) => number;

  // By number, since glibc has a name for it only from 2.35 on.
  const epollWait2 = func(
    'int syscall(int64_t, int, int64_t, int, int64_t, int64_t, int64_t)',
  ) as (call: number, epollFd: number, events: number, capacity: number, timeout: number, mask: number, size: number) => number;

  // As epoll_pwait2: not every libc has it.
  const preadv2 = func('int64_t syscall(int64_t, int, int64_t, int64_t, int64_t, int64_t, int)') as (call: number, fd: number, vectors: number, count: number, low: number, high: number, flags: number) => number;

  // An ArrayBuffer of this size lives outside V8's heap and does not move; the closures below keep it alive.
  const scratch = new ArrayBuffer(4096);
  const count = new BigUint64Array(scratch, 0, 1);
  const event = new Uint32Array(scratch, 64, epollLayout.words);
  const countAddress = Number(koffi.address(count));
  const eventAddress = countAddress + 64;
  const timespec = new BigInt64Array(scratch, 128, 2);
  const nanoseconds = new Uint32Array(scratch, 136, 1);
  const timespecAddress = countAddress + 128;
  timespec.fill(0n);
  const iovec = new BigUint64Array(scratch, 192, 2);
  const iovecAddress = countAddress + 192;
  iovec.set([BigInt(countAddress), 8n]);

  /** errno belongs to the thread and the next call changes it: taken here, before anything else runs. */
  const result = (value: number): number => (value === -1 ? -koffi.errno() : value);

  const _SC_PAGESIZE = 30;
  const SYS_epoll_pwait2 = 441;
  const SYS_preadv2 = process.arch === 'x64' ? 327 : 286;
  const RWF_NOWAIT = 8;
  const EIO = 5;
  const EOPNOTSUPP = 95;

  const readCount = (fd: number): bigint => {
    const length = readAt(fd, countAddress, 8);
    if (length === 8) return count[0] ?? 0n;
    // An eventfd answers with eight bytes or not at all: anything shorter is some other kind of file.
    return length === -1 ? BigInt(-koffi.errno()) : BigInt(-EIO);
  };

  return {
    pageSize: sysconf(_SC_PAGESIZE),
    open: (path, flags) => result(open(path, flags)),
    close: (fd) => result(close(fd)),
    ioctl: (fd, request, argument) => result(typeof argument === 'number' ? ioctlInteger(fd, request, argument) : ioctlBytes(fd, request, argument)),
    read: (fd, bytes) => result(read(fd, bytes, bytes.byteLength)),
    write: (fd, bytes) => result(write(fd, bytes, bytes.byteLength)),
    pread: (fd, bytes, offset) => result(pread(fd, bytes, bytes.byteLength, offset)),
    pwrite: (fd, bytes, offset) => result(pwrite(fd, bytes, bytes.byteLength, offset)),

    mmap: (address, length, protection, flags, fd, offset) => result(mmap(address, length, protection, flags, fd, offset)),
    munmap: (address, length) => result(munmap(address, length)),
    madvise: (address, length, advice) => result(madvise(address, length, advice)),
    view(address, length) {
      // koffi aborts the process where V8 refuses an ArrayBuffer of this size.
      if (length > constants.MAX_LENGTH) throw new RangeError(`${String(length)} bytes are more than an ArrayBuffer holds`);
      return koffi.view(BigInt(address), length);
    },
    addressOf: (bytes) => addressIn(koffi, bytes),

    eventfd: (initial, flags) => result(eventfd(initial, flags)),
    readCount,
    readCountNow(fd) {
      const length = result(preadv2(SYS_preadv2, fd, iovecAddress, 1, -1, 0, RWF_NOWAIT));
      if (length === 8) return count[0] ?? 0n;
      if (length === -EOPNOTSUPP) return readCount(fd);
      return BigInt(length < 0 ? length : -EIO);
    },
    writeCount(fd, value) {
      count[0] = value;
      return result(writeAt(fd, countAddress, 8));
    },

    epollCreate: (flags) => result(epollCreate(flags)),
    epollControl(epollFd, operation, fd, events, slot, generation) {
      event[epollLayout.events] = events;
      event[epollLayout.slot] = slot;
      event[epollLayout.generation] = generation;
      return result(epollControl(epollFd, operation, fd, eventAddress));
    },
    epollWait(epollFd, batch, timeoutNs) {
      if (timeoutNs === 0) return result(epollWait(epollFd, batch.address, batch.capacity, 0));
      nanoseconds[0] = timeoutNs;
      return result(epollWait2(SYS_epoll_pwait2, epollFd, batch.address, batch.capacity, timespecAddress, 0, 0));
    },
    epollBatch(capacity): EpollBatch {
      // At least 4 KiB: a small typed array could live, and move, inside V8's heap.
      const words = new Uint32Array(Math.max(capacity * epollLayout.words, 1024));
      return { capacity, words, address: Number(koffi.address(words)) };
    },

    ...bindSockets(koffi),
    ...bindStreams(koffi),

    watch(fd, ready): Watch {
      // libuv aborts the whole process when it is given a bad fd.
      if (!Number.isInteger(fd) || fd < 0) throw new RangeError(`not a file descriptor: ${String(fd)}`);
      const callback: PollCallback = ready;
      return koffi.node.poll(fd, { readable: true }, callback as unknown as () => void);
    },

    exit,
  };
}
