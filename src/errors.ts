/**
 * Errors as values with a code (law 6). Match on `code`, never on the message: codes are documented here,
 * and one that is retired is never used for something else.
 */
export const errorCodes = {
  VFIO_E_UNAVAILABLE: 'this machine offers no VFIO, or the kernel module is not loaded',
  VFIO_E_PERMISSION: 'the caller may not open or use this file or device (EACCES, EPERM)',
  VFIO_E_ADDRESS: 'the address names no device: malformed, no such PCI function, mdev or group; or the path no file',
  VFIO_E_GROUP_NOT_VIABLE: 'another driver still holds a device of the same IOMMU group',
  VFIO_E_NO_DEVICE: 'the device is gone or was never there (ENODEV, ENXIO)',
  VFIO_E_NO_REGION: 'the device has no region at this index',
  VFIO_E_NO_IRQ: 'the device has no irq at this index, or not this vector',
  VFIO_E_LIMIT: 'a limit was reached: file descriptors (EMFILE, ENFILE), memory (ENOMEM), or one of this library',
  VFIO_E_PROTOCOL: 'the other side broke its contract: a truncated, looping or contradictory answer',
  VFIO_E_RANGE: 'offset, width or alignment lies outside what the region or the call allows',
  VFIO_E_WOULD_BLOCK: 'a synchronous access cannot be made now without blocking the loop: use request()',
  VFIO_E_SUSPENDED: 'the device does not decode its memory now: Memory Space Enable is clear, or its power state is D3hot (EIO)',
  VFIO_E_CLOSED: 'the device, handle or channel is closed',
  VFIO_E_BUSY: 'one such call or pipeline is outstanding on this device already (EBUSY)',
  VFIO_E_REFUSED: 'the vendor driver refused a write of device_state: the remap irq is not registered (EPERM)',
  VFIO_E_MAPPED: 'the vendor driver refused a write of device_state: something that the layout of the target state lacks is still mapped (EBUSY)',
  VFIO_E_ARC: 'device_state has no such arc: refused before the kernel is asked',
  VFIO_E_ACK_TIMEOUT: 'the vendor driver waited for an ack until its own deadline (ETIMEDOUT)',
  VFIO_E_CANCELED: 'a blocked call was ended because its irq was disabled or the device was reset or closed (ECANCELED, EINTR)',
  VFIO_E_DEADLINE: 'the deadline of the caller passed; the call is still outstanding',
  VFIO_E_BATCH_DEADLINE: 'a batch was emitted by remapIrq and not ended within its deadline: an operator swallowed or kept it',
  VFIO_E_HOLDER: 'a holder of a revoked area failed, or did not let go within its budget',
  VFIO_E_STEP: 'of several devices one or more failed a step that all were to take together',
  VFIO_E_LOG_LOST: 'a report of the log of written pages failed: every page must be taken for written',
  VFIO_E_CLOCK: 'this port cannot run on the clock it was given (a real kernel on virtual time)',
  VFIO_E_UNSUPPORTED: 'the kernel or the device does not have this feature (ENOTTY, EOPNOTSUPP)',
  VFIO_E_STREAM: 'a migration stream is corrupted, truncated, oversized or out of order',
  VFIO_E_INCOMPATIBLE: 'the two sides of a migration do not fit: another version of the format, or another kind of device',
  VFIO_E_TRACE: 'this is no trace, or a damaged one: the message names the line, and what could be read',
  VFIO_E_TRACE_VERSION: 'the trace was written by a newer version of this library',
  VFIO_E_DEPARTED: 'a replay came to a call that the recording does not have there: the message names line, expected and actual',
  VFIO_E_LINK: 'the connection to the other side could not be made, or was lost',
  VFIO_E_UNTRUSTED: 'the other side of a connection could not be verified, or does not believe this one',
  VFIO_E_CERTIFICATE: 'certificate, key or authorities of this side are none, or do not fit together',
  VFIO_E_PEER: 'the other side of a migration gave it up, for the reason that it gave',
  VFIO_E_DEVICE_ERROR: 'the device reported an uncorrectable error (its ERR irq): what it holds is not to be relied on',
  VFIO_E_ABORTED: 'its caller gave it up, by a signal or otherwise; or a migration\'s policy did',
  VFIO_E_JOURNAL: 'the journal of a migration could not be read or written',
  VFIO_E_IN_DOUBT: 'it is not known yet on which side the devices of a migration run',
  VFIO_E_IO: 'the kernel answered an errno that no other code stands for',
} as const;

export type VfioErrorCode = keyof typeof errorCodes;

/** What an error knows beside its code. */
export interface VfioErrorDetails {
  /** The call that failed, as the field names it: `VFIO_DEVICE_GET_REGION_INFO`, `open`, `mmap`. */
  readonly operation: string;
  /** The device, group or file that it concerned. */
  readonly device?: string | undefined;
  /** errno's name (`ENODEV`), where a system call failed. */
  readonly errno?: string | undefined;
  readonly cause?: unknown;
}

const brand = Symbol.for('vfio-rx.VfioError');

/** Every error of this library. `code` is stable; the message says what happened and what a person can do. */
export class VfioError extends Error {
  readonly code: VfioErrorCode;
  readonly errno: string | undefined;
  readonly operation: string;
  readonly device: string | undefined;

  constructor(code: VfioErrorCode, message: string, details: VfioErrorDetails) {
    super(
      `${details.device === undefined ? '' : `${details.device}: `}${details.operation}: ${message}${details.errno === undefined ? '' : ` (${details.errno})`} [${code}]`,
      details.cause === undefined ? undefined : { cause: details.cause },
    );
    this.name = 'VfioError';
    this.code = code;
    this.errno = details.errno;
    this.operation = details.operation;
    this.device = details.device;
    Object.defineProperty(this, brand, { value: true, enumerable: false });
  }

  /** True across copies of this library, where `instanceof` is not. */
  static is(value: unknown): value is VfioError {
    return typeof value === 'object' && value !== null && brand in value;
  }
}

/** errno -> code and advice, for a failed system call whose errno means the same thing everywhere in VFIO. */
const byErrno: Readonly<Record<string, readonly [VfioErrorCode, string]>> = {
  EACCES: ['VFIO_E_PERMISSION', 'permission denied: run as root, or give this user access to the group file under /dev/vfio'],
  EPERM: ['VFIO_E_PERMISSION', 'not permitted: run as root or with the capability that this call needs; on a machine without interrupt remapping load vfio_iommu_type1 with allow_unsafe_interrupts=1 where every user of the device is trusted'],
  ENOENT: ['VFIO_E_ADDRESS', 'no such file or device: check the address and that the device is bound to its VFIO driver'],
  ENODEV: ['VFIO_E_NO_DEVICE', 'no such device: it was removed, or is not bound to a VFIO driver'],
  ENXIO: ['VFIO_E_NO_DEVICE', 'no such device or address: it was removed'],
  EMFILE: ['VFIO_E_LIMIT', 'this process has no file descriptor left: raise RLIMIT_NOFILE (ulimit -n) or close devices'],
  ENFILE: ['VFIO_E_LIMIT', 'the system has no file descriptor left: raise fs.file-max'],
  ENOMEM: ['VFIO_E_LIMIT', 'out of memory or locked-memory limit: raise RLIMIT_MEMLOCK (ulimit -l) or free memory'],
  ENOSPC: ['VFIO_E_LIMIT', 'a kernel limit is reached: raise fs.epoll.max_user_watches or free entries'],
  EBUSY: ['VFIO_E_BUSY', 'busy: another user or an outstanding call holds it; wait for it to end'],
  EAGAIN: ['VFIO_E_BUSY', 'the kernel could not do it just now: try again'],
  ETIMEDOUT: ['VFIO_E_ACK_TIMEOUT', 'the vendor driver got no ack before its own deadline: is the remap pipeline subscribed, and is the event loop free?'],
  ECANCELED: ['VFIO_E_CANCELED', 'ended by the vendor driver because the irq was disabled or the device was reset'],
  EINTR: ['VFIO_E_CANCELED', 'interrupted by a signal'],
  ENOTTY: ['VFIO_E_UNSUPPORTED', 'the kernel or the device does not know this call'],
  EOPNOTSUPP: ['VFIO_E_UNSUPPORTED', 'the device does not support this'],
};

const unknownErrno: readonly [VfioErrorCode, string] = ['VFIO_E_IO', 'the kernel refused the call'];

/** The typed error for a failed system call. */
export function errnoError(errno: string, operation: string, device?: string, cause?: unknown): VfioError {
  const [code, advice] = byErrno[errno] ?? unknownErrno;
  return new VfioError(code, advice, { operation, device, errno, cause });
}

/** What they mean of a file or a socket that is to be made: what errno says of devices leads nobody on. */
const ofFiles: Readonly<Record<string, readonly [VfioErrorCode, string]>> = {
  ENOENT: ['VFIO_E_ADDRESS', 'there is no such folder: make it, or name another one'],
  ENOTDIR: ['VFIO_E_ADDRESS', 'what should be a folder on the way there is a file: name another one'],
  EISDIR: ['VFIO_E_ADDRESS', 'this is a folder: name a file in it'],
  EACCES: ['VFIO_E_PERMISSION', 'this user may not write there: name another folder'],
  EPERM: ['VFIO_E_PERMISSION', 'this may not be written: name another file'],
  EROFS: ['VFIO_E_PERMISSION', 'nothing can be written there: name another folder'],
  ENOSPC: ['VFIO_E_LIMIT', 'the disk is full: make room, or name another one'],
};

/** The same for such a file or socket; with another code, where one stands for all that may happen to it. */
export function fileErrnoError(errno: string, operation: string, path: string, cause?: unknown, as?: VfioErrorCode): VfioError {
  const [code, advice] = ofFiles[errno] ?? byErrno[errno] ?? unknownErrno;
  return new VfioError(as ?? code, advice, { operation, device: path, errno, cause });
}

/** The same for a write of device_state, where EPERM is the vendor driver's own word. */
export function stateErrnoError(errno: string, operation: string, device?: string, cause?: unknown): VfioError {
  if (errno !== 'EPERM') return errnoError(errno, operation, device, cause);
  return new VfioError('VFIO_E_REFUSED', 'refused by the vendor driver: its remap irq is not registered, subscribe to remapIrq() first', { operation, device, errno, cause });
}
