import { ackKind, addsBits } from '../rows.js';
import { declaredRegions, pageRegions, type Schedule } from '../schedule.js';
import { field, isTrace, pageOf, type TraceLine } from '../history.js';
import type { Judge } from './verdict.js';

interface Signal {
  /** The page's sum with this signal in it: the ack that covers it by value brings the acked sum here or beyond. */
  readonly sum: bigint;
  /** The user has read the eventfd since: a bare ack from then on is for it, too. */
  read: boolean;
  readonly notAsked: Set<number>;
}

/** What is known of one registration of one page. */
interface PageBook {
  signals: Signal[];
  sent: bigint;
  acked: bigint;
  /** Layouts that changed and were not signalled so far. */
  changed: Set<number>;
}

const emptyBook = (): PageBook => ({ signals: [], sent: 0n, acked: 0n, changed: new Set() });

/** What an add is about: bits say it, a doorbell rings for all; and a driver that cannot add bits means what it has changed. */
function meant(entry: TraceLine<'signal'>, { device, misbehaviour }: Schedule, changed: ReadonlySet<number>): Set<number> {
  const page = pageOf(entry);
  const declared = declaredRegions(device).filter((region) => Math.floor(region / pageRegions) === page);
  if (!addsBits(device.row)) return new Set(declared);
  const bits = BigInt(entry.fields['add'] ?? '0');
  const byChange = misbehaviour.what === 'add one';
  return new Set(declared.filter((region) => (byChange && changed.has(region)) || ((bits >> BigInt(region % pageRegions)) & 1n) === 1n));
}

/**
 * P3. For every signal there is a later re-query of its region before the ack that covers it, whatever the interleaving
 * of signal, read, echo and coalescing.
 *
 * Signals and acks are the driver's; a query counts when the driver has answered it: one that failed says nothing. Which
 * signals an ack covers: by value its sum says it; a bare one is for all that had been added when the user last read. Where
 * nothing is acked, all that was signalled must have been asked when it is quiet.
 */
export const requeryBeforeAck: Judge = (history, schedule) => {
  const kind = ackKind(schedule.device.row);
  const complaints: string[] = [];
  let tested = 0;
  const books = new Map<number, PageBook>();
  const bookOf = (page: number): PageBook => {
    const known = books.get(page) ?? emptyBook();
    books.set(page, known);
    return known;
  };
  const judge = (covered: readonly Signal[], when: string): void => {
    for (const { sum, notAsked } of covered) {
      tested += 1;
      if (notAsked.size > 0) complaints.push(`signal ${sum} was ${when}, and region ${[...notAsked].join(', ')} not asked since`);
    }
  };
  for (const entry of history) {
    if (isTrace(entry, 'register') || isTrace(entry, 'unregister')) {
      books.set(pageOf(entry), emptyBook());
    } else if (isTrace(entry, 'layout')) {
      bookOf(Math.floor(field(entry, 'region') / pageRegions)).changed.add(field(entry, 'region'));
    } else if (isTrace(entry, 'signal')) {
      const book = bookOf(pageOf(entry));
      book.sent += BigInt(entry.fields['add'] ?? '0');
      book.signals.push({ sum: book.sent, read: false, notAsked: meant(entry, schedule, book.changed) });
      book.changed = new Set();
    } else if (entry.what === 'query answered') {
      for (const { signals } of books.values()) for (const { notAsked } of signals) notAsked.delete(entry.region);
    } else if (entry.what === 'irq read') {
      for (const signal of bookOf(entry.page).signals) signal.read = true;
    } else if (isTrace(entry, 'ack')) {
      const book = bookOf(pageOf(entry));
      if (kind === 'value') book.acked += BigInt(entry.fields['value'] ?? '0');
      const isCovered = ({ sum, read }: Signal): boolean => (kind === 'value' ? sum <= book.acked : read);
      judge(book.signals.filter(isCovered), `acked at ${entry.atNs} ns`);
      book.signals = book.signals.filter((signal) => !isCovered(signal));
    } else if (entry.what === 'quiet' && kind === 'none') {
      for (const book of books.values()) judge(book.signals.splice(0), `sent before all was quiet at ${entry.atNs} ns`);
    }
  }
  return { complaints, tested };
};

/**
 * P4. Acks never exceed batches that read a signal or found a change; no echo that changed nothing is acked, so acks are
 * finite. `value`: acked never exceeds read.
 *
 * Reads are counted where the user reads the eventfd, acks where they arrive at the driver. (That acks are finite shows in
 * that every run comes to rest.)
 */
export const acksAreEarned: Judge = (history, { device: { row } }) => {
  const kind = ackKind(row);
  const complaints: string[] = [];
  let tested = 0;
  const pages = new Map<number, { reads: number; readSum: bigint; acks: number; ackedSum: bigint; earned: number }>();
  const bookOf = (page: number) => {
    const known = pages.get(page) ?? { reads: 0, readSum: 0n, acks: 0, ackedSum: 0n, earned: 0 };
    pages.set(page, known);
    return known;
  };
  for (const entry of history) {
    if (isTrace(entry, 'register')) {
      pages.delete(pageOf(entry));
    } else if (entry.what === 'irq read') {
      const book = bookOf(entry.page);
      book.reads += 1;
      book.readSum += entry.count;
    } else if (entry.what === 'batch applied') {
      if (entry.earns) bookOf(entry.page).earned += 1;
    } else if (isTrace(entry, 'ack')) {
      tested += 1;
      const book = bookOf(pageOf(entry));
      book.acks += 1;
      if (kind === 'none') complaints.push(`an ack at ${entry.atNs} ns, where none is heard`);
      if (book.acks > book.reads) complaints.push(`ack ${book.acks} at ${entry.atNs} ns, after ${book.reads} reads`);
      if (book.acks > book.earned) complaints.push(`ack ${book.acks} at ${entry.atNs} ns, and only ${book.earned} batches had earned one`);
      if (kind !== 'value') continue;
      book.ackedSum += BigInt(entry.fields['value'] ?? '0');
      if (book.ackedSum > book.readSum) complaints.push(`acked ${book.ackedSum} of ${book.readSum} that were read, at ${entry.atNs} ns`);
    } else if (entry.what === 'at rest') {
      complaints.push(...entry.violations.filter(({ kind: what }) => what === 'ack-not-sent').map(({ value }) => `the driver never sent ${value}`));
    }
  }
  return { complaints, tested: tested + (kind === 'none' ? 1 : 0) };
};
