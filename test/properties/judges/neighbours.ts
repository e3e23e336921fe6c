import { field, isTrace, pageOf, type TraceLine } from '../history.js';
import { ackKind, hasIrq } from '../rows.js';
import { pageRegions } from '../schedule.js';
import type { Judge } from './verdict.js';

const EPERM = -1;
const ENODEV = -19;
const ECANCELED = -125;

/**
 * P7. An old driver (no capability) and an old user (irq never enabled, enabled late, disabled while saving, disabled during
 * a wait) behave as the protocol says; migration is refused with the cause named.
 *
 * A driver with an irq refuses the saving group while that is not registered (EPERM; ENODEV in rfc-v4), and the caller is told
 * VFIO_E_REFUSED, never that the device is gone. It refuses for no other reason, signals to nobody, and a disable ends its
 * wait at once. A driver without one refuses nothing and signals nothing.
 */
export const oldOnesWork: Judge = (history, { device: { row } }) => {
  const withIrq = hasIrq(row);
  const refusal = row.remap !== false && row.remap.profile === 'rfc-v4' ? ENODEV : EPERM;
  const complaints: string[] = [];
  let tested = 0;
  const registered = new Set<number>();
  /** Pages that wait; and those whose irq was disabled meanwhile. */
  const waiting = new Set<number>();
  const disabled = new Map<number, bigint>();
  let write: { readonly enters: boolean; readonly needsIrq: boolean; readonly complete: boolean } | undefined;
  let refused = false;
  let removed = false;

  /** The write returns: whether it was refused for want of an irq. */
  const refusedBy = (entry: TraceLine<'state'>): boolean => {
    const ret = field(entry, 'ret');
    if (write === undefined) return false;
    const shouldRefuse = withIrq && !write.complete && (write.enters || write.needsIrq);
    if (write.enters && !write.complete) tested += 1;
    if (!withIrq) tested += 1;
    if (shouldRefuse && ret !== refusal) complaints.push(`an irq was missing, and the write of device_state at ${entry.atNs} ns returned ${ret}`);
    if (!withIrq && (ret === EPERM || ret === ENODEV)) complaints.push(`refused at ${entry.atNs} ns with ${ret}, and there is no irq to register`);
    return withIrq && ret === refusal;
  };

  for (const entry of history) {
    if (isTrace(entry, 'register') && entry.fields['role'] === 'trigger') registered.add(pageOf(entry));
    if (isTrace(entry, 'unregister') && entry.fields['role'] === 'trigger') {
      registered.delete(pageOf(entry));
      if (waiting.has(pageOf(entry))) disabled.set(pageOf(entry), entry.atNs);
    }
    if (isTrace(entry, 'signal') && !registered.has(pageOf(entry))) complaints.push(`signalled to nobody at ${entry.atNs} ns`);
    if (isTrace(entry, 'wait')) waiting.add(pageOf(entry));
    if (isTrace(entry, 'release')) {
      waiting.delete(pageOf(entry));
      const since = disabled.get(pageOf(entry));
      if (since !== undefined) {
        tested += 1;
        if (field(entry, 'ret') !== ECANCELED || entry.atNs !== since) complaints.push(`disabled during a wait at ${since} ns, and the wait ended at ${entry.atNs} ns with ${field(entry, 'ret')}`);
      }
      disabled.delete(pageOf(entry));
    }
    if (entry.what === 'pipeline ended' && entry.waiters > 0) complaints.push(`the irq was disabled at ${entry.atNs} ns, and a write still waits for its ack`);
    if (entry.what === 'removed') removed = true;
    if (entry.what === 'write begins') {
      write = entry;
      refused = false;
    }
    if (isTrace(entry, 'state')) refused = refusedBy(entry);
    if (entry.what === 'transition answered' && entry.written && !removed) {
      if (refused && !['VFIO_E_REFUSED', 'VFIO_E_DEADLINE', 'VFIO_E_CLOSED'].includes(entry.code)) complaints.push(`the driver refused for want of the irq, and transition ${entry.id} failed with ${entry.code}`);
      if (!refused && entry.code === 'VFIO_E_REFUSED') complaints.push(`transition ${entry.id} failed with VFIO_E_REFUSED, and no driver has refused`);
    }
  }
  return { complaints, tested };
};

/** What is left of P7 where a driver does not hear a disable: a write that needs the irq fails all the same, in the driver's own time. */
export const missingIrqIsNeverSuccess: Judge = (history, { device: { row } }) => {
  const complaints: string[] = [];
  let tested = 0;
  let missing = false;
  for (const entry of history) {
    if (entry.what === 'write begins') missing = hasIrq(row) && entry.enters && entry.irqs === 0;
    if (!isTrace(entry, 'state') || !missing) continue;
    tested += 1;
    if (field(entry, 'ret') === 0) complaints.push(`nobody had an irq, and the write of device_state at ${entry.atNs} ns returned 0`);
  }
  return { complaints, tested };
};

/**
 * P8. 64 and more regions: pages are independent.
 *
 * A batch is about the regions of its page; what is acked on a page was read on that page; and a wait that ends with success
 * has its own page's acks up to its target, whatever happens on others.
 */
export const pagesAreIndependent: Judge = (history, { device: { row }, misbehaviour }) => {
  const byValue = ackKind(row) === 'value';
  const complaints: string[] = [];
  let tested = 0;
  const books = new Map<number, { read: bigint; acked: bigint; sent: bigint; target: bigint | undefined }>();
  const bookOf = (page: number) => {
    const known = books.get(page) ?? { read: 0n, acked: 0n, sent: 0n, target: undefined };
    books.set(page, known);
    return known;
  };
  for (const entry of history) {
    if (entry.what === 'irq read') bookOf(entry.page).read += entry.count;
    if (entry.what === 'batch applied') {
      const strangers = entry.candidates.filter((region) => Math.floor(region / pageRegions) !== entry.page);
      if (strangers.length > 0 && hasIrq(row)) complaints.push(`a batch of page ${entry.page} at ${entry.atNs} ns was about region ${strangers.join(', ')}`);
    }
    if (isTrace(entry, 'register')) books.delete(pageOf(entry));
    if (isTrace(entry, 'signal')) {
      bookOf(pageOf(entry)).sent += BigInt(entry.fields['add'] ?? '0');
      if (pageOf(entry) > 0) tested += 1;
    }
    if (!byValue) continue;
    if (isTrace(entry, 'ack')) {
      const book = bookOf(pageOf(entry));
      book.acked += BigInt(entry.fields['value'] ?? '0');
      if (book.acked > book.read) complaints.push(`page ${pageOf(entry)} has ${book.acked} acked at ${entry.atNs} ns, of ${book.read} that were read there`);
    }
    if (isTrace(entry, 'wait')) bookOf(pageOf(entry)).target = BigInt(entry.fields['target'] ?? '0');
    // A driver that takes any ack ends its waits by no sum, of whichever page.
    if (isTrace(entry, 'release') && field(entry, 'ret') === 0 && misbehaviour.what !== 'take any ack') {
      const { acked, target } = bookOf(pageOf(entry));
      if (target !== undefined && target >= 0n && acked < target) complaints.push(`a wait of page ${pageOf(entry)} for ${target} ended at ${entry.atNs} ns with ${acked} acked there`);
    }
  }
  return { complaints, tested };
};
