/** The registers and the memory of a virtio device, whichever way they are reached. */
export interface VirtioSide {
  write(offset: number, bytes: Uint8Array): Promise<unknown>;
  read(offset: number, bytes: number): Promise<Uint8Array>;
  /** At IO address `iova`. */
  readonly memory: Uint8Array;
  readonly iova: bigint;
}

/** Where things stand in its memory: a queue of four. */
const at = { descriptors: 0, available: 0x100, used: 0x200, buffer: 0x400 } as const;
const entries = 4;

/** As much of a driver as hands out buffers of one queue. */
export class VirtioDriver {
  readonly #side: VirtioSide;
  readonly #view: DataView;
  #given = 0;

  constructor(side: VirtioSide) {
    this.#side = side;
    this.#view = new DataView(side.memory.buffer, side.memory.byteOffset, side.memory.byteLength);
  }

  /** The features that it offers, 64 bits of them. */
  async features(): Promise<bigint> {
    let features = 0n;
    for (const half of [0, 1]) {
      await this.#u32(0, half);
      features |= BigInt(new DataView((await this.#side.read(4, 4)).slice().buffer).getUint32(0, true)) << BigInt(32 * half);
    }
    return features;
  }

  async status(value?: number): Promise<number> {
    if (value !== undefined) await this.#side.write(20, Uint8Array.of(value));
    return (await this.#side.read(20, 1))[0] ?? -1;
  }

  /** Resets the device and enables its queue, whose irqs come by message 1. */
  async start(): Promise<void> {
    await this.status(0);
    this.#given = 0;
    this.#side.memory.fill(0);
    await this.#u16(22, 0);
    await this.#u16(24, entries);
    await this.#u16(26, 1);
    for (const [register, offset] of [[32, at.descriptors], [40, at.available], [48, at.used]] as const) {
      await this.#u32(register, Number(this.#side.iova) + offset);
      await this.#u32(register + 4, 0);
    }
    await this.#u16(28, 1);
    await this.status(15);
  }

  /** Hands out a buffer and notifies. `iova`: where it is said to be. */
  async give(bytes: number, iova = this.#side.iova + BigInt(at.buffer)): Promise<void> {
    const slot = this.#given % entries;
    const descriptor = at.descriptors + 16 * slot;
    this.#view.setBigUint64(descriptor, iova, true);
    this.#view.setUint32(descriptor + 8, bytes, true);
    this.#view.setUint16(descriptor + 12, 2, true);
    this.#view.setUint16(at.available + 4 + 2 * slot, slot, true);
    this.#given += 1;
    this.#view.setUint16(at.available + 2, this.#given, true);
    await this.#u16(0x3000, 0);
  }

  /** Says that so many buffers were ever given, whatever was, and notifies. */
  async claim(given: number): Promise<void> {
    this.#view.setUint16(at.available + 2, given, true);
    await this.#u16(0x3000, 0);
  }

  /** How many came back, and how many bytes are in the last. */
  get used(): { readonly buffers: number; readonly bytes: number } {
    const buffers = this.#view.getUint16(at.used + 2, true);
    return { buffers, bytes: buffers === 0 ? 0 : this.#view.getUint32(at.used + 8 + 8 * ((buffers - 1) % entries), true) };
  }

  get buffer(): Uint8Array {
    return this.#side.memory.slice(at.buffer);
  }

  #u16(offset: number, value: number): Promise<unknown> {
    return this.#side.write(offset, Uint8Array.of(value & 0xff, value >>> 8));
  }

  #u32(offset: number, value: number): Promise<unknown> {
    return this.#side.write(offset, new Uint8Array(Uint32Array.of(value).buffer));
  }
}
