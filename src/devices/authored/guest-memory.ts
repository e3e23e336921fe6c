import { VfioError } from '../../errors.js';
import type { Call, IovaRange, RemoteDmaRequest } from '../port.js';
import { IovaTable, printRange, requireRange } from '../protocol/dma-ranges.js';
import { pageSize } from '../software/options.js';
import type { Iommu } from '../software/dma.js';
import { steps, type Steps } from '../steps.js';

/**
 * The memory that a device reaches by DMA, at the addresses that its user gave it. Fails with VFIO_E_RANGE where nothing is mapped there, or not for
 * this, or while the user has not made the device a bus master. A client's answer takes its time where its memory is reached by messages: answer an access before you wait for memory,
 * for QEMU answers nothing while it waits for an access.
 */
export interface GuestMemory {
  read(iova: bigint, bytes: number): Call<Uint8Array>;
  write(iova: bigint, bytes: Uint8Array): Call<void>;
}

/** What one read may ask for, bytes: lengths often come from the guest. */
const mostReadBytes = 16 * 1024 * 1024;

/** What one message carries, bytes: QEMU cuts a reply off that is larger than its socket's buffer. */
const messageBytes = 64 * 1024;

/** What one call, or one message, reaches of an access. */
interface Part {
  readonly at: bigint;
  /** In the access, bytes. */
  readonly from: number;
  readonly size: number;
  readonly remote: RemoteDmaRequest | undefined;
}

/** Memory that is mapped here and memory that is reached by messages, as one. */
export class DeviceMemory implements GuestMemory {
  readonly #device: string;
  readonly #mapped: Iommu;
  readonly #isMaster: () => boolean;
  readonly #remote = new IovaTable<RemoteDmaRequest>();

  constructor(device: string, mapped: Iommu, isMaster: () => boolean) {
    this.#device = device;
    this.#mapped = mapped;
    this.#isMaster = isMaster;
  }

  read(iova: bigint, bytes: number): Call<Uint8Array> {
    return steps(() => {
      if (!Number.isInteger(bytes) || bytes < 0 || bytes > mostReadBytes) throw new VfioError('VFIO_E_LIMIT', `${bytes} bytes, at most ${mostReadBytes} are read at once`, { operation: 'DMA read', device: this.#device });
      return this.#read(iova, new Uint8Array(bytes));
    });
  }

  write(iova: bigint, bytes: Uint8Array): Call<void> {
    return steps(() => this.#write(iova, bytes));
  }

  /** Throws VFIO_E_BUSY where something is there already. */
  addRemote(request: RemoteDmaRequest): void {
    const origin = { operation: 'VFIO_IOMMU_MAP_DMA', device: this.#device };
    requireRange(request, pageSize, origin);
    const [other] = this.#mapped.overlapping(request);
    if (other !== undefined) throw new VfioError('VFIO_E_BUSY', `${printRange(request)} overlaps ${printRange(other)}, which is mapped already`, origin);
    this.#remote.add(request, origin);
  }

  /** Whether it overlaps what is reached by messages. */
  hasRemote(range: IovaRange): boolean {
    return this.#remote.overlapping(range).length > 0;
  }

  /** How many bytes left. */
  removeRemote(range: IovaRange): number {
    const inside = this.#remote.overlapping(range).filter(({ iova, size }) => iova >= range.iova && iova + BigInt(size) <= range.iova + BigInt(range.size));
    for (const one of inside) this.#remote.remove(one);
    return inside.reduce((sum, { size }) => sum + size, 0);
  }

  *#read(iova: bigint, whole: Uint8Array): Steps<Uint8Array> {
    for (const { at, from, size, remote } of this.#parts('read', iova, whole.length)) {
      const part = remote === undefined ? this.#mapped.read(at, size) : remote.read ? ((yield remote.memory.read(at, size)) as Uint8Array) : undefined;
      whole.set(part ?? this.#refuse('read', at), from);
    }
    return whole;
  }

  *#write(iova: bigint, bytes: Uint8Array): Steps<void> {
    let kept = bytes;
    for (const { at, from, size, remote } of this.#parts('write', iova, bytes.length)) {
      // A client takes its time, and the bytes are the caller's.
      if (kept === bytes && remote !== undefined && from + size < bytes.length) kept = new Uint8Array(bytes);
      const part = kept.subarray(from, from + size);
      if (remote?.write === true) yield remote.memory.write(at, part);
      else if (remote !== undefined || !this.#mapped.write(at, part)) this.#refuse('write', at);
    }
  }

  /** An access, page by page where it is mapped here, and in larger parts where each costs a message. What is mapped may change in between. */
  *#parts(what: 'read' | 'write', iova: bigint, bytes: number): Generator<Part> {
    for (let from = 0; from < bytes;) {
      if (!this.#isMaster()) throw this.#error(what, 'the user has not made the device a bus master (command register, bit 2)');
      const at = iova + BigInt(from);
      const [remote] = this.#remote.overlapping({ iova: at, size: 1 });
      const reach = remote === undefined ? pageSize - Number(at % BigInt(pageSize)) : Math.min(messageBytes, Number(remote.iova + BigInt(remote.size) - at));
      const size = Math.min(bytes - from, reach);
      yield { at, from, size, remote };
      from += size;
    }
  }

  #refuse(what: 'read' | 'write', at: bigint): never {
    throw this.#error(what, `nothing is mapped at iova 0x${at.toString(16)} that the device may ${what}`);
  }

  #error(what: 'read' | 'write', why: string): VfioError {
    return new VfioError('VFIO_E_RANGE', why, { operation: `DMA ${what}`, device: this.#device });
  }
}
