import type { Mapping } from '../port.js';
import type { Area } from '../uapi/region-info.js';
import type { RegionMemory } from './region-memory.js';

/**
 * A region of u64 slots. A guest delivers by putting `guest << 32 | seq` into any slot, and the device takes it: the slot is
 * 0 again. Numbers run from 1 for each guest, so the device can say of every one whether it came once, twice or never, and
 * whether by a mapping or by a trapped access.
 */

export const mailboxGuests = 4;
const slotBytes = 8;

/** What came from one guest. */
export interface GuestStats {
  /** Different numbers. */
  readonly received: number;
  readonly duplicates: number;
  readonly highest: number;
  readonly byMap: number;
  readonly byTrap: number;
  /** Numbers from 1 to `highest` that never came. */
  readonly missing: number;
}

export interface MailboxStats {
  /** One for each guest, 0 to 3. */
  readonly guests: readonly GuestStats[];
  /** Writes through mappings that were gone. */
  readonly stale: number;
}

class Guest {
  #seen = new Set<number>();
  /** Every number up to this one has come: a long run keeps no set of all its numbers. */
  #complete = 0;
  #received = 0;
  #duplicates = 0;
  #highest = 0;
  #byMap = 0;
  #byTrap = 0;

  deliver(seq: number, way: 'map' | 'trap'): void {
    if (way === 'map') this.#byMap += 1;
    else this.#byTrap += 1;
    if (seq <= this.#complete || this.#seen.has(seq)) {
      this.#duplicates += 1;
      return;
    }
    this.#received += 1;
    this.#highest = Math.max(this.#highest, seq);
    this.#seen.add(seq);
    while (this.#seen.delete(this.#complete + 1)) this.#complete += 1;
  }

  get stats(): GuestStats {
    return {
      received: this.#received,
      duplicates: this.#duplicates,
      highest: this.#highest,
      byMap: this.#byMap,
      byTrap: this.#byTrap,
      missing: this.#highest - this.#received,
    };
  }
}

/** True for a word that is a delivery: guest 0 to 3, number from 1. */
export function isDelivery(word: bigint): boolean {
  return word >> 32n < BigInt(mailboxGuests) && (word & 0xffff_ffffn) !== 0n;
}

export class Mailbox {
  readonly #memory: RegionMemory;
  readonly #guests = Array.from({ length: mailboxGuests }, () => new Guest());

  constructor(memory: RegionMemory) {
    this.#memory = memory;
  }

  /** Looks through mapped memory. */
  scan(): void {
    this.#memory.takeMappedWords(isDelivery, (word) => this.#deliver(word, 'map'));
  }

  /** A trapped write was made: slots that it covers whole are looked at. Half a number is not a delivery yet. */
  written(offset: number, bytes: number): void {
    const first = Math.ceil(offset / slotBytes) * slotBytes;
    for (let at = first; at + slotBytes <= offset + bytes; at += slotBytes) {
      const word = new DataView(this.#memory.read(at, slotBytes).buffer).getBigUint64(0, true);
      if (!isDelivery(word)) continue;
      this.#memory.write(at, new Uint8Array(slotBytes));
      this.#deliver(word, 'trap');
    }
  }

  /** Unmaps, and takes what rested in the slots: it came by the mapping. */
  unmap(mapping: Mapping, area: Area): readonly Area[] {
    return this.#memory.unmap(mapping, area, (word) => {
      if (!isDelivery(word)) return word;
      this.#deliver(word, 'map');
      return 0n;
    });
  }

  get guests(): readonly GuestStats[] {
    return this.#guests.map((guest) => guest.stats);
  }

  #deliver(word: bigint, way: 'map' | 'trap'): void {
    this.#guests[Number(word >> 32n)]?.deliver(Number(word & 0xffff_ffffn), way);
  }
}
