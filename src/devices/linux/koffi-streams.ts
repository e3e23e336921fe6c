import { argumentsFor } from './koffi-arguments.js';
import { sockets, type StreamCalls } from './stream-calls.js';

type Koffi = typeof import('koffi');

const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const POLLIN = 1;
const POLLOUT = 4;

/** struct sockaddr_storage. */
const addressBytes = 128;
/** One behind the other in one buffer: struct msghdr, iovecs, two pollfds, timespec, sockaddr, a length. */
const at = { message: 0, vectors: 64, poll: 1024, timeout: 1088, address: 1152, length: 1408, small: 2048 } as const;
const msghdr = { iov: 16, iovlen: 24 } as const;
/** One message carries a header and a payload; of more parts these go first. */
const mostVectors = 16;
/** A part that is no longer, as the header of a frame, is copied: that costs less than to ask where it is. */
const smallBytes = 64;

/** The calls of a stream over koffi. */
export function bindStreams(koffi: Koffi): StreamCalls {
  const libc = koffi.load(null);
  const socket = libc.func('int socket(int, int, int)') as (domain: number, type: number, protocol: number) => number;
  const connect = libc.func('int connect(int, void *, unsigned int)') as (fd: number, address: Uint8Array, length: number) => number;
  const bind = libc.func('int bind(int, void *, unsigned int)') as (fd: number, address: Uint8Array, length: number) => number;
  const getsockname = libc.func('int getsockname(int, int64_t, int64_t)') as (fd: number, address: number, length: number) => number;
  const getsockopt = libc.func('int getsockopt(int, int, int, int64_t, int64_t)') as (fd: number, level: number, option: number, value: number, length: number) => number;
  const setsockopt = libc.func('int setsockopt(int, int, int, int64_t, unsigned int)') as (fd: number, level: number, option: number, value: number, length: number) => number;
  const recv = libc.func('int64_t recv(int, int64_t, int64_t, int)') as (fd: number, address: number, length: number, flags: number) => number;
  const send = libc.func('int64_t send(int, int64_t, int64_t, int)') as (fd: number, address: number, length: number, flags: number) => number;
  const sendmsg = libc.func('int64_t sendmsg(int, int64_t, int)') as (fd: number, message: number, flags: number) => number;
  const ppoll = libc.func('int ppoll(int64_t, int64_t, int64_t, int64_t)') as (fds: number, count: number, timeout: number, mask: number) => number;

  const { view, base, write64, addressOf, result } = argumentsFor(koffi);
  const memory = new Uint8Array(view.buffer);
  const copied = (part: Uint8Array, place: number): number => {
    const to = at.small + place * smallBytes;
    memory.set(part, to);
    return base + to;
  };

  return {
    streamSocket: (family) => result(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)),
    connectTo: (fd, address) => result(connect(fd, address, address.length)),
    bindTo: (fd, address) => result(bind(fd, address, address.length)),
    boundTo(fd) {
      view.setUint32(at.length, addressBytes, true);
      if (getsockname(fd, base + at.address, base + at.length) < 0) return new Uint8Array(0);
      const length = Math.min(view.getUint32(at.length, true), addressBytes);
      return new Uint8Array(view.buffer, at.address, length).slice();
    },
    socketError(fd) {
      view.setUint32(at.length, 4, true);
      const failed = result(getsockopt(fd, sockets.SOL_SOCKET, sockets.SO_ERROR, base + at.address, base + at.length));
      return failed < 0 ? failed : -view.getInt32(at.address, true);
    },
    setOption(fd, level, option, value) {
      view.setInt32(at.address, value, true);
      return result(setsockopt(fd, level, option, base + at.address, 4));
    },
    receive: (fd, address, length) => result(recv(fd, address, length, MSG_DONTWAIT)),
    transmit: (fd, address, length) => result(send(fd, address, length, MSG_DONTWAIT | MSG_NOSIGNAL)),
    send(fd, parts, sent) {
      let skip = sent;
      let count = 0;
      for (let n = 0; n < parts.length && count < mostVectors; n += 1) {
        const part = parts[n] as Uint8Array;
        if (skip >= part.length) {
          skip -= part.length;
          continue;
        }
        write64(at.vectors + count * 16, (part.length > smallBytes ? addressOf(part) : copied(part, count)) + skip);
        write64(at.vectors + count * 16 + 8, part.length - skip);
        skip = 0;
        count += 1;
      }
      write64(at.message + msghdr.iov, base + at.vectors);
      write64(at.message + msghdr.iovlen, count);
      return result(sendmsg(fd, base + at.message, MSG_DONTWAIT | MSG_NOSIGNAL));
    },
    waitReady(fd, output, other, timeoutNs) {
      view.setInt32(at.poll, fd, true);
      view.setUint32(at.poll + 4, output ? POLLOUT : POLLIN, true);
      view.setInt32(at.poll + 8, other, true);
      view.setUint32(at.poll + 12, POLLIN, true);
      write64(at.timeout, 0);
      write64(at.timeout + 8, timeoutNs);
      const ready = result(ppoll(base + at.poll, 2, base + at.timeout, 0));
      return ready < 0 ? ready : Number(view.getUint16(at.poll + 6, true) !== 0);
    },
  };
}
