import { VfioError, type VfioErrorCode } from '../../errors.js';
import type { Syscalls } from '../linux/syscalls.js';
import {
  VFIO_API_VERSION,
  VFIO_CHECK_EXTENSION,
  VFIO_GET_API_VERSION,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_SET_IOMMU,
  VFIO_TYPE1v2_IOMMU,
} from '../uapi/constants.js';
import { encodeGroupStatusQuery, readGroupStatus } from '../uapi/group.js';
import { IovaTable } from '../protocol/dma-ranges.js';
import { kernelPaths, noVfio, type KernelPaths } from './discovery.js';
import type { DmaContainer } from './dma.js';
import { runAll, runAllOrThrow } from './run-all.js';

/** A share in an opened group; the group is closed with the last one, the container with the last group. */
export interface GroupLease {
  /** A new fd of a device of this group (VFIO_GROUP_GET_DEVICE_FD); the caller owns it. */
  deviceFd(name: string): number;
  /** The container that the group is in; all groups of a process share it. */
  readonly container: DmaContainer;
  /** Idempotent. Close the device fds first. */
  release(): void;
}

interface OpenGroup {
  readonly fd: number;
  leases: number;
}

/**
 * The groups that this process has open, all in one container with a type1v2 IOMMU, so that devices of several groups see
 * the same DMA addresses. A group file can be open only once in the system, hence the counting.
 */
export class VfioGroups {
  readonly #calls: Syscalls;
  readonly #paths: KernelPaths;
  readonly #open = new Map<number, OpenGroup>();
  #container = -1;
  /** Begins anew with each container. */
  #dma: DmaContainer = { fd: -1, iovas: new IovaTable() };

  constructor(calls: Syscalls, paths: KernelPaths = kernelPaths) {
    this.#calls = calls;
    this.#paths = paths;
  }

  /** Groups that are open now. */
  get size(): number {
    return this.#open.size;
  }

  /**
   * Fails with VFIO_E_UNAVAILABLE, VFIO_E_PERMISSION, VFIO_E_ADDRESS, VFIO_E_BUSY, VFIO_E_GROUP_NOT_VIABLE, VFIO_E_LIMIT;
   * leaves nothing open then.
   *
   * @param device what errors of the group call it: the address that led here
   */
  lease(number: number, device = `group:${number}`): GroupLease {
    const group = this.#open.get(number) ?? this.#openGroup(number, device);
    group.leases += 1;
    let given = true;
    return {
      deviceFd: (name) => this.#deviceFd(group.fd, name),
      container: this.#dma,
      release: () => {
        if (!given) return;
        given = false;
        this.#giveBack(number, group);
      },
    };
  }

  #openGroup(number: number, device: string): OpenGroup {
    this.#openContainer();
    let fd = -1;
    try {
      fd = this.#openGroupFile(number, device);
      const status = encodeGroupStatusQuery();
      this.#calls.ioctl(fd, VFIO_GROUP_GET_STATUS, status, { operation: 'VFIO_GROUP_GET_STATUS', device });
      if (!readGroupStatus(status, device).viable) {
        throw new VfioError('VFIO_E_GROUP_NOT_VIABLE', 'another driver holds a device of this group: bind all of them to a VFIO driver, or to none', { operation: 'VFIO_GROUP_GET_STATUS', device });
      }
      this.#calls.ioctl(fd, VFIO_GROUP_SET_CONTAINER, Int32Array.of(this.#container), { operation: 'VFIO_GROUP_SET_CONTAINER', device });
      // The IOMMU model is the container's; it can be set once the first group is in, and only once.
      if (this.#open.size === 0) this.#calls.ioctl(this.#container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU, { operation: 'VFIO_SET_IOMMU', device });
    } catch (error) {
      runAll([() => (fd < 0 ? undefined : this.#calls.close(fd, device)), () => this.#closeContainerIfUnused()]);
      throw error;
    }
    const group = { fd, leases: 0 };
    this.#open.set(number, group);
    return group;
  }

  #openGroupFile(number: number, device: string): number {
    const path = `${this.#paths.dev}/${number}`;
    return explained(
      () => this.#calls.open(path),
      {
        EBUSY: ['VFIO_E_BUSY', `another process has ${path} open: end it first`],
        ENOENT: ['VFIO_E_ADDRESS', `no such VFIO group (${path}): bind a device of it to a VFIO driver, or create the mdev`],
      },
      device,
    );
  }

  #openContainer(): void {
    if (this.#container >= 0) return;
    const path = `${this.#paths.dev}/vfio`;
    const fd = explained(() => this.#calls.open(path), {
      ENOENT: ['VFIO_E_UNAVAILABLE', noVfio],
      ENODEV: ['VFIO_E_UNAVAILABLE', 'the VFIO module is not loaded: modprobe vfio_iommu_type1'],
    });
    try {
      const version = this.#calls.ioctl(fd, VFIO_GET_API_VERSION, 0, { operation: 'VFIO_GET_API_VERSION', device: path });
      const type1v2 = this.#calls.ioctl(fd, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU, { operation: 'VFIO_CHECK_EXTENSION', device: path });
      if (version !== VFIO_API_VERSION || type1v2 !== 1) {
        const message = `VFIO API version ${version}, type1v2 ${type1v2 === 1 ? 'there' : 'missing'}: this library needs version ${VFIO_API_VERSION} and the module vfio_iommu_type1`;
        throw new VfioError('VFIO_E_UNAVAILABLE', message, { operation: 'VFIO_CHECK_EXTENSION', device: path });
      }
    } catch (error) {
      this.#calls.close(fd, path);
      throw error;
    }
    this.#container = fd;
    this.#dma = { fd, iovas: new IovaTable() };
  }

  #deviceFd(groupFd: number, name: string): number {
    return explained(
      () => this.#calls.ioctl(groupFd, VFIO_GROUP_GET_DEVICE_FD, new TextEncoder().encode(`${name}\0`), { operation: 'VFIO_GROUP_GET_DEVICE_FD', device: name }),
      {
        ENODEV: ['VFIO_E_NO_DEVICE', 'the group has no such device, or it is not bound to a VFIO driver'],
        EINVAL: ['VFIO_E_NO_DEVICE', 'the kernel does not give out this device: check its driver'],
      },
    );
  }

  #giveBack(number: number, group: OpenGroup): void {
    group.leases -= 1;
    if (group.leases > 0) return;
    this.#open.delete(number);
    // Closing the group file takes the group out of the container.
    runAllOrThrow([() => this.#calls.close(group.fd, `group:${number}`), () => this.#closeContainerIfUnused()]);
  }

  #closeContainerIfUnused(): void {
    if (this.#open.size > 0 || this.#container < 0) return;
    const fd = this.#container;
    this.#container = -1;
    this.#calls.close(fd, `${this.#paths.dev}/vfio`);
  }
}

/** The same failure, with what this errno means at this place, and for whom. */
function explained<T>(call: () => T, meanings: Readonly<Record<string, readonly [VfioErrorCode, string]>>, whose?: string): T {
  try {
    return call();
  } catch (error) {
    const meaning = VfioError.is(error) && error.errno !== undefined ? meanings[error.errno] : undefined;
    if (meaning === undefined || !VfioError.is(error)) throw error;
    const { operation, device, errno } = error;
    throw new VfioError(meaning[0], meaning[1], { operation, device: whose ?? device, errno, cause: error });
  }
}
