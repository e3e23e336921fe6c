import type { Asker } from '../call.js';
import { protocolError } from '../uapi/bytes.js';
import type { Exchange } from './connection.js';
import type { Message } from './messages/header.js';
import { answersRead, readRegionData, regionAccessLayout, writeRegionAccess, type RegionPart } from './messages/region-access.js';

/** One REGION_READ of a register: what is made for it is this, and the bytes that it brings. */
export class RegionRead implements Exchange, RegionPart {
  readonly command = 'REGION_READ';
  readonly payloadBytes = regionAccessLayout.sizeof;

  constructor(
    readonly region: number,
    readonly offset: number,
    readonly count: number,
    private readonly device: string,
    private readonly asker: Asker<Uint8Array>,
  ) {}

  get operation(): string {
    return `REGION_READ region ${this.region}`;
  }

  encode(view: DataView, at: number): void {
    writeRegionAccess(view, at, this);
  }

  replied(message: Message): void {
    const { bytes, view, at, end } = message;
    if (answersRead(view, at, end, this)) this.asker.answered(bytes.slice(at + regionAccessLayout.sizeof, end));
    else this.asker.failed(this.#mismatch(message.payload));
  }

  failed(error: unknown): void {
    this.asker.failed(error);
  }

  #mismatch(payload: Uint8Array): unknown {
    try {
      const { region, offset, count } = readRegionData(payload);
      return protocolError({ operation: this.operation, device: this.device }, 0, `${count} bytes at ${offset} of region ${region} answered, ${this.count} at ${this.offset} of region ${this.region} were asked`);
    } catch (error) {
      return error;
    }
  }
}
