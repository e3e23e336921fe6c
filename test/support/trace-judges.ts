import type { TraceLine } from './mdev.js';

/**
 * Promises of the protocol, judged by the kernel driver's own trace and nothing else: what the user says of itself is no
 * evidence here. (`test/properties/judges` has the same promises over both sides' histories, in virtual time.)
 */

/** What is to be known of a device to read its trace. */
export interface TraceRow {
  /** Regions that may be signalled. */
  readonly declared: readonly number[];
  /** Whether an add names regions; a doorbell rings for all. */
  readonly bits: boolean;
  readonly ack: 'value' | 'bare' | 'none';
  /** What the saving group takes away, by region. */
  readonly revoked: ReadonlyMap<number, Range>;
}

export interface Range {
  readonly offset: number;
  readonly size: number;
}

export interface TraceVerdict {
  readonly complaints: readonly string[];
  /** How often the trace put the promise to the test. */
  readonly tested: number;
}

const pageRegions = 64;
const ETIMEDOUT = -110;
const ECANCELED = -125;

const number = (line: TraceLine, key: string): number => Number(line.fields[key]);
const hex = (value: number): string => `0x${value.toString(16)}`;
const text = (line: TraceLine): string => `${line.seq} ${line.event} ${Object.entries(line.fields).map(([key, value]) => `${key}=${value}`).join(' ')}`;

/**
 * P2: every wait has its end: acked, cancelled, or, where `mayTimeOut`, at the driver's timeout.
 * A wait for several pages is one release.
 */
export function waitsEnd(trace: readonly TraceLine[], mayTimeOut: boolean): TraceVerdict {
  const complaints: string[] = [];
  let waiting: TraceLine | undefined;
  let tested = 0;
  for (const line of trace) {
    if (line.event === 'wait') waiting ??= line;
    if (line.event !== 'release') continue;
    tested += 1;
    waiting = undefined;
    const ret = number(line, 'ret');
    if (ret === ETIMEDOUT ? !mayTimeOut : ret !== 0 && ret !== ECANCELED) complaints.push(`a wait ended with ${ret}: ${text(line)}`);
  }
  if (waiting !== undefined) complaints.push(`never released: ${text(waiting)}`);
  return { complaints, tested };
}

interface Signal {
  readonly line: TraceLine;
  readonly sum: bigint;
  /** The first of the registration is 1. */
  readonly nth: number;
  readonly notAsked: Set<number>;
}

/** P3: between a signal and the ack that covers it each of its regions is asked; where nobody acks, a signal from before the last write of device_state is to be asked by the end. */
export function askedBeforeAck(trace: readonly TraceLine[], { declared, bits, ack }: TraceRow): TraceVerdict {
  const complaints: string[] = [];
  let tested = 0;
  const pages = new Map<number, { signals: Signal[]; count: number; sent: bigint; acked: bigint }>();
  const pageOf = (line: TraceLine) => {
    const page = number(line, 'page');
    const known = pages.get(page) ?? { signals: [], count: 0, sent: 0n, acked: 0n };
    pages.set(page, known);
    return known;
  };
  const judge = (signals: readonly Signal[], when: string): void => {
    for (const { line, notAsked } of signals) {
      tested += 1;
      if (notAsked.size > 0) complaints.push(`region ${[...notAsked].join(', ')} was not asked between ${text(line)} and ${when}`);
    }
  };
  for (const line of trace) {
    const { event } = line;
    if ((event === 'register' || event === 'unregister') && line.fields['page'] !== undefined) pages.delete(number(line, 'page'));
    if (event === 'signal') {
      const page = pageOf(line);
      const add = BigInt(line.fields['add'] ?? '0');
      page.sent += add;
      page.count += 1;
      const ofPage = declared.filter((region) => Math.floor(region / pageRegions) === number(line, 'page'));
      page.signals.push({ line, sum: page.sent, nth: page.count, notAsked: new Set(ofPage.filter((region) => !bits || ((add >> BigInt(region % pageRegions)) & 1n) === 1n)) });
    }
    if (event === 'query' && line.fields['ret'] === undefined) {
      for (const { signals } of pages.values()) for (const { notAsked } of signals) notAsked.delete(number(line, 'region'));
    }
    if (event === 'ack') {
      const page = pageOf(line);
      // A bare ack says nothing; it is for whatever had been read. One that comes before the read is for older signals, and which those are the driver cannot know.
      if (ack === 'bare' && line.fields['read'] === '0') continue;
      page.acked += BigInt(line.fields['value'] ?? '0');
      const covered = page.signals.filter(({ nth, sum }) => (ack === 'bare' ? nth <= number(line, 'adds') : sum <= page.acked));
      judge(covered, text(line));
      page.signals = page.signals.filter((signal) => !covered.includes(signal));
    }
  }
  const written = trace.findLast(({ event }) => event === 'state')?.seq ?? -1;
  if (ack === 'none') for (const { signals } of pages.values()) judge(signals.filter(({ line }) => line.seq < written), 'the end');
  return { complaints, tested };
}

/** Which ranges of what is revoked in the saving group are mapped. */
class Mapped {
  readonly #ranges = new Map<number, Range[]>();

  follow(line: TraceLine): void {
    if (line.event !== 'mmap' && line.event !== 'munmap') return;
    const region = number(line, 'region');
    const one = { offset: number(line, 'offset'), size: number(line, 'size') };
    const others = this.#ranges.get(region) ?? [];
    if (line.event === 'mmap') this.#ranges.set(region, [...others, one]);
    else this.#ranges.set(region, others.flatMap((range) => without(range, one)));
  }

  of(region: number, { offset, size }: Range): readonly Range[] {
    return (this.#ranges.get(region) ?? []).filter((range) => range.offset < offset + size && offset < range.offset + range.size);
  }
}

function without(range: Range, gone: Range): Range[] {
  const end = range.offset + range.size;
  const goneEnd = gone.offset + gone.size;
  if (goneEnd <= range.offset || end <= gone.offset) return [range];
  return [
    { offset: range.offset, size: gone.offset - range.offset },
    { offset: goneEnd, size: end - goneEnd },
  ].filter(({ size }) => size > 0);
}

const saving = new Set(['PRE_COPY', 'PRE_COPY_P2P', 'STOP_COPY']);

/** P5: when a write of device_state into the saving group returns 0, nothing that the group lacks is mapped, nor is it until a newer layout offers it. */
export function revokedIsUnmapped(trace: readonly TraceLine[], { revoked }: TraceRow): TraceVerdict {
  const complaints: string[] = [];
  let tested = 0;
  let inside = false;
  /** Regions whose layout is still the one of the saving group. */
  const gone = new Set<number>();
  const mapped = new Mapped();
  const judge = (line: TraceLine): void => {
    for (const region of gone) {
      const range = revoked.get(region);
      const left = range === undefined ? [] : mapped.of(region, range);
      if (left.length > 0) complaints.push(`region ${region} is mapped at ${left.map(({ offset, size }) => `${hex(offset)}+${hex(size)}`).join(', ')} after ${text(line)}`);
    }
  };
  for (const line of trace) {
    mapped.follow(line);
    if (line.event === 'violation') complaints.push(`the driver saw a violation: ${text(line)}`);
    if (line.event === 'layout') gone.delete(number(line, 'region'));
    if (line.event === 'reset') inside = false;
    if (line.event === 'state') {
      // A failed write may have gone some of its arcs: the layout follows, and only a later success is judged.
      const reached = line.fields['ret'] === '0' && saving.has(line.fields['to'] ?? '');
      if (reached && !inside) {
        tested += 1;
        for (const region of revoked.keys()) gone.add(region);
        judge(line);
      }
      inside = reached;
    }
    if (line.event === 'mmap') judge(line);
  }
  return { complaints, tested };
}

/** Which ranges are mapped at the end, of those that the saving group lacks. */
export function revokedAndMapped(trace: readonly TraceLine[], { revoked }: TraceRow): readonly string[] {
  const mapped = new Mapped();
  for (const line of trace) mapped.follow(line);
  return [...revoked].flatMap(([region, range]) => mapped.of(region, range).map(({ offset, size }) => `${hex(offset)}+${hex(size)} of region ${region}`));
}

/** The trace is whole: it began with the device and nothing has fallen out of the driver's buffer. */
export function isWhole(trace: readonly TraceLine[]): boolean {
  return trace.every(({ seq }, index) => seq === (trace[0]?.seq ?? 0) + index) && trace[0]?.event === 'open';
}
