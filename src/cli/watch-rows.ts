import { formatNs } from '../testing/drawing/drawing.js';
import { columns } from './columns.js';
import type { Seen } from './watched.js';
import { hex } from './pci-words.js';
import { size } from './words.js';

/** How it ended with a device. */
export type End =
  | { readonly kind: 'closed'; readonly state: string | undefined; readonly because: 'interrupt' | 'asked' | 'gone' }
  | { readonly kind: 'failed'; readonly error: unknown };

/** A device at one instant, as a row of the table has it. */
export interface Row {
  readonly name: string;
  readonly state: string;
  readonly irqs: bigint;
  readonly remaps: number;
  readonly acked: number;
  readonly mapped: string;
  readonly errors: bigint;
  /** What it did last. */
  readonly last: string;
}

export function emptyRow(name: string): Row {
  return { name, state: '-', irqs: 0n, remaps: 0, acked: 0, mapped: '-', errors: 0n, last: 'is being opened' };
}

/** The row after something was seen. */
export function rowAfter(row: Row, seen: Seen | End): Row {
  const last = inWords(seen);
  switch (seen.kind) {
    case 'state':
      return { ...row, state: seen.going === undefined ? seen.state : `${seen.state} > ${seen.going}`, last };
    case 'irq':
      return { ...row, irqs: row.irqs + seen.count, last };
    case 'remap':
      return { ...row, remaps: row.remaps + 1, acked: row.acked + (seen.acked ? 1 : 0), last };
    case 'regions':
      return { ...row, mapped: `${seen.areas}, ${size(seen.bytes)}` };
    case 'health':
      return { ...row, errors: seen.errors };
    default:
      return { ...row, last };
  }
}

export function tableOf(rows: readonly Row[]): readonly string[] {
  return columns([
    ['DEVICE', 'STATE', 'IRQS', 'REMAPS', 'ACKED', 'AREAS', 'ERRORS', 'LAST'],
    ...rows.map(({ name, state, irqs, remaps, acked, mapped, errors, last }) => [name, state, `${irqs}`, `${remaps}`, `${acked}`, mapped, `${errors}`, last]),
  ]).trimEnd().split('\n');
}

export function inWords(seen: Seen | End): string {
  switch (seen.kind) {
    case 'state':
      return seen.going === undefined ? `state: ${seen.state}` : `state: ${seen.state}, ${seen.going} is being written`;
    case 'irq':
      return `irq: ${seen.irq}, vector ${seen.vector}${seen.count === 1n ? '' : `, ${seen.count} times`}`;
    case 'remap':
      return `remap: batch ${seen.batch} (${seen.because}) served in ${formatNs(Number(seen.servedNs))}${seen.acked ? ', acked' : ''}${seen.notMapped > 0 ? `, ${seen.notMapped} areas not mapped` : ''}`;
    case 'map':
    case 'unmap':
      return `${seen.kind}: region ${seen.region} ${hex(seen.area.offset)}+${hex(seen.area.size)}`;
    case 'regions':
      return `regions: ${seen.areas} areas, ${size(seen.bytes)}, may be mapped`;
    case 'health':
      return `health: ${seen.errors} errors, ${seen.releaseRequests} requests to give it back${seen.stuck.length === 0 ? '' : `, stuck: ${seen.stuck.join(', ')}`}`;
    case 'warning':
      return `warning: ${seen.what}${seen.error === undefined ? '' : `: ${reason(seen.error)}`}`;
    case 'closed':
      return `${seen.state === undefined ? 'closed before it was open' : `closed in state ${seen.state}`}${{ interrupt: '', asked: ', because the kernel asked for it', gone: ', because it ended' }[seen.because]}; nothing of it is held`;
    case 'failed':
      return `failed: ${reason(seen.error)}`;
  }
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
