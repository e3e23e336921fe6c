import type { Area } from '../../src/devices/port.js';
import { normalizeAreas, subtractAreas } from '../../src/devices/protocol/areas.js';
import type { SoftwareVendorDriver, Violation } from '../../src/devices/software/driver-face.js';
import type { TraceEvent, TraceWord } from '../../src/devices/software/trace.js';

/** Areas by region. */
export type AreasOf = ReadonlyMap<number, readonly Area[]>;

/** What was seen beside the driver's trace: calls on the wire between port and driver, and what reached the user. */
export type Seen =
  | { readonly what: 'query answered'; readonly region: number }
  | { readonly what: 'irq read'; readonly page: number; readonly count: bigint }
  /**
   * A write of device_state reaches the driver. `id`: the transition that it is for; `revokes`: what is offered now and is not in the target state's group;
   * `needsIrq`: some of it; `enters`: the saving group; `complete`: every remap irq is registered; `irqs`: how many eventfds are.
   */
  | { readonly what: 'write begins'; readonly id: number | undefined; readonly revokes: AreasOf; readonly needsIrq: boolean; readonly enters: boolean; readonly complete: boolean; readonly irqs: number }
  | { readonly what: 'write returns' }
  | { readonly what: 'transition asked'; readonly id: number; readonly deadlineMs: number }
  /** `code`: 'done', or that of the error. `written`: the driver has been asked. `layout`: at this moment. */
  | { readonly what: 'transition answered'; readonly id: number; readonly code: string; readonly written: boolean; readonly layout: AreasOf }
  | { readonly what: 'transition detached'; readonly id: number }
  /** The mappings follow the layouts; next it is acked. `earns`: it has read a signal or found a change. */
  | { readonly what: 'batch applied'; readonly page: number; readonly candidates: readonly number[]; readonly earns: boolean }
  | { readonly what: 'batch done'; readonly acked: boolean }
  | { readonly what: 'pipeline ended'; readonly code: string; readonly irqs: number; readonly waiters: number }
  /** Nothing is under way. `reported`: what the latest batches could not map; `anew`: everything has been looked at since all came to rest. */
  | { readonly what: 'quiet'; readonly layout: AreasOf; readonly reported: readonly Unmapped[]; readonly anew: boolean }
  /** `boundMs`: what slow guests and arcs may take; `timeoutMs`: what a driver may take that keeps the write. */
  | { readonly what: 'closing'; readonly blocked: number; readonly stillBlocked: number; readonly boundMs: number; readonly timeoutMs: number }
  | { readonly what: 'removed' }
  | { readonly what: 'released' }
  | { readonly what: 'at rest'; readonly held: Held; readonly violations: readonly Violation[] };

/** An area whose mmap failed. */
export interface Unmapped {
  readonly index: number;
  readonly area: Area;
}

/** What must all be 0 when nobody has the device open. */
export interface Held {
  readonly opens: number;
  readonly vmas: number;
  readonly irqs: number;
  readonly waiters: number;
}

export type Entry = { readonly atNs: bigint } & (TraceLine | Seen);

/** One run, in the order in which things happened. */
export type History = readonly Entry[];

/** The driver's trace and everything else in one order. */
export class Log {
  readonly #driver: SoftwareVendorDriver;
  readonly #now: () => bigint;
  readonly #entries: Entry[] = [];
  #seq = 0;

  constructor(driver: SoftwareVendorDriver, now: () => bigint) {
    this.#driver = driver;
    this.#now = now;
  }

  add(seen: Seen): void {
    this.#takeTrace();
    this.#entries.push({ atNs: this.#now(), ...seen });
  }

  get history(): History {
    this.#takeTrace();
    return this.#entries;
  }

  #takeTrace(): void {
    const { trace } = this.#driver;
    const fresh = trace.slice(this.#seq);
    if (fresh[0] !== undefined && fresh[0].seq !== this.#seq + 1) throw new Error('the trace is too small for this run');
    this.#seq += fresh.length;
    for (const event of fresh) this.#entries.push({ what: 'driver', ...event });
  }
}

/** A line of the driver's trace. */
export type TraceLine<W extends TraceWord = TraceWord> = TraceEvent & { readonly what: 'driver'; readonly event: W };

export function isTrace<W extends TraceWord>(entry: Entry, word: W): entry is TraceLine<W> {
  return entry.what === 'driver' && entry.event === word;
}

/** The number in a field of a trace line. */
export function field(entry: TraceLine, name: string): number {
  return Number(entry.fields[name]);
}

/** A line of page 0 does not say so. */
export function pageOf(entry: TraceLine): number {
  return Number(entry.fields['page'] ?? '0');
}

/** What is mapped, as the driver sees it: fed with a history's entries one by one. */
export class Mapped {
  readonly #areas = new Map<number, readonly Area[]>();

  follow(entry: Entry): void {
    if (entry.what !== 'driver' || (entry.event !== 'mmap' && entry.event !== 'munmap')) return;
    const region = field(entry, 'region');
    const area = { offset: field(entry, 'offset'), size: field(entry, 'size') };
    const before = this.of(region);
    this.#areas.set(region, entry.event === 'mmap' ? normalizeAreas([...before, area]) : subtractAreas(before, [area]));
  }

  of(region: number): readonly Area[] {
    return this.#areas.get(region) ?? [];
  }
}

export function printed(areas: readonly Area[]): string {
  return areas.length === 0 ? 'nothing' : areas.map(({ offset, size }) => `0x${offset.toString(16)}+0x${size.toString(16)}`).join(' ');
}
