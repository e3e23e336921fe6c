import type { RemapPage } from './negotiation.js';

/**
 * Which regions a count that was read may be about. Sound: it may name a region that did not change, never miss one that did.
 */

/**
 * Why there is a batch. `signal`: a count was read. The others are about every declared region: a count that was saturated,
 * or so nearly full that an ack did not fit; the first batch of a registration; the one after a deadline has passed; the one
 * after a write of device_state has returned.
 */
export type BatchReason = 'signal' | 'saturated' | 'registered' | 'after-deadline' | 'after-transition';

/** What of a page the decoding needs. */
export type Decoding = Pick<RemapPage, 'page' | 'declared' | 'signals'>;

/** Regions on one page. */
const regionsPerPage = 64;

/** What a region's bit adds to a count in form `bitmap`. */
function weightOf(region: number, page: number): bigint {
  return 1n << BigInt(region - page * regionsPerPage);
}

/**
 * The regions that must be looked at. In form `bitmap` a region is named when its bit fits into the raw count: counts add,
 * they do not OR, so two signals of bit 0 read as bit 1, and nothing smaller than the count can be ruled out.
 *
 * @param count what was read, raw, and not yet acked
 */
export function namedRegions({ signals, page, declared }: Decoding, because: BatchReason, count: bigint): ReadonlySet<number> {
  if (signals === 'doorbell' || because !== 'signal') return declared;
  return new Set([...declared].filter((region) => weightOf(region, page) <= count));
}

/**
 * True where something that was not declared was added for certain. A single undeclared bit proves nothing, since sums of
 * declared ones carry into it; but every such sum is a multiple of the lowest declared bit.
 */
export function undeclaredForCertain({ signals, page, declared }: Decoding, because: BatchReason, count: bigint): boolean {
  if (signals !== 'bitmap' || because !== 'signal') return false;
  if (declared.size === 0) return count > 0n;
  return count % weightOf(Math.min(...declared), page) !== 0n;
}
