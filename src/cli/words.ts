import type { MigrationEvent } from '../migration/plan.js';

/** What goes on, in a line. */
export function headline(event: MigrationEvent): string {
  if (event.phase === 'moved') return `moved: nothing ran for ${(Number(event.downtimeNs) / 1e6).toFixed(1)} ms`;
  if (event.phase === 'in-doubt') return `in doubt, the ${event.decision} holds the decision: ${event.because.message}`;
  if (event.atOnce !== undefined) return `${event.phase}: ${event.atOnce} devices are stopped at once, the others follow in groups`;
  if (event.round === undefined) return event.phase;
  const { round, rate, expectedDowntimeMs } = event.round;
  const toGo = Number.isFinite(expectedDowntimeMs) ? `about ${expectedDowntimeMs.toFixed(1)} ms to go when stopped` : 'how long to go when stopped is not known yet';
  return `${event.phase}, round ${round}: ${size(rate)}/s, ${toGo}`;
}

/** A number of bytes in words. */
export function size(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.max(0, Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10)));
  return `${(bytes / 2 ** (10 * power)).toFixed(power === 0 ? 0 : 1)} ${units[power] ?? 'B'}`;
}
