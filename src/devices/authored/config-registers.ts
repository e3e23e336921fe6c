import { pciConfigLayout } from '../protocol/pci-capabilities.js';
import { readPciCommand, type PciCommand } from '../protocol/pci-config.js';
import type { ConfigImage } from './config-image.js';

const statusInterrupt = 1 << 3;

/** Configuration space of a device that is open. */
export class ConfigRegisters {
  readonly #image: ConfigImage;
  readonly #bytes: Uint8Array;

  constructor(image: ConfigImage) {
    this.#image = image;
    this.#bytes = image.bytes.slice();
  }

  get size(): number {
    return this.#bytes.length;
  }

  get command(): PciCommand {
    return readPciCommand(new DataView(this.#bytes.buffer).getUint16(pciConfigLayout.command, true));
  }

  /** The status register shows the line of INTx: a driver that shares it looks there. */
  set line(active: boolean) {
    const status = this.#bytes[pciConfigLayout.status] ?? 0;
    this.#bytes[pciConfigLayout.status] = active ? status | statusInterrupt : status & ~statusInterrupt;
  }

  read(offset: number, bytes: number): Uint8Array {
    return this.#bytes.slice(offset, offset + bytes);
  }

  /** Of the rest nothing changes. */
  write(offset: number, bytes: Uint8Array): void {
    bytes.forEach((byte, n) => {
      const at = offset + n;
      const bits = this.#image.writable[at] ?? 0;
      this.#bytes[at] = ((this.#bytes[at] ?? 0) & ~bits) | (byte & bits);
    });
  }

  reset(): void {
    this.#bytes.set(this.#image.bytes);
  }
}
