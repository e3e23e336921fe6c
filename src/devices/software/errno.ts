/** The errnos that this driver answers, by name, and their numbers on Linux, as a kernel's trace would print them. */
const numbers = {
  EPERM: 1, EINTR: 4, EIO: 5, ENXIO: 6, EAGAIN: 11, ENOMEM: 12, EACCES: 13, EBUSY: 16, ENODEV: 19, EINVAL: 22, ENFILE: 23, EMFILE: 24,
  ENOTTY: 25, ENOSPC: 28, EOPNOTSUPP: 95, ETIMEDOUT: 110, ECANCELED: 125,
} as const;

export type Errno = keyof typeof numbers;

/** What a call in the kernel returns: 0, or the errno negated. */
export function returned(errno: Errno | undefined): number {
  return errno === undefined ? 0 : -numbers[errno];
}

/** For names that come from a script. */
export function isErrno(name: string): name is Errno {
  return Object.hasOwn(numbers, name);
}
