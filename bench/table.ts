import type { Line } from './measurements.js';

/** One line of the table, medians of all runs. */
export interface Result {
  readonly line: Line;
  readonly ours: number;
  /** What ours is divided by; undefined where the figure speaks for itself. */
  readonly beside: number | undefined;
  readonly ratio: number | undefined;
  readonly cpuRatio: number | undefined;
  readonly verdict: string;
}

/** @param value the ratio, or the figure itself where nothing stands beside it */
export function verdictOf({ unit, aim, limit }: Line, value: number): string {
  if (aim === undefined) return '';
  const within = (bound: number): boolean => (unit === 'per second' || unit === 'MiB/s' ? value >= bound : value <= bound);
  if (within(aim)) return 'aim reached';
  if (limit === undefined) return 'beyond the aim';
  return within(limit) ? 'within the limit' : 'BEYOND THE LIMIT';
}

export function shown(value: number, { unit }: Pick<Line, 'unit'>): string {
  switch (unit) {
    case 'us': return `${(value / 1000).toFixed(2)} us`;
    case 'ns': return `${value.toFixed(2)} ns`;
    case 'per second': return `${(value / 1000).toFixed(0)} k/s`;
    case 'MiB/s': case 'MiB': return `${value.toFixed(0)} ${unit}`;
    case '%': return `${value.toFixed(3)} %`;
  }
}

export function wanted({ aim, limit }: Line): string {
  if (aim === undefined) return 'printed only';
  return limit === undefined ? `aim ${aim}` : `aim ${aim}, limit ${limit}`;
}

/** A line for the terminal. */
export function tableLine({ line, ours, beside, ratio, cpuRatio, verdict }: Result): string {
  const base = beside === undefined ? '' : `${line.beside === undefined ? 'C' : 'bare'} ${shown(beside, line)}`;
  const byCpu = cpuRatio === undefined ? '' : ` (by CPU time ${cpuRatio.toFixed(2)})`;
  const divided = ratio === undefined ? '' : `ratio ${ratio.toFixed(2)}${byCpu}`;
  return `${line.name.padEnd(34)} ${base.padEnd(16)} vfio-rx ${shown(ours, line).padStart(10)}   ${divided.padEnd(12)} ${wanted(line)}   ${verdict}`.trimEnd();
}
