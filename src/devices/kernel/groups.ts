import { VfioError } from '../../errors.js';
import type { Syscalls } from '../linux/syscalls.js';
import {
  VFIO_API_VERSION,
  VFIO_CHECK_EXTENSION,
  VFIO_GET_API_VERSION,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_GROUP_GET_STATUS,
  VFIO_GROUP_SET_CONTAINER,
  VFIO_NOIOMMU_IOMMU,
  VFIO_SET_IOMMU,
  VFIO_TYPE1v2_IOMMU,
} from '../uapi/constants.js';
import { encodeGroupStatusQuery, readGroupStatus } from '../uapi/group.js';
import { ContainerSpace } from './container-space.js';
import { cdevPath, groupMates, groupPath, kernelPaths, noiommuPath, noVfio, type KernelPaths } from './discovery.js';
import type { DmaSpace } from './dma-space.js';
import { explained } from './explained.js';
import { NoIommuSpace } from './no-iommu-space.js';
import { runAll, runAllOrThrow } from './run-all.js';
import { whoHolds } from './who-holds.js';

/** A share in an opened group; the group is closed with the last one, the container with the last group. */
export interface GroupLease {
  /** A new fd of a device of this group (VFIO_GROUP_GET_DEVICE_FD); the caller owns it. */
  deviceFd(name: string): number;
  /** The addresses of the container that the group is in; all groups of a process share it. */
  readonly space: DmaSpace;
  /** Idempotent. Close the device fds first. */
  release(): void;
}

/** A model of IOMMU that a container can have. */
interface Model {
  readonly number: number;
  readonly name: string;
  readonly needs: string;
  readonly path: (group: number, paths: KernelPaths) => string;
  readonly space: (container: number) => DmaSpace;
}

const models: Readonly<Record<'type1v2' | 'noiommu', Model>> = {
  type1v2: { number: VFIO_TYPE1v2_IOMMU, name: 'type1v2', needs: 'the module vfio_iommu_type1', path: groupPath, space: (fd) => new ContainerSpace(fd) },
  noiommu: { number: VFIO_NOIOMMU_IOMMU, name: 'noiommu', needs: 'the parameter enable_unsafe_noiommu_mode of vfio', path: noiommuPath, space: () => new NoIommuSpace() },
};

interface OpenGroup {
  readonly fd: number;
  leases: number;
}

/**
 * The groups that this process has open, all in one container with one model of IOMMU (type1v2), so that devices of several groups see
 * the same DMA addresses. A group file can be open only once in the system, hence the counting.
 */
export class VfioGroups {
  readonly #calls: Syscalls;
  readonly #paths: KernelPaths;
  readonly model: keyof typeof models;
  readonly #model: Model;
  readonly #open = new Map<number, OpenGroup>();
  #container = -1;
  /** Begins anew with each container. */
  #space: DmaSpace | undefined;

  constructor(calls: Syscalls, paths: KernelPaths = kernelPaths, model: keyof typeof models = 'type1v2') {
    this.#calls = calls;
    this.#paths = paths;
    this.model = model;
    this.#model = models[model];
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
    const space = (this.#space ??= this.#model.space(this.#container));
    group.leases += 1;
    let given = true;
    return {
      deviceFd: (name) => this.#deviceFd(group.fd, name),
      space,
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
      if (this.#open.size === 0) this.#calls.ioctl(this.#container, VFIO_SET_IOMMU, this.#model.number, { operation: 'VFIO_SET_IOMMU', device });
    } catch (error) {
      runAll([() => (fd < 0 ? undefined : this.#calls.close(fd, device)), () => this.#closeContainerIfUnused()]);
      throw error;
    }
    const group = { fd, leases: 0 };
    this.#open.set(number, group);
    return group;
  }

  #openGroupFile(number: number, device: string): number {
    const path = this.#model.path(number, this.#paths);
    return explained(
      () => this.#calls.open(path),
      {
        EBUSY: () => ['VFIO_E_BUSY', this.#holders(number, path)],
        ENOENT: ['VFIO_E_ADDRESS', `no such VFIO group (${path}): bind a device of it to a VFIO driver, or create the mdev`],
      },
      device,
    );
  }

  /** Who has the group's file open, or a device of it by its own. */
  #holders(number: number, path: string): string {
    const mates = groupMates(number, this.#paths).flatMap(({ name, cdev }) => (cdev === undefined ? [] : [{ path: cdevPath(cdev, this.#paths), way: `by the own file of ${name}` }]));
    return whoHolds([{ path, way: 'by its group' }, ...mates]) ?? `${path}, or the own file of a device of this group, is open in a process that /proc does not show to this one`;
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
      const { number, name, needs } = this.#model;
      const there = this.#calls.ioctl(fd, VFIO_CHECK_EXTENSION, number, { operation: 'VFIO_CHECK_EXTENSION', device: path }) === 1;
      if (version !== VFIO_API_VERSION || !there) {
        const message = `VFIO API version ${version}, ${name} ${there ? 'there' : 'missing'}: this library needs version ${VFIO_API_VERSION} and ${needs}`;
        throw new VfioError('VFIO_E_UNAVAILABLE', message, { operation: 'VFIO_CHECK_EXTENSION', device: path });
      }
    } catch (error) {
      this.#calls.close(fd, path);
      throw error;
    }
    this.#container = fd;
    this.#space = undefined;
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
