/** What a stream of bytes over a socket needs of libc, beside what `Binding` has for every socket. As there: a value, or -errno. */
export interface StreamCalls {
  /** SOCK_STREAM, non-blocking, closed on exec. */
  streamSocket(family: number): number;
  /** `address`: a sockaddr. -EINPROGRESS where it takes its time: the socket can be written when it is over, and `socketError` says how. */
  connectTo(fd: number, address: Uint8Array): number;
  bindTo(fd: number, address: Uint8Array): number;
  /** The sockaddr that a socket is bound to, empty where there is none. */
  boundTo(fd: number): Uint8Array;
  /** The error that waits at a socket, -errno, or 0. */
  socketError(fd: number): number;
  setOption(fd: number, level: number, option: number, value: number): number;
  /** One recv into memory at this address, which does not wait. */
  receive(fd: number, address: number, length: number): number;
  /** One send from memory at this address, which does not wait: as many bytes as there is room for. Never raises SIGPIPE. */
  transmit(fd: number, address: number, length: number): number;
  /** One sendmsg of all parts behind the first `sent` bytes, which does not wait: as many bytes as there is room for. Never raises SIGPIPE. */
  send(fd: number, parts: readonly Uint8Array[], sent: number): number;
  /** Waits until a socket is ready, `other` can be read (-1: there is none), or so many ns have passed: 1 where the socket is ready. */
  waitReady(fd: number, output: boolean, other: number, timeoutNs: number): number;
}

/** uapi/linux/socket.h, tcp.h: the same on x86-64 and arm64. */
export const sockets = {
  AF_UNIX: 1,
  AF_INET: 2,
  AF_INET6: 10,
  SOL_SOCKET: 1,
  SO_REUSEADDR: 2,
  SO_ERROR: 4,
  SO_SNDBUF: 7,
  IPPROTO_TCP: 6,
  TCP_NODELAY: 1,
} as const;
