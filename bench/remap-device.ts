/**
 * The device of the remap benchmark: the kernel port over a file that a vendor driver in C shares (remap-peer.c).
 *
 * Only the ioctls are answered here, from the layout in the file's first page; a real one would cost a system call more,
 * on both sides. All else is real: the FFI, epoll, eventfds, mmap and munmap of the file, and the whole library above.
 */
import { closeSync, openSync } from 'node:fs';
import { of } from 'rxjs';
import { realClock } from '../src/clock.js';
import type { PortSource } from '../src/devices/open.js';
import { KernelPort } from '../src/devices/kernel/kernel-port.js';
import { NoIommuSpace } from '../src/devices/kernel/no-iommu-space.js';
import type { OpenedDevice } from '../src/devices/kernel/opened-device.js';
import { koffiBinding } from '../src/devices/linux/koffi-binding.js';
import { sharedLanes } from '../src/devices/linux/lanes.js';
import { mapRegion, type MappedMemory } from '../src/devices/linux/mapped-memory.js';
import { sharedReactor } from '../src/devices/linux/reactor.js';
import { Syscalls } from '../src/devices/linux/syscalls.js';
import * as uapi from '../src/devices/uapi/constants.js';
import { deviceInfoLayout } from '../src/devices/uapi/device-info.js';
import { irqInfoChainLayout } from '../src/devices/uapi/irq-info.js';
import { irqSetLayout } from '../src/devices/uapi/irq-set.js';
import { regionInfoLayout } from '../src/devices/uapi/region-info.js';
import { irqTypeLayout, remapCapLayout } from '../src/devices/uapi/remap-capability.js';

const pageBytes = 4096;
const remapIrqIndex = 5;
const irqCount = 6;
/** The words of `struct layout` in remap-peer.c. */
const layoutWords = { regions: 0, pages: 1, offered: 2 } as const;

const enotty = -25;
const einval = -22;

/** A device with so many regions, in a file of /dev/shm that is its memory. */
export class RemapDevice implements PortSource {
  /** For the vendor driver: the shared file, and once the irq is registered, trigger and ack. */
  readonly fds: { readonly file: number; trigger: number; ack: number };
  readonly #layout: MappedMemory;
  readonly #words: Uint32Array;
  readonly #regions: number;
  readonly #regionBytes: number;

  constructor(path: string, regions: number, pagesEach: number) {
    const file = openSync(path, 'r+');
    this.fds = { file, trigger: -1, ack: -1 };
    this.#regions = regions;
    this.#regionBytes = pagesEach * pageBytes;
    this.#layout = mapRegion(file, 0n, pageBytes, { read: true, write: true });
    this.#words = new Uint32Array(this.#layout.memory);
    this.#words[layoutWords.regions] = regions;
    this.#words[layoutWords.pages] = pagesEach;
    this.#words.fill(1, layoutWords.offered, layoutWords.offered + regions);
  }

  open(): ReturnType<PortSource['open']> {
    const calls = new Syscalls({ ...koffiBinding(), ioctl: (_fd, request, argument) => this.#ioctl(request, argument) });
    const opened: OpenedDevice = {
      name: 'bench',
      fd: openSync(`/proc/self/fd/${this.fds.file}`, 'r+'),
      space: new NoIommuSpace(),
      release: (step) => { step('device fd closed', () => calls.close(opened.fd)); },
    };
    return of(new KernelPort(opened, { calls, reactor: sharedReactor(), pool: sharedLanes(), clock: realClock }));
  }

  close(): void {
    this.#layout.close();
    closeSync(this.fds.file);
  }

  #ioctl(request: number, argument: number | ArrayBufferView): number {
    if (typeof argument === 'number') return enotty;
    const view = new DataView(argument.buffer, argument.byteOffset, argument.byteLength);
    switch (request) {
      case uapi.VFIO_DEVICE_GET_INFO:
        view.setUint32(deviceInfoLayout.num_regions, this.#regions, true);
        view.setUint32(deviceInfoLayout.num_irqs, irqCount, true);
        return 0;
      case uapi.VFIO_DEVICE_GET_REGION_INFO:
        return this.#regionInfo(view);
      case uapi.VFIO_DEVICE_GET_IRQ_INFO:
        return view.getUint32(irqInfoChainLayout.index, true) === remapIrqIndex ? this.#irqInfo(view) : einval;
      case uapi.VFIO_DEVICE_SET_IRQS:
        return this.#setIrqs(view);
      default:
        return enotty;
    }
  }

  #regionInfo(view: DataView): number {
    const index = view.getUint32(regionInfoLayout.index, true);
    if (index >= this.#regions) return einval;
    const offered = this.#words[layoutWords.offered + index] === 1;
    view.setUint32(regionInfoLayout.argsz, regionInfoLayout.sizeof, true);
    view.setUint32(regionInfoLayout.flags, uapi.VFIO_REGION_INFO_FLAG_READ | uapi.VFIO_REGION_INFO_FLAG_WRITE | (offered ? uapi.VFIO_REGION_INFO_FLAG_MMAP : 0), true);
    view.setUint32(regionInfoLayout.cap_offset, 0, true);
    view.setBigUint64(regionInfoLayout.size, BigInt(this.#regionBytes), true);
    view.setBigUint64(regionInfoLayout.offset, BigInt(pageBytes + index * this.#regionBytes), true);
    return 0;
  }

  /** The chain of the remap irq: its type, then page 0, doorbell, value ack. */
  #irqInfo(view: DataView): number {
    const type = 24;
    const remap = type + irqTypeLayout.sizeof;
    const size = remap + remapCapLayout.sizeof;
    const fits = view.byteLength >= size;
    view.setUint32(irqInfoChainLayout.argsz, size, true);
    view.setUint32(irqInfoChainLayout.flags, uapi.VFIO_IRQ_INFO_EVENTFD | uapi.VFIO_REGION_REMAP_IRQ_INFO_CAPS, true);
    view.setUint32(irqInfoChainLayout.count, 1, true);
    if (view.byteLength > irqInfoChainLayout.cap_offset) view.setUint32(irqInfoChainLayout.cap_offset, fits ? type : 0, true);
    if (!fits) return 0;
    header(view, type, uapi.VFIO_REGION_REMAP_CAP_TYPE, uapi.VFIO_REGION_REMAP_CAP_TYPE_VERSION, remap);
    view.setUint32(type + irqTypeLayout.type, uapi.VFIO_REGION_REMAP_IRQ_TYPE, true);
    view.setUint32(type + irqTypeLayout.subtype, uapi.VFIO_REGION_REMAP_IRQ_SUBTYPE, true);
    header(view, remap, uapi.VFIO_REGION_REMAP_CAP, uapi.VFIO_REGION_REMAP_CAP_VERSION, 0);
    view.setUint32(remap + remapCapLayout.flags, uapi.VFIO_REGION_REMAP_FLAG_DOORBELL, true);
    view.setBigUint64(remap + remapCapLayout.regions, (1n << BigInt(this.#regions)) - 1n, true);
    view.setUint32(remap + remapCapLayout.ack_timeout_ms, 1000, true);
    view.setUint32(remap + remapCapLayout.max_waits, 1, true);
    return 0;
  }

  #setIrqs(view: DataView): number {
    const flags = view.getUint32(irqSetLayout.flags, true);
    if ((flags & uapi.VFIO_IRQ_SET_DATA_EVENTFD) === 0) return 0;
    const role = (flags & uapi.VFIO_IRQ_SET_ACTION_TRIGGER) === 0 ? 'ack' : 'trigger';
    this.fds[role] = view.getInt32(irqSetLayout.data, true);
    return 0;
  }
}

function header(view: DataView, at: number, id: number, version: number, next: number): void {
  view.setUint16(at, id, true);
  view.setUint16(at + 2, version, true);
  view.setUint32(at + 4, next, true);
}
