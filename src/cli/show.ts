import type { DeviceProgress, MigrationEvent } from '../migration/plan.js';

/** Where a command says what goes on. */
export interface Screen {
  readonly write: (text: string) => void;
  readonly json: boolean;
  /** A terminal, where a table is drawn over the one before. */
  readonly terminal: boolean;
}

const barWidth = 24;

/** One event as one line of JSON: 64-bit numbers as numbers where they fit, else as text. */
export function jsonLine(value: object): string {
  return `${JSON.stringify(value, (_, one: unknown) => (typeof one === 'bigint' ? (one <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(one) : one.toString()) : one instanceof Error ? { name: one.name, message: one.message, ...('code' in one ? { code: one.code } : {}) } : one))}\n`;
}

/** Shows each event: a line of JSON, or a live table. */
export function shower(screen: Screen): (event: MigrationEvent) => void {
  let drawn = 0;
  let phase = '';
  return (event) => {
    if (screen.json) {
      screen.write(jsonLine(event));
      return;
    }
    const lines = table(event);
    if (screen.terminal) {
      screen.write(`${drawn === 0 ? '' : `\u001b[${drawn}A`}${lines.map((line) => `${line}\u001b[K\n`).join('')}`);
      drawn = lines.length;
    } else if (event.phase !== phase) screen.write(`${lines[0] ?? ''}\n`);
    ({ phase } = event);
  };
}

/** The table of one event: what goes on, then a row for each device. */
export function table(event: MigrationEvent): readonly string[] {
  return [headline(event), ...event.devices.map(row)];
}

function headline(event: MigrationEvent): string {
  if (event.phase === 'moved') return `moved: nothing ran for ${(Number(event.downtimeNs) / 1e6).toFixed(1)} ms`;
  if (event.phase === 'in-doubt') return `in doubt, the ${event.decision} holds the decision: ${event.because.message}`;
  if (event.round === undefined) return event.phase;
  const { round, rate, expectedDowntimeMs } = event.round;
  return `${event.phase}, round ${round}: ${size(rate)}/s, about ${expectedDowntimeMs.toFixed(1)} ms to go when stopped`;
}

function row({ device, state, bytes, remaining }: DeviceProgress): string {
  const all = bytes + remaining;
  const done = all === 0n ? 0 : Number((bytes * BigInt(barWidth)) / all);
  return `  ${device.padEnd(16)} ${state.padEnd(12)} [${'#'.repeat(done).padEnd(barWidth)}] ${size(Number(bytes))}${remaining > 0n ? `, ${size(Number(remaining))} left` : ''}`;
}

function size(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.max(0, Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10)));
  return `${(bytes / 2 ** (10 * power)).toFixed(power === 0 ? 0 : 1)} ${units[power] ?? 'B'}`;
}
