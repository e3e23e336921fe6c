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

/**
 * The mapped way into a region: a few windows, of which the one used last is tried first.
 * Each method answers undefined (or false) where the offset is not mapped or not aligned; the trapped way then judges it.
 * Revocation takes the window away before the memory goes: on one thread nobody can be in between.
 */
export class FastPath {
  #windows: readonly Window[] = [];
  #last: Window | undefined;
  #readable = true;
  #writable = true;

  replace(pieces: readonly MappedPiece[], rights: { readonly readable: boolean; readonly writable: boolean }): void {
    this.#windows = pieces.map(windowOn);
    this.#last = undefined;
    this.#readable = rights.readable;
    this.#writable = rights.writable;
  }

  remove(areas: readonly Area[]): void {
    this.#windows = this.#windows.flatMap((window) => {
      const left = subtractAreas([window.piece.area], areas);
      if (left.length === 1 && left[0]?.size === window.piece.area.size) return [window];
      return left.map((area) => {
        const skip = area.offset - window.piece.area.offset;
        return windowOn({ ...window.piece, area, byteOffset: window.piece.byteOffset + skip });
      });
    });
    this.#last = undefined;
  }

  clear(): void {
    this.#windows = [];
    this.#last = undefined;
  }

  read8(offset: number): number | undefined {
    const window = this.#readable ? this.#find(offset, 1) : undefined;
    return window?.u8[offset - window.start];
  }

  read16(offset: number): number | undefined {
    const window = this.#readable ? this.#find(offset, 2) : undefined;
    return window?.u16[(offset - window.start) / 2];
  }

  read32(offset: number): number | undefined {
    const window = this.#readable ? this.#find(offset, 4) : undefined;
    return window?.u32[(offset - window.start) / 4];
  }

  read64(offset: number): bigint | undefined {
    const window = this.#readable ? this.#find(offset, 8) : undefined;
    return window?.u64[(offset - window.start) / 8];
  }

  write8(offset: number, value: number): boolean {
    const window = this.#writable ? this.#find(offset, 1) : undefined;
    if (window === undefined) return false;
    window.u8[offset - window.start] = value;
    return true;
  }

  write16(offset: number, value: number): boolean {
    const window = this.#writable ? this.#find(offset, 2) : undefined;
    if (window === undefined) return false;
    window.u16[(offset - window.start) / 2] = value;
    return true;
  }

  write32(offset: number, value: number): boolean {
    const window = this.#writable ? this.#find(offset, 4) : undefined;
    if (window === undefined) return false;
    window.u32[(offset - window.start) / 4] = value;
    return true;
  }

  write64(offset: number, value: bigint): boolean {
    const window = this.#writable ? this.#find(offset, 8) : undefined;
    if (window === undefined) return false;
    window.u64[(offset - window.start) / 8] = value;
    return true;
  }

  #find(offset: number, width: number): Window | undefined {
    if (offset % width !== 0) return undefined;
    const last = this.#last;
    if (last !== undefined && offset >= last.start && offset + width <= last.end) return last;
    for (const window of this.#windows) {
      if (offset >= window.start && offset + width <= window.end) {
        this.#last = window;
        return window;
      }
    }
    return undefined;
  }
}
