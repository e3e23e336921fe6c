import { coversAreas, intersectAreas, normalizeAreas, subtractAreas } from '../protocol/areas.js';
import type { Area } from '../uapi/region-info.js';
import type { Mapping } from '../port.js';

/**
 * A region's bytes, and the mappings of parts of it. A mapping is memory of its own, so that a use of it after unmap shows:
 * while a part is mapped its bytes live in the mapping, at unmap they return here and poison takes their place. A stale
 * read sees poison, and a stale write breaks it.
 *
 * Words move by atomic exchange: a holder in another thread that writes at the very instant of the unmap has written
 * either before it, and the device has the value, or after it, and that is found as a stale write. Nothing is lost between.
 */

/** Every 64-bit word of an unmapped part. Its upper half is no mailbox guest, so it is never taken for a delivery. */
export const poison = 0xdead_dead_dead_deadn;

/** How many unmapped parts are watched for stale writes; the oldest is checked once more, then forgotten. */
const watchedParts = 64;

const wordBytes = 8;

/** A write through a mapping that was gone, or that the device did not decode (on a real one: SIGBUS). */
export interface StaleWrite {
  readonly region: number;
  /** In the region, bytes. */
  readonly offset: number;
  readonly mapped: boolean;
}

class MappedPart implements Mapping {
  readonly region: number;
  readonly area: Area;
  readonly memory: ArrayBufferLike;
  readonly words: BigUint64Array;
  /** The user's: it may be gone when nothing of it is mapped any more, so no poison is looked for then. */
  readonly lent: boolean;
  /** What of it is still mapped. */
  live: readonly Area[];

  constructor(region: number, area: Area, memory: ArrayBufferLike | undefined) {
    this.region = region;
    this.area = area;
    this.lent = memory !== undefined;
    this.memory = memory ?? new SharedArrayBuffer(area.size);
    this.words = new BigUint64Array(this.memory);
    this.live = [area];
  }
}

export class RegionMemory {
  readonly index: number;
  readonly size: number;
  /** Rounded up to whole words; what lies beyond `size` is never shown. */
  readonly #own: ArrayBuffer;
  readonly #mapped = new Set<MappedPart>();
  #reachable = true;
  #poisoned: { readonly part: MappedPart; readonly area: Area }[] = [];
  readonly #onStale: (write: StaleWrite) => void;

  constructor(index: number, size: number, onStale: (write: StaleWrite) => void) {
    this.index = index;
    this.size = size;
    this.#own = new ArrayBuffer(Math.ceil(size / wordBytes) * wordBytes);
    this.#onStale = onStale;
  }

  /** How many vmas a kernel would have: a hole in a mapping makes two of one. */
  get vmas(): number {
    let count = 0;
    for (const part of this.#mapped) count += part.live.length;
    return count;
  }

  /** What is mapped now. */
  get mappedAreas(): readonly Area[] {
    return normalizeAreas([...this.#mapped].flatMap((part) => part.live));
  }

  /** What of `areas` is mapped and not `offered`. */
  mappedOutside(offered: readonly Area[], areas: readonly Area[]): readonly Area[] {
    return subtractAreas(intersectAreas(this.mappedAreas, areas), offered);
  }

  /** False: the device does not decode this memory. What is mapped shows poison meanwhile. */
  set reachable(reachable: boolean) {
    if (reachable === this.#reachable) return;
    const own = new BigUint64Array(this.#own);
    for (const part of this.#mapped) {
      for (const area of part.live) {
        eachWord(part, area, (at, offset) => {
          if (!reachable) own[offset / wordBytes] = Atomics.exchange(part.words, at, poison);
          else if (Atomics.exchange(part.words, at, own[offset / wordBytes] ?? 0n) !== poison) this.#onStale({ region: this.index, offset, mapped: true });
        });
      }
    }
    this.#reachable = reachable;
  }

  /** A page is in one mapping at a time, since each is memory of its own: undefined where some of the area is mapped already. */
  map(area: Area, memory?: ArrayBufferLike): Mapping | undefined {
    if (intersectAreas(this.mappedAreas, [area]).length > 0) return undefined;
    const part = new MappedPart(this.index, area, memory);
    if (this.#reachable) new Uint8Array(part.memory).set(new Uint8Array(this.#own, area.offset, area.size));
    else part.words.fill(poison);
    this.#mapped.add(part);
    return part;
  }

  /** Takes what of the area is still mapped there, and returns it. `homecoming` says what the device keeps of each word. */
  unmap(mapping: Mapping, area: Area, homecoming: (word: bigint) => bigint = (word) => word): readonly Area[] {
    const part = [...this.#mapped].find((candidate) => candidate === mapping);
    if (part === undefined) return [];
    const going = intersectAreas(part.live, [area]);
    part.live = subtractAreas(part.live, going);
    if (part.live.length === 0) this.#mapped.delete(part);
    const own = new BigUint64Array(this.#own);
    for (const gone of going) {
      if (this.#reachable) eachWord(part, gone, (at, offset) => (own[offset / wordBytes] = homecoming(Atomics.exchange(part.words, at, poison))));
      else this.#check(part, gone, true);
      if (!part.lent) this.#poisoned.push({ part, area: gone });
    }
    while (this.#poisoned.length > watchedParts) {
      const oldest = this.#poisoned.shift();
      if (oldest !== undefined) this.#check(oldest.part, oldest.area, false);
    }
    return going;
  }

  /** The mappings that still have something mapped. */
  get mappings(): readonly Mapping[] {
    return [...this.#mapped];
  }

  /** True where all of the area is inside the part of the mapping that is still mapped. */
  isMapped(mapping: Mapping, area: Area): boolean {
    const part = [...this.#mapped].find((candidate) => candidate === mapping);
    return part !== undefined && coversAreas(part.live, [area]);
  }

  /** The device's own look at its memory, through the mappings where there are some. */
  read(offset: number, bytes: number): Uint8Array {
    const answer = new Uint8Array(bytes);
    answer.set(new Uint8Array(this.#own, offset, bytes));
    this.#eachMapped(offset, bytes, (part, area) => {
      answer.set(new Uint8Array(part.memory, area.offset - part.area.offset, area.size), area.offset - offset);
    });
    return answer;
  }

  write(offset: number, bytes: Uint8Array): void {
    new Uint8Array(this.#own, offset, bytes.length).set(bytes);
    this.#eachMapped(offset, bytes.length, (part, area) => {
      new Uint8Array(part.memory, area.offset - part.area.offset, area.size).set(bytes.subarray(area.offset - offset, area.offset - offset + area.size));
    });
  }

  /** Takes every word of mapped memory that `wanted` likes, and leaves 0. */
  takeMappedWords(wanted: (value: bigint) => boolean, take: (value: bigint) => void): void {
    if (!this.#reachable) return;
    for (const part of this.#mapped) {
      for (const area of part.live) {
        const first = (area.offset - part.area.offset) / wordBytes;
        const end = first + area.size / wordBytes;
        for (let at = first; at < end; at += 1) {
          // A plain look first: an atomic one for each of 8,192 words would cost more than all else together.
          const seen = part.words[at] ?? 0n;
          if (seen === 0n || !wanted(seen)) continue;
          if (Atomics.compareExchange(part.words, at, seen, 0n) === seen) take(seen);
        }
      }
    }
  }

  /** Looks at all poison; each broken word is reported once and poisoned again. */
  checkPoison(): void {
    for (const { part, area } of this.#poisoned) this.#check(part, area, false);
    if (this.#reachable) return;
    for (const part of this.#mapped) for (const area of part.live) this.#check(part, area, true);
  }

  #check(part: MappedPart, area: Area, mapped: boolean): void {
    eachWord(part, area, (at, offset) => {
      if (part.words[at] === poison) return;
      Atomics.store(part.words, at, poison);
      this.#onStale({ region: this.index, offset, mapped });
    });
  }

  #eachMapped(offset: number, bytes: number, visit: (part: MappedPart, area: Area) => void): void {
    if (!this.#reachable) return;
    for (const part of this.#mapped) {
      for (const area of intersectAreas(part.live, [{ offset, size: bytes }])) visit(part, area);
    }
  }
}

/** Every word of an area of a part: its place in the part, and its offset in the region. */
function eachWord(part: MappedPart, area: Area, visit: (at: number, offset: number) => void): void {
  for (let offset = area.offset; offset < area.offset + area.size; offset += wordBytes) visit((offset - part.area.offset) / wordBytes, offset);
}
