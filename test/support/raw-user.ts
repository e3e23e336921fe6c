import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { firstValueFrom } from 'rxjs';
import { VfioError } from '../../src/errors.js';
import { parseAddress } from '../../src/devices/kernel/address.js';
import { findDevice } from '../../src/devices/kernel/discovery.js';
import { VfioGroups, type GroupLease } from '../../src/devices/kernel/groups.js';
import { errnoName, linux } from '../../src/devices/linux/binding.js';
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
const MADV_DONTNEED = 4;
const MREMAP_MAYMOVE = 1;
const MREMAP_FIXED = 2;

type Mremap = (address: number, size: number, newSize: number, flags: number, newAddress: number) => number;

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
  #gone = false;

  /** @param uuid of an mdev; a PCI address does as well */
  constructor(readonly uuid: string) {
    const found = findDevice(parseAddress(uuid));
    if (found.group === undefined) throw new Error(`${uuid} has no group`);
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

  /** The 32-bit words of GET_IRQ_INFO's answer to a buffer of so many bytes. */
  irqInfoInto(index: number, bytes: number): Uint32Array {
    const words = new Uint32Array(bytes / 4);
    words.set([bytes, 0, index, 0]);
    this.#ioctl(VFIO_DEVICE_GET_IRQ_INFO, new Uint8Array(words.buffer));
    return words;
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

  /** Whether there is something to read, by /proc: nothing is read. */
  readable(fd: number): boolean {
    return !/^eventfd-count:\s+0$/m.test(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'));
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

  /** Also of the first part alone: then the answer is where the rest begins. */
  unmap(mapping: number | Outcome, size?: number): number {
    const [address, known] = this.#mapped(mapping);
    const gone = size ?? known;
    this.#calls.munmap(address, gone);
    this.#mappings.delete(address);
    if (gone < known) this.#mappings.set(address + gone, known - gone);
    return address + gone;
  }

  mapPrivate(region: number, area: Area): Outcome {
    const { fileOffset } = this.region(region);
    return this.#outcome(() => this.#calls.mmap(0, area.size, linux.PROT_READ, linux.MAP_PRIVATE, this.device, BigInt(fileOffset + area.offset)));
  }

  dontNeed(mapping: number | Outcome): Outcome {
    const [address, size] = this.#mapped(mapping);
    return this.#outcome(() => { this.#calls.madvise(address, size, MADV_DONTNEED); });
  }

  /** mremap: to another place, or where `size` is another one, to that. The new address, or errno's name. */
  remap(mapping: number | Outcome, size?: number): number | Outcome {
    const [address, known] = this.#mapped(mapping);
    // Resolved from here, as the bundle that the guest runs lies elsewhere.
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
    const mremap = koffi.load(null).func('int64_t mremap(int64_t, size_t, size_t, int, int64_t)') as unknown as Mremap;
    const place = size === undefined ? this.#calls.mmap(0, known, linux.PROT_NONE, linux.MAP_PRIVATE | linux.MAP_ANONYMOUS, -1, 0n) : 0;
    const moved = mremap(address, known, size ?? known, MREMAP_MAYMOVE | (size === undefined ? MREMAP_FIXED : 0), place);
    if (moved < 0) return errnoName(koffi.errno());
    this.#mappings.delete(address);
    this.#mappings.set(moved, size ?? known);
    return moved;
  }

  /** The kernel's flags of a mapping, as /proc/self/smaps has them: `sh` shared, `dc` no copy on fork, `de` no expanding, `io`, `pf`. */
  flagsOf(mapping: number | Outcome): readonly string[] {
    const [address] = this.#mapped(mapping);
    const smaps = readFileSync('/proc/self/smaps', 'utf8').split('\n');
    const from = smaps.findIndex((line) => line.startsWith(`${address.toString(16)}-`));
    return smaps.slice(from).find((line) => line.startsWith('VmFlags:'))?.split(/\s+/).slice(1) ?? [];
  }

  #mapped(mapping: number | Outcome): readonly [address: number, size: number] {
    const size = typeof mapping === 'number' ? this.#mappings.get(mapping) : undefined;
    if (typeof mapping !== 'number' || size === undefined) throw new Error(`nothing is mapped at ${mapping}`);
    return [mapping, size];
  }

  /** A word for the mailbox (guest 0, 1), stored at the mapping's begin. */
  touch(address: number | Outcome): void {
    if (typeof address !== 'number') throw new Error(`nothing is mapped: ${address}`);
    new BigUint64Array(this.#calls.binding.view(address, 8))[0] = 1n;
  }

  /** Trapped access. */
  pread(region: number, offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.#calls.pread(this.device, bytes, BigInt(this.region(region).fileOffset + offset));
    return bytes;
  }

  pwrite(region: number, offset: number, bytes: Uint8Array): void {
    this.#calls.pwrite(this.device, bytes, BigInt(this.region(region).fileOffset + offset));
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

  /** Twice is fine. */
  [Symbol.dispose](): void {
    if (this.#gone) return;
    this.#gone = true;
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
