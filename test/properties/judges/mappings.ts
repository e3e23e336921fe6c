import type { Area } from '../../../src/devices/port.js';
import { intersectAreas, subtractAreas } from '../../../src/devices/protocol/areas.js';
import { field, isTrace, Mapped, printed, type AreasOf, type Entry, type History } from '../history.js';
import type { Judge, Verdict } from './verdict.js';

type Quiet = Extract<Entry, { readonly what: 'quiet' }>;

function mappingsEqualLayoutAt(history: History, which: (entry: Quiet) => boolean): Verdict {
  const mapped = new Mapped();
  const complaints: string[] = [];
  let tested = 0;
  for (const entry of history) {
    mapped.follow(entry);
    if (entry.what !== 'quiet' || !which(entry)) continue;
    tested += 1;
    for (const [region, offered] of entry.layout) {
      const reported = entry.reported.filter(({ index }) => index === region).map(({ area }) => area);
      const tooMuch = subtractAreas(mapped.of(region), offered);
      const tooLittle = subtractAreas(subtractAreas(offered, reported), mapped.of(region));
      if (tooMuch.length > 0) complaints.push(`quiet at ${entry.atNs} ns, region ${region}: ${printed(tooMuch)} is mapped and not offered`);
      if (tooLittle.length > 0) complaints.push(`quiet at ${entry.atNs} ns, region ${region}: ${printed(tooLittle)} is offered, not mapped, and nobody said so`);
    }
  }
  return { complaints, tested };
}

/**
 * P1. When all is quiet, the user's mappings equal the layout of the state the device is in, less the areas whose mmap
 * failed and was reported.
 *
 * What is mapped is what the driver saw mapped and unmapped; the layout is the driver's own; reported is what the user
 * found in the latest batch. Quiet is when nothing is under way and the driver has back what it sent.
 */
export const mappingsEqualLayout: Judge = (history) => mappingsEqualLayoutAt(history, () => true);

/** What is left of P1 where a driver does not say that a layout has changed: the next batch that looks at everything finds it. */
export const mappingsEqualLayoutAnew: Judge = (history) => mappingsEqualLayoutAt(history, ({ anew }) => anew);

/**
 * P5. When device_state returns 0 after a revocation, no revoked area is mapped; none is mapped or touched until a newer
 * layout offers it.
 *
 * Revoked is what the driver offered as the write reached it and the target state lacks. A touch is a store through a
 * mapping that is gone: the driver finds it in its own memory. Guests store into all that they have been handed, at every
 * act, until they let go.
 */
export const revokedIsGone: Judge = (history) => {
  const complaints: string[] = [];
  let tested = 0;
  const mapped = new Mapped();
  let revoking: AreasOf = new Map();
  /** Gone, and not offered again so far. */
  const gone = new Map<number, readonly Area[]>();
  for (const entry of history) {
    mapped.follow(entry);
    if (entry.what === 'write begins') {
      revoking = entry.revokes;
    } else if (isTrace(entry, 'layout')) {
      gone.delete(field(entry, 'region'));
    } else if (isTrace(entry, 'state') && field(entry, 'ret') === 0) {
      for (const [region, areas] of revoking) {
        if (areas.length === 0) continue;
        tested += 1;
        gone.set(region, areas);
        const left = intersectAreas(mapped.of(region), areas);
        if (left.length > 0) complaints.push(`device_state returned 0 at ${entry.atNs} ns, and ${printed(left)} of region ${region} is still mapped`);
      }
    } else if (isTrace(entry, 'mmap')) {
      const region = field(entry, 'region');
      const back = intersectAreas([{ offset: field(entry, 'offset'), size: field(entry, 'size') }], gone.get(region) ?? []);
      if (back.length > 0) complaints.push(`${printed(back)} of region ${region} was mapped at ${entry.atNs} ns, and no layout offers it`);
    } else if (entry.what === 'at rest') {
      complaints.push(...entry.violations.filter(({ kind }) => kind !== 'ack-not-sent').map(({ kind, region, atNs }) => `the driver saw: ${kind}, region ${region ?? '?'}, at ${atNs} ns`));
    }
  }
  return { complaints, tested };
};

/**
 * What is left of P5 where a driver goes on although the user has not had its time: when `transition` says that it is done,
 * the batch after the write has looked at everything, and what was revoked is gone.
 */
export const revokedIsGoneWhenDone: Judge = (history) => {
  const complaints: string[] = [];
  let tested = 0;
  const mapped = new Mapped();
  let revoking: AreasOf = new Map();
  let writer: number | undefined;
  let returned = false;
  for (const entry of history) {
    mapped.follow(entry);
    // Whose pipeline has ended meanwhile is told so by its error, and nobody looks for it.
    if (entry.what === 'closing' || entry.what === 'pipeline ended') writer = undefined;
    if (entry.what === 'write begins') {
      revoking = entry.revokes;
      writer = entry.id;
      returned = false;
    } else if (isTrace(entry, 'state')) {
      returned = field(entry, 'ret') === 0;
    } else if (entry.what === 'transition answered' && entry.code === 'done' && returned && entry.id === writer) {
      for (const [region, areas] of revoking) {
        if (areas.length === 0) continue;
        tested += 1;
        const left = subtractAreas(intersectAreas(mapped.of(region), areas), entry.layout.get(region) ?? []);
        if (left.length > 0) complaints.push(`transition ${entry.id} was done at ${entry.atNs} ns, and ${printed(left)} of region ${region} is still mapped`);
      }
    } else if (entry.what === 'at rest') {
      complaints.push(...entry.violations.filter(({ kind }) => kind === 'stale-write').map(({ region, atNs }) => `the driver saw: stale-write, region ${region ?? '?'}, at ${atNs} ns`));
    }
  }
  return { complaints, tested };
};
