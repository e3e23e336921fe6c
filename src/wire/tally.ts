import { CrcCombiner } from './crc-combine.js';
import { streamError } from './frame.js';

/** All bytes of one device: how many, and their crc32, whatever the chunks. */
export class Tally {
  /** Exact: what no machine can send in a lifetime is beyond it. */
  private count = 0;
  private sum = 0;
  private readonly combiner = new CrcCombiner();

  get bytes(): bigint {
    return BigInt(this.count);
  }

  get crc(): number {
    return this.sum;
  }

  /** @param crc that of these bytes */
  add(bytes: Uint8Array, crc: number): void {
    this.count += bytes.length;
    this.sum = this.combiner.combine(this.sum, crc, bytes.length);
  }

  /** Throws VFIO_E_STREAM where the other side counted otherwise. */
  check(device: string, bytes: bigint, crc: number): void {
    if (bytes !== this.bytes) throw streamError(`${device}: ${this.count} bytes came, and ${bytes} were sent`);
    if (crc !== this.sum) throw streamError(`${device}: all ${bytes} bytes came, and their checksum is another`);
  }
}
