import type { Area } from 'vfio-rx';

/**
 * The device counts: its region 0 is a mailbox of u64 slots. A guest puts `guest << 32 | number` into a slot that reads 0,
 * the device takes it out. Each guest has slots of its own, so that no two ever write the same one.
 */
export const mailboxRegion = 0;

export interface GuestPlan {
  readonly id: number;
  readonly name: string;
  /** The part of the mailbox that is this guest's, bytes; whole pages. */
  readonly area: Area;
  /** The slots that it writes by a mapping, from the start of its area. */
  readonly slots: number;
  /** The one for trapped writes, as an offset in the region: it is never written by a mapping, so neither undoes the other. */
  readonly trapOffset: number;
}


const half = 0x8000;
const slotBytes = 8;
const slots = 32;

export const loopGuestPlan = guestPlan(0, 'guest on the main loop', 0);
export const workerGuestPlan = guestPlan(1, 'guest in the worker', half);

function guestPlan(id: number, name: string, offset: number): GuestPlan {
  return { id, name, area: { offset, size: half }, slots, trapOffset: offset + half - slotBytes };
}

/** The offsets of a guest's slots in the region. */
export function slotOffsets({ area, slots: count }: GuestPlan): readonly number[] {
  return Array.from({ length: count }, (_, slot) => area.offset + slot * slotBytes);
}

/** What a guest writes. */
export function numberWord(guest: number, number: number): bigint {
  return (BigInt(guest) << 32n) | BigInt(number);
}

/** As the bus has it. */
export function wordBytes(word: bigint): Uint8Array {
  const bytes = new Uint8Array(slotBytes);
  new DataView(bytes.buffer).setBigUint64(0, word, true);
  return bytes;
}
