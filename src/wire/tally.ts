import { CrcCombiner } from './crc-combine.js';
import { streamError } from './frame.js';

/** All bytes of one device: how many, and their crc32, whatever the chunks. */
export class Tally {
  /** Exact: what no machine can send in a lifetime is beyond it. */
  #bytes = 0;
  #crc = 0;
  readonly #combiner = new CrcCombiner();

  get bytes(): bigint {
    return BigInt(this.#bytes);
  }

  get crc(): number {
    return this.#crc;
  }

  /** @param crc that of these bytes */
  add(bytes: Uint8Array, crc: number): void {
    this.#bytes += bytes.length;
    this.#crc = this.#combiner.combine(this.#crc, crc, bytes.length);
  }

  /** Throws VFIO_E_STREAM where the other side counted otherwise. */
  check(device: string, bytes: bigint, crc: number): void {
    if (bytes !== this.bytes) throw streamError(`${device}: ${this.#bytes} bytes came, and ${bytes} were sent`);
    if (crc !== this.#crc) throw streamError(`${device}: all ${bytes} bytes came, and their checksum is another`);
  }
}
