import { defer, of, throwError } from 'rxjs';
import type { InfoAccess, V1Parts } from '../../../src/devices/migration/v1-data-channel.js';
import type { Area, Call, RegionInfo } from '../../../src/devices/port.js';
import { VfioError } from '../../../src/errors.js';

/** Where the double's data section begins; it is one page long, and its second half can be mapped. */
export const dataOffset = 0x1000;
export const regionSize = 0x2000;
const mappable: Area = { offset: 0x1800, size: 0x800 };

export const regionInfo: RegionInfo = {
  index: 9, flags: 3, readable: true, writable: true, mmappable: true, size: regionSize, fileOffset: 0, areas: [mappable], type: { type: 3, subtype: 1 }, msixMappable: false,
};

const fieldAt = ['device_state', 'reserved', 'pending_bytes', '', 'data_offset', '', 'data_size', ''] as const;

/** A migration region whose driver says what the test wants, and remembers what it was asked. */
export class RegionDouble {
  readonly memory = new Uint8Array(regionSize);
  /** Every trapped access: `r pending_bytes`, `w data_size 5`, `r data 0x1000+4`. */
  readonly log: string[] = [];
  state = 1;
  pending = 0n;
  offset = BigInt(dataOffset);
  size = 0n;
  /** Told of each write of a field. */
  written: (field: string, value: bigint) => void = () => undefined;
  /** Fails the next access that it names. */
  fail: { readonly what: string; readonly error: VfioError } | undefined;
  maps = 0;
  open = true;

  readonly parts: V1Parts = {
    device: 'd0',
    region: regionInfo,
    access: (lane, access, operation) => defer(() => this.#access(lane, access, operation)),
    mapArea: (area) => {
      this.maps += 1;
      return { bytes: this.memory.subarray(area.offset, area.offset + area.size), release: () => (this.maps -= 1) };
    },
    requireOpen: (operation) => {
      if (!this.open) throw new VfioError('VFIO_E_CLOSED', 'closed', { operation });
    },
  };

  #access(lane: string, { offset, write, readBytes = 0 }: InfoAccess, operation: string): Call<Uint8Array> {
    const field = fieldAt[offset / 4];
    const value = write !== undefined && field !== undefined ? numberOf(write) : 0n;
    const what = `${write === undefined ? 'r' : 'w'} ${field ?? `data 0x${offset.toString(16)}+${write?.length ?? readBytes}`}`;
    this.log.push(`${what}${write !== undefined && field !== undefined ? ` ${value}` : ''}${lane === 'state' ? ' (state)' : ''}`);
    if (this.fail?.what === what) {
      const { error } = this.fail;
      this.fail = undefined;
      return throwError(() => error);
    }
    if (field === undefined) {
      if (write === undefined) return of(this.memory.slice(offset, offset + readBytes));
      this.memory.set(write, offset);
      return of(new Uint8Array(0));
    }
    if (write === undefined) return of(bytesOf(this.#field(field), readBytes));
    if (field === 'device_state') this.state = Number(value);
    this.written(field, value);
    if (operation === '') throw new Error('an access has an operation');
    return of(new Uint8Array(0));
  }

  #field(field: string): bigint {
    return { device_state: BigInt(this.state), pending_bytes: this.pending, data_offset: this.offset, data_size: this.size }[field] ?? 0n;
  }
}

function numberOf(bytes: Uint8Array): bigint {
  return bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}

function bytesOf(value: bigint, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, n) => Number((value >> BigInt(8 * n)) & 0xffn));
}
