import { CrcCombiner } from './crc-combine.js';
import { streamError } from './frame.js';

/** All bytes of one device: how many, and their crc32, whatever the chunks. */
export class Tally {
  #bytes = 0n;
  #crc = 0;
  readonly #combiner = new CrcCombiner();

  get bytes(): bigint {
    return this.#bytes;
  }

  get crc(): number {
    return this.#crc;
  }

  /** @param crc that of these bytes */
  add(bytes: Uint8Array, crc: number): void {
    this.#bytes += BigInt(bytes.length);
    this.#crc = this.#combiner.combine(this.#crc, crc, bytes.length);
  }

  /** Throws VFIO_E_STREAM where the other side counted otherwise. */
  check(device: string, bytes: bigint, crc: number): void {
    if (bytes !== this.#bytes) throw streamError(`${device}: ${this.#bytes} bytes came, and ${bytes} were sent`);
    if (crc !== this.#crc) throw streamError(`${device}: all ${bytes} bytes came, and their checksum is another`);
  }
}
