import { constants } from 'node:os';
import { mostFdsAtOnce, type Binding } from './binding.js';
import { argumentsFor } from './koffi-arguments.js';

type Koffi = typeof import('koffi');

/** What is beside `StreamCalls` of sockets, and of what travels through them. */
type Sockets = Pick<Binding, 'listen' | 'accept' | 'shutdownOutput' | 'dup' | 'memfd' | 'takesWrite' | 'nonBlocking' | 'sendMessage' | 'receiveMessage'>;

const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SHUT_WR = 1;
const F_GETFL = 3;
const F_DUPFD_CLOEXEC = 1030;
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
/** F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW: touching what was cut off would end this process. */
const fixedSize = 1 | 2 | 4;
const POLLOUT = 4;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CTRUNC = 0x8;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;

/** struct pollfd, in the place of a message. */
const pollfd = { fd: 0, events: 4, revents: 6 } as const;
/** struct msghdr, iovec and cmsghdr of 64-bit Linux, one behind the other in one buffer. */
const msghdr = { iov: 16, iovlen: 24, control: 32, controllen: 40, flags: 48, sizeof: 56 } as const;
const iovec = { base: 64, len: 72 } as const;
const cmsghdr = { len: 0, level: 8, type: 12, data: 16 } as const;
const controlAt = 128;

/** sendmsg and recvmsg with file descriptors, and what makes them, over koffi. */
export function bindSockets(koffi: Koffi): Sockets {
  const libc = koffi.load(null);
  const listen = libc.func('int listen(int, int)') as (fd: number, backlog: number) => number;
  const accept = libc.func('int accept4(int, int64_t, int64_t, int)') as (fd: number, address: number, length: number, flags: number) => number;
  const shutdown = libc.func('int shutdown(int, int)') as (fd: number, how: number) => number;
  // Variadic in C; a fixed prototype passes the third argument alike.
  const fcntl = libc.func('int fcntl(int, int, int64_t)') as (fd: number, command: number, argument: number) => number;
  const memfdCreate = libc.func('int memfd_create(const char *, unsigned int)') as (name: string, flags: number) => number;
  const ftruncate = libc.func('int ftruncate(int, int64_t)') as (fd: number, bytes: number) => number;
  const poll = libc.func('int poll(int64_t, unsigned long, int)') as (fds: number, count: number, timeoutMs: number) => number;
  const close = libc.func('int close(int)') as (fd: number) => number;
  const sendmsg = libc.func('int64_t sendmsg(int, int64_t, int)') as (fd: number, message: number, flags: number) => number;
  const recvmsg = libc.func('int64_t recvmsg(int, int64_t, int)') as (fd: number, message: number, flags: number) => number;

  const { view, base, write64, addressOf, result } = argumentsFor(koffi);

  /** Points the message at the bytes. */
  const point = (bytes: Uint8Array, controlBytes: number): void => {
    write64(iovec.base, addressOf(bytes));
    write64(iovec.len, bytes.length);
    write64(0, 0);
    write64(8, 0);
    write64(msghdr.iov, base + iovec.base);
    write64(msghdr.iovlen, 1);
    write64(msghdr.control, controlBytes === 0 ? 0 : base + controlAt);
    write64(msghdr.controllen, controlBytes);
    write64(msghdr.flags, 0);
  };

  return {
    listen: (fd, backlog) => result(listen(fd, backlog)),
    accept: (fd) => result(accept(fd, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC)),
    shutdownOutput: (fd) => result(shutdown(fd, SHUT_WR)),
    dup: (fd) => result(fcntl(fd, F_DUPFD_CLOEXEC, 0)),
    memfd(name, bytes) {
      const fd = result(memfdCreate(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
      if (fd < 0) return fd;
      const sized = result(ftruncate(fd, bytes));
      const sealed = sized < 0 ? sized : result(fcntl(fd, F_ADD_SEALS, fixedSize));
      if (sealed < 0) close(fd);
      return sealed < 0 ? sealed : fd;
    },
    takesWrite(fd) {
      view.setInt32(pollfd.fd, fd, true);
      view.setInt16(pollfd.events, POLLOUT, true);
      view.setInt16(pollfd.revents, 0, true);
      return poll(base, 1, 0) === 1 && (view.getInt16(pollfd.revents, true) & POLLOUT) !== 0;
    },
    nonBlocking: (fd) => (fcntl(fd, F_GETFL, 0) & SOCK_NONBLOCK) !== 0,
    sendMessage(fd, bytes, fds) {
      if (fds.length > mostFdsAtOnce) return -constants.errno.EINVAL;
      const length = cmsghdr.data + fds.length * 4;
      point(bytes, fds.length === 0 ? 0 : Math.ceil(length / 8) * 8);
      if (fds.length > 0) {
        write64(controlAt + cmsghdr.len, length);
        view.setInt32(controlAt + cmsghdr.level, SOL_SOCKET, true);
        view.setInt32(controlAt + cmsghdr.type, SCM_RIGHTS, true);
        fds.forEach((one, n) => view.setInt32(controlAt + cmsghdr.data + n * 4, one, true));
      }
      return result(sendmsg(fd, base, MSG_DONTWAIT | MSG_NOSIGNAL));
    },
    receiveMessage(fd, bytes, received) {
      received.fds = [];
      received.cut = false;
      point(bytes, Math.ceil((cmsghdr.data + mostFdsAtOnce * 4) / 8) * 8);
      const length = result(recvmsg(fd, base, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
      if (length < 0) return length;
      received.cut = (view.getInt32(msghdr.flags, true) & MSG_CTRUNC) !== 0;
      const control = view.getUint32(msghdr.controllen, true);
      for (let at = 0; at + cmsghdr.data <= control; ) {
        const size = Number(view.getBigUint64(controlAt + at + cmsghdr.len, true));
        if (size < cmsghdr.data) break;
        const rights = view.getInt32(controlAt + at + cmsghdr.level, true) === SOL_SOCKET && view.getInt32(controlAt + at + cmsghdr.type, true) === SCM_RIGHTS;
        for (let data = at + cmsghdr.data; rights && data + 4 <= at + size; data += 4) received.fds.push(view.getInt32(controlAt + data, true));
        at += Math.ceil(size / 8) * 8;
      }
      return length;
    },
  };
}
