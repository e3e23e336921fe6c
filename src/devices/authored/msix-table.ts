import type { PciDeviceShape } from './description.js';

const entryBytes = 16;
/** Vector control, and its mask bit. */
const control = 12;
const masked = 1;

/** The table and pending bits of MSI-X as plain memory of a BAR: VFIO's users program the vectors by their eventfds, and nobody looks in here. */
export class MsixTable {
  readonly #shape: NonNullable<PciDeviceShape['msix']>;
  readonly #bytes: Uint8Array;

  constructor(shape: NonNullable<PciDeviceShape['msix']>) {
    this.#shape = shape;
    this.#bytes = new Uint8Array(shape.end - shape.offset);
    this.reset();
  }

  /** Whether a register of a BAR is in here, and so not the device's own. */
  has(bar: number, offset: number): boolean {
    return bar === this.#shape.bar && offset >= this.#shape.offset && offset < this.#shape.end;
  }

  read(offset: number, size: number): Uint8Array {
    return this.#bytes.slice(offset - this.#shape.offset, offset - this.#shape.offset + size);
  }

  /** Pending bits are the device's: writes to them change nothing. */
  write(offset: number, bytes: Uint8Array): void {
    if (offset < this.#shape.pba) this.#bytes.set(bytes, offset - this.#shape.offset);
  }

  reset(): void {
    this.#bytes.fill(0);
    for (let vector = 0; vector < this.#shape.vectors; vector += 1) this.#bytes[vector * entryBytes + control] = masked;
  }
}
