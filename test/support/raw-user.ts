import { firstValueFrom } from 'rxjs';
import { VfioError } from '../../src/errors.js';
import { findDevice } from '../../src/devices/kernel/discovery.js';
import { VfioGroups, type GroupLease } from '../../src/devices/kernel/groups.js';
import { linux } from '../../src/devices/linux/binding.js';
import { sharedLanes, type Lane } from '../../src/devices/linux/lanes.js';
import { sharedReactor } from '../../src/devices/linux/reactor.js';
import { linuxSyscalls } from '../../src/devices/linux/syscalls.js';
import type { Area, DeviceInfo, IrqInfo, RegionInfo, State } from '../../src/devices/port.js';
import { VFIO_DEVICE_FEATURE, VFIO_DEVICE_GET_INFO, VFIO_DEVICE_GET_IRQ_INFO, VFIO_DEVICE_GET_REGION_INFO, VFIO_DEVICE_RESET, VFIO_DEVICE_SET_IRQS } from '../../src/devices/uapi/constants.js';
import { queryDeviceInfo } from '../../src/devices/uapi/device-info.js';
import { queryIrqInfo } from '../../src/devices/uapi/irq-info.js';
import { encodeIrqDisable, encodeIrqSet, type IrqSet } from '../../src/devices/uapi/irq-set.js';
import { encodeStateQuery, encodeStateSet, readDataFd, readMigState } from '../../src/devices/uapi/migration-feature.js';
import { queryRegionInfo } from '../../src/devices/uapi/region-info.js';

/** How a call ended: errno's name, or `ok`. */
export type Outcome = string;

const EFD_SEMAPHORE = 1;

/**
 * A user without this library's manners: its own eventfds, in whatever role, and calls in whatever order. For tests that judge
 * a vendor driver. Every call answers errno's name where the kernel refuses.
 */
export class RawUser implements Disposable {
  readonly #calls = linuxSyscalls();
  readonly #lease: GroupLease;
  readonly #lane: Lane;
  readonly #fds = new Set<number>();
  readonly #mappings = new Map<number, number>();
  readonly device: number;

  constructor(readonly uuid: string) {
    const found = findDevice({ kind: 'mdev', uuid });
    this.#lease = new VfioGroups(this.#calls).lease(found.group, uuid);
    this.device = this.#lease.deviceFd(found.name);
    this.#lane = sharedLanes().lane(`raw ${uuid}`);
  }

  info(): DeviceInfo {
    return queryDeviceInfo((bytes) => this.#ioctl(VFIO_DEVICE_GET_INFO, bytes), this.uuid);
  }

  region(index: number): RegionInfo {
    return queryRegionInfo(index, (bytes) => this.#ioctl(VFIO_DEVICE_GET_REGION_INFO, bytes), this.uuid);
  }

  irq(index: number): IrqInfo {
    return queryIrqInfo(index, (bytes) => this.#ioctl(VFIO_DEVICE_GET_IRQ_INFO, bytes), this.uuid);
  }

  /** A fresh eventfd, closed with the user at the latest. */
  eventfd(options: { readonly count?: number; readonly semaphore?: boolean } = {}): number {
    const fd = this.#calls.binding.eventfd(options.count ?? 0, linux.O_NONBLOCK | linux.O_CLOEXEC | (options.semaphore === true ? EFD_SEMAPHORE : 0));
    this.#fds.add(fd);
    return fd;
  }

  /** The last reference of an eventfd goes. */
  hangUp(fd: number): void {
    this.#fds.delete(fd);
    this.#calls.close(fd);
  }

  read(fd: number): bigint | undefined {
    return this.#calls.readCount(fd);
  }

  write(fd: number, count: bigint): Outcome {
    return this.#calls.writeCount(fd, count) ? 'ok' : 'EAGAIN';
  }

  /** Waits for a signal and reads it. */
  signal(fd: number): Promise<bigint> {
    const slot = sharedReactor().add(fd);
    return new Promise<bigint>((resolve, reject) => slot.arm(resolve, reject)).finally(() => slot.close());
  }

  setIrqs(set: IrqSet): Outcome {
    return this.#outcome(() => this.#ioctl(VFIO_DEVICE_SET_IRQS, encodeIrqSet(set)));
  }

  trigger(index: number, fd: number): Outcome {
    return this.setIrqs({ index, action: 'trigger', data: 'eventfd', fds: [fd] });
  }

  /** The ack fd of a remap irq. */
  ack(index: number, fd: number): Outcome {
    return this.setIrqs({ index, action: 'unmask', data: 'eventfd', fds: [fd] });
  }

  disable(index: number): Outcome {
    return this.#outcome(() => this.#ioctl(VFIO_DEVICE_SET_IRQS, encodeIrqDisable(index)));
  }

  /** The address, or errno's name. */
  map(region: number, area: Area): number | Outcome {
    const { fileOffset } = this.region(region);
    const address = this.#calls.binding.mmap(0, area.size, linux.PROT_READ | linux.PROT_WRITE, linux.MAP_SHARED, this.device, BigInt(fileOffset + area.offset));
    if (address < 0) return this.#outcome(() => this.#calls.mmap(0, area.size, linux.PROT_READ | linux.PROT_WRITE, linux.MAP_SHARED, this.device, BigInt(fileOffset + area.offset)));
    this.#mappings.set(address, area.size);
    return address;
  }

  /** Also of a part: what is left is unmapped with the user. */
  unmap(address: number | Outcome, size?: number): void {
    const known = typeof address === 'number' ? this.#mappings.get(address) : undefined;
    if (typeof address !== 'number' || known === undefined) throw new Error(`nothing is mapped at ${address}`);
    this.#calls.munmap(address, size ?? known);
    this.#mappings.delete(address);
    if (size !== undefined && size < known) this.#mappings.set(address + size, known - size);
  }

  /** Resolves when the driver has returned. Where an arc makes a data_fd it is closed with the user. */
  async setState(state: State): Promise<Outcome> {
    try {
      const { bytes } = await firstValueFrom(this.#lane.submit({ op: 'ioctl', fd: this.device, request: VFIO_DEVICE_FEATURE, argument: encodeStateSet(state) }));
      const data = readDataFd(bytes);
      if (data !== undefined) this.#fds.add(data);
      return 'ok';
    } catch (error) {
      return errnoOf(error);
    }
  }

  /** As setState, on the calling thread: for a call that must not block. */
  setStateNow(state: State): Outcome {
    return this.#outcome(() => this.#ioctl(VFIO_DEVICE_FEATURE, encodeStateSet(state)));
  }

  getState(): State {
    const bytes = encodeStateQuery();
    this.#ioctl(VFIO_DEVICE_FEATURE, bytes);
    return readMigState(bytes).state;
  }

  reset(): Outcome {
    return this.#outcome(() => this.#ioctl(VFIO_DEVICE_RESET, new Uint8Array(8)));
  }

  [Symbol.dispose](): void {
    for (const [address, size] of this.#mappings) this.#calls.munmap(address, size);
    for (const fd of this.#fds) this.#calls.close(fd);
    this.#calls.close(this.device);
    this.#lease.release();
  }

  #ioctl(request: number, bytes: Uint8Array): void {
    this.#calls.ioctl(this.device, request, bytes, { operation: 'ioctl', device: this.uuid });
  }

  #outcome(call: () => void): Outcome {
    try {
      call();
      return 'ok';
    } catch (error) {
      return errnoOf(error);
    }
  }
}

function errnoOf(error: unknown): Outcome {
  if (VfioError.is(error) && error.errno !== undefined) return error.errno;
  throw error;
}
