import type { MappedPiece } from './holders.js';
import type { Area } from './port.js';
import { subtractAreas } from './protocol/areas.js';

/** Typed views of one mapped piece: an element access is one load or store of its width. */
interface Window {
  readonly piece: MappedPiece;
  readonly start: number;
  readonly end: number;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly u64: BigUint64Array;
}

function windowOn(piece: MappedPiece): Window {
  const { memory, byteOffset, area } = piece;
  return {
    piece,
    start: area.offset,
    end: area.offset + area.size,
    u8: new Uint8Array(memory, byteOffset, area.size),
    u16: new Uint16Array(memory, byteOffset, Math.floor(area.size / 2)),
    u32: new Uint32Array(memory, byteOffset, Math.floor(area.size / 4)),
    u64: new BigUint64Array(memory, byteOffset, Math.floor(area.size / 8)),
  };
}

/** Contains no offset: what is tried first before anything was used. */
const nowhere: Window = windowOn({ region: -1, area: { offset: 0, size: 0 }, memory: new ArrayBuffer(0), byteOffset: 0 });

/**
 * The mapped way into a region: a few windows, of which the one used last is tried first.
 * Each method answers undefined (or false) where the offset is not mapped or not aligned; the trapped way then judges it.
 * Revocation takes the window away before the memory goes: on one thread nobody can be in between.
 *
 * An access is a few nanoseconds, so the way that almost all take is written out in each method: it decides with integers
 * of 32 bits whether the offset is whole and aligned, and what does not fit (beyond 2 GiB, fractions) goes the general way.
 */
export class FastPath {
  #windows: readonly Window[] = [];
  #reads = nowhere;
  #writes = nowhere;
  #readable = true;
  #writable = true;

  replace(pieces: readonly MappedPiece[], rights: { readonly readable: boolean; readonly writable: boolean }): void {
    this.#use(pieces.map(windowOn));
    this.#readable = rights.readable;
    this.#writable = rights.writable;
  }

  remove(areas: readonly Area[]): void {
    this.#use(
      this.#windows.flatMap((window) => {
        const left = subtractAreas([window.piece.area], areas);
        if (left.length === 1 && left[0]?.size === window.piece.area.size) return [window];
        return left.map((area) => {
          const skip = area.offset - window.piece.area.offset;
          return windowOn({ ...window.piece, area, byteOffset: window.piece.byteOffset + skip });
        });
      }),
    );
  }

  clear(): void {
    this.#use([]);
  }

  read8(offset: number): number | undefined {
    const window = this.#reads;
    if (offset >= window.start && offset + 1 <= window.end) return window.u8[offset - window.start];
    const found = this.#findRead(offset, 1);
    return found?.u8[offset - found.start];
  }

  read16(offset: number): number | undefined {
    const window = this.#reads;
    if (offset >= window.start && offset + 2 <= window.end && (offset & -2) === offset) return window.u16[(offset - window.start) >>> 1];
    const found = this.#findRead(offset, 2);
    return found?.u16[(offset - found.start) / 2];
  }

  read32(offset: number): number | undefined {
    const window = this.#reads;
    if (offset >= window.start && offset + 4 <= window.end && (offset & -4) === offset) return window.u32[(offset - window.start) >>> 2];
    const found = this.#findRead(offset, 4);
    return found?.u32[(offset - found.start) / 4];
  }

  read64(offset: number): bigint | undefined {
    const window = this.#reads;
    if (offset >= window.start && offset + 8 <= window.end && (offset & -8) === offset) return window.u64[(offset - window.start) >>> 3];
    const found = this.#findRead(offset, 8);
    return found?.u64[(offset - found.start) / 8];
  }

  write8(offset: number, value: number): boolean {
    const window = this.#writes;
    if (offset >= window.start && offset + 1 <= window.end) {
      window.u8[offset - window.start] = value;
      return true;
    }
    const found = this.#findWrite(offset, 1);
    if (found === undefined) return false;
    found.u8[offset - found.start] = value;
    return true;
  }

  write16(offset: number, value: number): boolean {
    const window = this.#writes;
    if (offset >= window.start && offset + 2 <= window.end && (offset & -2) === offset) {
      window.u16[(offset - window.start) >>> 1] = value;
      return true;
    }
    const found = this.#findWrite(offset, 2);
    if (found === undefined) return false;
    found.u16[(offset - found.start) / 2] = value;
    return true;
  }

  write32(offset: number, value: number): boolean {
    const window = this.#writes;
    if (offset >= window.start && offset + 4 <= window.end && (offset & -4) === offset) {
      window.u32[(offset - window.start) >>> 2] = value;
      return true;
    }
    const found = this.#findWrite(offset, 4);
    if (found === undefined) return false;
    found.u32[(offset - found.start) / 4] = value;
    return true;
  }

  write64(offset: number, value: bigint): boolean {
    const window = this.#writes;
    if (offset >= window.start && offset + 8 <= window.end && (offset & -8) === offset) {
      window.u64[(offset - window.start) >>> 3] = value;
      return true;
    }
    const found = this.#findWrite(offset, 8);
    if (found === undefined) return false;
    found.u64[(offset - found.start) / 8] = value;
    return true;
  }

  #use(windows: readonly Window[]): void {
    this.#windows = windows;
    this.#reads = nowhere;
    this.#writes = nowhere;
  }

  #findRead(offset: number, width: number): Window | undefined {
    const window = this.#readable ? this.#find(offset, width) : undefined;
    if (window !== undefined) this.#reads = window;
    return window;
  }

  #findWrite(offset: number, width: number): Window | undefined {
    const window = this.#writable ? this.#find(offset, width) : undefined;
    if (window !== undefined) this.#writes = window;
    return window;
  }

  #find(offset: number, width: number): Window | undefined {
    if (offset % width !== 0) return undefined;
    return this.#windows.find((window) => offset >= window.start && offset + width <= window.end);
  }
}
