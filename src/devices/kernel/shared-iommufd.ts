import type { Syscalls } from '../linux/syscalls.js';
import { IOMMU_IOAS_ALLOC } from '../uapi/constants.js';
import { encodeIoasAlloc, readIoasId } from '../uapi/iommufd.js';
import { kernelPaths, type KernelPaths } from './discovery.js';
import { explained } from './explained.js';
import { IoasSpace } from './ioas-space.js';

/** A share in the iommufd of this process. */
export interface IommufdLease {
  readonly fd: number;
  /** The IOAS that all devices of this process are attached to. */
  readonly ioas: number;
  readonly space: IoasSpace;
  /** Idempotent. Detach and close the device first. */
  release(): void;
}

/** The one iommufd of this process and its one IOAS, so that all devices see the same DMA addresses; closed with the last lease. */
export class SharedIommufd {
  readonly #calls: Syscalls;
  readonly #paths: KernelPaths;
  #open: Omit<IommufdLease, 'release'> | undefined;
  #leases = 0;

  constructor(calls: Syscalls, paths: KernelPaths = kernelPaths) {
    this.#calls = calls;
    this.#paths = paths;
  }

  /** Fails with VFIO_E_UNAVAILABLE, VFIO_E_PERMISSION, VFIO_E_LIMIT; leaves nothing open then. */
  lease(): IommufdLease {
    const open = (this.#open ??= this.#make());
    this.#leases += 1;
    let given = true;
    return {
      ...open,
      release: () => {
        if (!given) return;
        given = false;
        this.#leases -= 1;
        if (this.#leases > 0) return;
        this.#open = undefined;
        this.#calls.close(open.fd, this.#paths.iommu);
      },
    };
  }

  #make(): Omit<IommufdLease, 'release'> {
    const path = this.#paths.iommu;
    const fd = explained(() => this.#calls.open(path), {
      ENOENT: ['VFIO_E_UNAVAILABLE', "this kernel has no iommufd (CONFIG_IOMMUFD): open the device by its group (way: 'group')"],
      ENODEV: ['VFIO_E_UNAVAILABLE', 'the module is not loaded: modprobe iommufd'],
      EACCES: ['VFIO_E_PERMISSION', `permission denied: give this user access to ${path}`],
    });
    try {
      const argument = encodeIoasAlloc();
      this.#calls.ioctl(fd, IOMMU_IOAS_ALLOC, argument, { operation: 'IOMMU_IOAS_ALLOC', device: path });
      const ioas = readIoasId(argument);
      return { fd, ioas, space: new IoasSpace(fd, ioas, this.#calls) };
    } catch (error) {
      this.#calls.close(fd, path);
      throw error;
    }
  }
}
