import { VfioError, errnoError } from '../../errors.js';
import { EAGAIN, ECONNABORTED, EINTR, errnoName, linux, type Binding } from './binding.js';
import { koffiBinding } from './koffi-binding.js';
import { writeShared } from './shared-eventfd.js';
import { sockets } from './stream-calls.js';
import { unixSockaddr } from './unix-address.js';

/** An interrupted call is tried again this often; then EINTR is an error like any other. */
const maxInterrupts = 16;

/** What a failed call concerned, for its error. */
export interface CallNames {
  /** As the field names it: `VFIO_DEVICE_GET_INFO`, `open`. */
  readonly operation: string;
  /** Device, group or file. */
  readonly device?: string | undefined;
}

/**
 * Linux calls that throw a `VfioError` instead of answering -errno.
 *
 * EINTR: `open`, `read`, `write`, `pread` and `pwrite` are tried again (bounded), since an interrupted one has done
 * nothing yet. `ioctl` is not: a vendor driver ends a blocked call with EINTR when it is reset, and only the caller
 * knows whether asking again is right. `close` is not: Linux has released the fd whatever it answers.
 */
export class Syscalls {
  constructor(readonly binding: Binding) {}

  /** @throws VfioError by errno; ENOENT is `VFIO_E_ADDRESS`, EACCES and EPERM are `VFIO_E_PERMISSION`. */
  open(path: string, flags: number = linux.O_RDWR): number {
    const fd = this.#retried(() => this.binding.open(path, flags | linux.O_CLOEXEC));
    if (fd < 0) throw errnoError(errnoName(fd), 'open', path);
    return fd;
  }

  /** Releases the fd. EBADF and EIO are bugs or lost data elsewhere: they are thrown, but the fd is gone all the same. */
  close(fd: number, device?: string): void {
    this.#checked(this.binding.close(fd), { operation: 'close', device });
  }

  /** The call's own value, mostly 0; VFIO_GROUP_GET_DEVICE_FD and the like answer a fd. */
  ioctl(fd: number, request: number, argument: number | ArrayBufferView, names: CallNames): number {
    return this.#checked(this.binding.ioctl(fd, request, argument), names);
  }

  /** Bytes read; may be fewer than asked for. `EAGAIN` throws too: see `tryRead`. */
  read(fd: number, bytes: Uint8Array, names: CallNames = { operation: 'read' }): number {
    return this.#checked(this.#retried(() => this.binding.read(fd, bytes)), names);
  }

  write(fd: number, bytes: Uint8Array, names: CallNames = { operation: 'write' }): number {
    return this.#checked(this.#retried(() => this.binding.write(fd, bytes)), names);
  }

  /** @param offset bytes into the file; a VFIO region's comes from its info (vfio-pci: index << 40). */
  pread(fd: number, bytes: Uint8Array, offset: bigint, names: CallNames = { operation: 'pread' }): number {
    return this.#checked(this.#retried(() => this.binding.pread(fd, bytes, offset)), names);
  }

  pwrite(fd: number, bytes: Uint8Array, offset: bigint, names: CallNames = { operation: 'pwrite' }): number {
    return this.#checked(this.#retried(() => this.binding.pwrite(fd, bytes, offset)), names);
  }

  mmap(address: number, length: number, protection: number, flags: number, fd: number, offset: bigint, names: CallNames = { operation: 'mmap' }): number {
    const start = this.binding.mmap(address, length, protection, flags, fd, offset);
    // Not "try again" here: more memory is locked than this process may lock.
    if (start === -EAGAIN) throw new VfioError('VFIO_E_LIMIT', 'locked-memory limit: raise RLIMIT_MEMLOCK (ulimit -l)', { ...names, errno: 'EAGAIN' });
    return this.#checked(start, names);
  }

  munmap(address: number, length: number, names: CallNames = { operation: 'munmap' }): void {
    this.#checked(this.binding.munmap(address, length), names);
  }

  madvise(address: number, length: number, advice: number, names: CallNames = { operation: 'madvise' }): void {
    this.#checked(this.binding.madvise(address, length, advice), names);
  }

  /** A new eventfd, non-blocking and closed on exec. */
  eventfd(names: CallNames = { operation: 'eventfd' }): number {
    return this.#checked(this.binding.eventfd(0, linux.O_NONBLOCK | linux.O_CLOEXEC), names);
  }

  /** The count since the last read, or undefined when nothing was signalled (EAGAIN). `shared`: with another process, which is not waited for. */
  readCount(fd: number, names: CallNames = { operation: 'read eventfd' }, shared = false): bigint | undefined {
    const read = (): bigint => (shared ? this.binding.readCountNow(fd) : this.binding.readCount(fd));
    let count = read();
    for (let again = 0; count === BigInt(-EINTR) && again < maxInterrupts; again++) count = read();
    if (count >= 0n) return count;
    if (count === BigInt(-EAGAIN)) return undefined;
    throw errnoError(errnoName(count), names.operation, names.device);
  }

  /** False when the count would pass 2^64-2 (EAGAIN): nothing was added. */
  writeCount(fd: number, count: bigint, names: CallNames = { operation: 'write eventfd' }, shared = false): boolean {
    const written = this.#retried(() => (shared ? writeShared(this.binding, fd, count) : this.binding.writeCount(fd, count)));
    if (written === -EAGAIN) return false;
    this.#checked(written, names);
    return true;
  }

  /** Connects to a socket in the file system, without waiting: where its server has no room for a client now that is VFIO_E_BUSY. */
  connect(path: string): number {
    return this.#socketAt(path, 'connect', (fd, address) => this.binding.connectTo(fd, address));
  }

  /** Listens at a path, where nothing may be. */
  listen(path: string, backlog: number): number {
    return this.#socketAt(path, 'bind', (fd, address) => {
      const bound = this.binding.bindTo(fd, address);
      return bound < 0 ? bound : this.binding.listen(fd, backlog);
    });
  }

  /** The next client, or undefined where none waits (any more). */
  accept(fd: number, device?: string): number | undefined {
    const accepted = this.#retried(() => this.binding.accept(fd));
    if (accepted === -EAGAIN || accepted === -ECONNABORTED) return undefined;
    return this.#checked(accepted, { operation: 'accept', device });
  }

  dup(fd: number): number {
    return this.#checked(this.binding.dup(fd), { operation: 'dup' });
  }

  /** Zeroed memory as a file. */
  memfd(name: string, bytes: number): number {
    return this.#checked(this.binding.memfd(name, bytes), { operation: 'memfd_create', device: name });
  }

  epollCreate(): number {
    return this.#checked(this.binding.epollCreate(linux.O_CLOEXEC), { operation: 'epoll_create1' });
  }

  #socketAt(path: string, operation: string, use: (fd: number, address: Uint8Array) => number): number {
    const address = unixSockaddr(path);
    if (address === undefined) throw errnoError(path === '' || path.includes('\0') ? 'EINVAL' : 'ENAMETOOLONG', operation, path);
    const fd = this.#checked(this.binding.streamSocket(sockets.AF_UNIX), { operation: 'socket', device: path });
    try {
      this.#checked(use(fd, address), { operation, device: path });
      return fd;
    } catch (error) {
      this.binding.close(fd);
      throw error;
    }
  }

  #checked(value: number, names: CallNames): number {
    if (value < 0) throw errnoError(errnoName(value), names.operation, names.device);
    return value;
  }

  #retried(call: () => number): number {
    let value = call();
    for (let again = 0; value === -EINTR && again < maxInterrupts; again++) value = call();
    return value;
  }
}

let shared: Syscalls | undefined;

/** The process's system calls over koffi, loaded at the first use. @throws VfioError `VFIO_E_UNAVAILABLE`. */
export function linuxSyscalls(): Syscalls {
  shared ??= new Syscalls(koffiBinding());
  return shared;
}

/**
 * Ends the process at once, without exit handlers: the way out when a thread is stuck in a blocked call, because then
 * `process.exit()` waits for it. Needs nothing but the binding.
 */
export function exitNow(code: number): never {
  linuxSyscalls().binding.exit(code);
  throw new VfioError('VFIO_E_UNAVAILABLE', '_exit returned', { operation: '_exit' });
}
