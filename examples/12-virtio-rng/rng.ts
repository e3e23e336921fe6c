import { randomBytes } from 'node:crypto';
import { catchError, concat, concatMap, EMPTY, endWith, exhaustMap, expand, filter, ignoreElements, map, merge, share, takeUntil, tap, type Observable } from 'rxjs';
import { pciDevice, vendorCapability, type ConfigCapability, type DeviceIrq, type GuestMemory, type PciDevice, type RegisterAccess, type RegisterWrite } from 'vfio-rx/devices';

/** The parts of BAR 0, and the types of the capabilities that say where they are. Each notification has four bytes of its own. */
const parts = { common: { type: 1, offset: 0 }, notify: { type: 2, offset: 0x3000 }, isr: { type: 3, offset: 0x1000 }, device: { type: 4, offset: 0x2000 } } as const;
const partBytes = 0x1000;
const notifyMultiplier = 4;

/** Offsets in the common part, bytes. Source: the specification of virtio 1.2, 4.1.4.3. */
const common = {
  deviceFeatureSelect: 0, deviceFeature: 4, configVector: 16, queues: 18, status: 20, queueSelect: 22,
  queueSize: 24, queueVector: 26, queueEnable: 28, queueDescriptors: 32, queueDriver: 40, queueDevice: 48, sizeof: 56,
} as const;
/** VIRTIO_F_VERSION_1, bit 32: nothing else is offered. */
const version1 = 1;
const needsReset = 0x40;
const noVector = 0xffff;
const mostEntries = 64;
/** What one buffer is filled with at most, bytes: its length is the guest's word. */
const mostBytes = 4096;

/** The registers of the common part: what a driver writes is read back, but for these. */
class Registers {
  readonly #view = new DataView(new ArrayBuffer(common.sizeof));

  constructor() {
    this.reset();
  }

  reset(): void {
    new Uint8Array(this.#view.buffer).fill(0);
    this.#view.setUint16(common.queues, 1, true);
    this.#view.setUint16(common.queueSize, mostEntries, true);
    this.#view.setUint16(common.queueVector, noVector, true);
    this.#view.setUint16(common.configVector, noVector, true);
  }

  get status(): number {
    return this.#view.getUint8(common.status);
  }

  u16(at: number): number {
    return this.#view.getUint16(at, true);
  }

  address(at: number): bigint {
    return this.#view.getBigUint64(at, true);
  }

  access(access: RegisterAccess): void {
    if (access.kind === 'read') access.answer(this.#read(access.offset, access.size));
    else if (access.offset === common.status && access.value === 0) this.reset();
    else if (access.offset + access.size <= common.sizeof && access.offset !== common.queues) this.#write(access);
  }

  /** The driver's memory made no sense. */
  fail(): void {
    this.#view.setUint8(common.status, this.status | needsReset);
  }

  #read(offset: number, size: 1 | 2 | 4): number {
    if (offset + size > common.sizeof) return 0;
    if (offset === common.deviceFeature) return this.#view.getUint32(common.deviceFeatureSelect, true) === 1 ? version1 : 0;
    // There is one queue.
    if (offset === common.queueSize && this.u16(common.queueSelect) !== 0) return 0;
    return size === 1 ? this.#view.getUint8(offset) : size === 2 ? this.u16(offset) : this.#view.getUint32(offset, true);
  }

  #write({ offset, size, value }: RegisterWrite): void {
    if (size === 1) this.#view.setUint8(offset, value);
    else if (size === 2) this.#view.setUint16(offset, value, true);
    else this.#view.setUint32(offset, value, true);
  }
}

type Message = Extract<DeviceIrq, { readonly message: number }>;

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * A split virtqueue whose buffers are the device's to write. The first that waits, `seen` having been filled so far, is filled with random bytes and told by a
 * message; none waits: empty. A notification behind the last look at the driver's index comes behind the answer to it, too: none is missed.
 */
function fillNext(registers: Registers, memory: GuestMemory, seen: number): Observable<Message> {
  const [descriptors, driver, device] = [registers.address(common.queueDescriptors), registers.address(common.queueDriver), registers.address(common.queueDevice)];
  const size = registers.u16(common.queueSize) || 1;
  const slot = BigInt(seen % size);
  return memory.read(driver, 4).pipe(
    map((available) => (view(available).getUint16(2, true) - seen) & 0xffff),
    tap((waiting) => {
      if (waiting > Math.min(size, mostEntries)) throw new Error(`${waiting} buffers wait in a queue of ${size}`);
    }),
    filter((waiting) => waiting > 0),
    concatMap(() => memory.read(driver + 4n + 2n * slot, 2)),
    map((entry) => view(entry).getUint16(0, true)),
    concatMap((head) => memory.read(descriptors + 16n * BigInt(head), 16).pipe(map((descriptor) => ({ head, descriptor: view(descriptor) })))),
    concatMap(({ head, descriptor }) => {
      const bytes = randomBytes(Math.min(descriptor.getUint32(8, true), mostBytes));
      return concat(
        memory.write(descriptor.getBigUint64(0, true), bytes),
        memory.write(device + 4n + 8n * slot, new Uint8Array(Uint32Array.of(head, bytes.length).buffer)),
        memory.write(device + 2n, new Uint8Array(Uint16Array.of(seen + 1).buffer)),
      ).pipe(ignoreElements(), endWith({ message: registers.u16(common.queueVector) }));
    }),
  );
}

const capability = ({ type, offset }: { readonly type: number; readonly offset: number }, more: readonly number[] = []): ConfigCapability =>
  vendorCapability(Uint8Array.of(type, 0, 0, 0, 0, ...new Uint8Array(Uint32Array.of(offset, partBytes, ...more).buffer)));

/** A source of entropy, as Linux's virtio_pci and virtio_rng drive it. */
export function virtioRng(): PciDevice {
  const { common: commonPart, notify, isr, device } = parts;
  return pciDevice(
    {
      name: 'virtio-rng', vendorId: 0x1af4, deviceId: 0x1044, subsystem: { vendorId: 0x1af4, deviceId: 0x1100 }, revision: 1, classCode: 0x00_ff_00,
      bars: [{ index: 0, kind: 'memory', size: 4 * partBytes }, { index: 1, kind: 'memory', size: partBytes }],
      interrupts: { msix: { vectors: 2, bar: 1 } },
      capabilities: [capability(commonPart), capability(notify, [notifyMultiplier]), capability(isr), capability(device)],
    },
    ({ accesses, memory }) => {
      const registers = new Registers();
      let seen = 0;
      const next = (): Observable<Message> => fillNext(registers, memory, seen).pipe(tap(() => (seen = (seen + 1) & 0xffff)));
      const toCommon = accesses.pipe(filter(({ offset }) => offset < common.sizeof), tap((access) => registers.access(access)), share());
      const resets = toCommon.pipe(filter(({ kind, offset }) => kind === 'write' && offset === common.status && registers.status === 0), tap(() => (seen = 0)));
      const elsewhere = accesses.pipe(filter(({ offset }) => offset >= common.sizeof), tap((access) => access.kind === 'read' && access.answer(0)));
      const notified = elsewhere.pipe(filter(({ kind, offset }) => kind === 'write' && offset === notify.offset));
      const filled = notified.pipe(
        exhaustMap(() => next().pipe(expand(next), catchError(() => { registers.fail(); return EMPTY; }), takeUntil(resets))),
        filter(({ message }) => message !== noVector),
      );
      return merge(filled, toCommon.pipe(ignoreElements()), resets.pipe(ignoreElements()));
    },
  );
}
