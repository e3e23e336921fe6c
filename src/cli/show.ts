import { tap, type MonoTypeOperatorFunction } from 'rxjs';
import type { InDoubt, MigrationEvent, Moved } from '../migration/plan.js';
import { formatNs } from '../testing/drawing/drawing.js';
import { LiveTable, type Terminal } from './live-table.js';
import { headline } from './words.js';

/** Where a command says what goes on. */
export interface Screen {
  readonly write: (text: string) => void;
  readonly json: boolean;
  /** Where a table can be drawn over the one before. */
  readonly terminal?: Terminal | undefined;
  /** Where it takes colours, and nobody has asked for none (NO_COLOR). */
  readonly color?: boolean;
}

/** One event as one line of JSON: 64-bit numbers as numbers where they fit, else as text. */
export function jsonLine(value: object): string {
  return `${JSON.stringify(value, (_, one: unknown) => (typeof one === 'bigint' ? (one <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(one) : one.toString()) : one instanceof Error ? { name: one.name, message: one.message, ...('code' in one ? { code: one.code } : {}) } : one))}\n`;
}

/** Says something beside the events: as JSON, or in words. */
export function say({ write, json }: Screen, value: object, text: string): void {
  write(json ? jsonLine(value) : `${text}\n`);
}

/** Says what happened, and how long after the begin. */
export function sayAt(screen: Screen, ns: bigint, did: string): void {
  say(screen, { ns, did }, `${formatNs(Number(ns)).padStart(10)}  ${did}`);
}

/** Shows each event that passes: a line of JSON, a live table, or on what is no terminal a line for each phase. */
export function shown({ write, json, terminal }: Screen): MonoTypeOperatorFunction<MigrationEvent> {
  if (json) return tap((event) => write(jsonLine(event)));
  if (terminal !== undefined) {
    const table = new LiveTable(terminal);
    // Before whatever is written next; an unsubscription is an end, too.
    const stop = () => table.stop();
    return tap({
      next: (event) => {
        table.draw(event);
        if (isLast(event)) stop();
      },
      error: stop,
      finalize: stop,
    });
  }
  let phase = '';
  return tap((event) => {
    if (event.phase !== phase) write(`${headline(event)}\n`);
    ({ phase } = event);
  });
}

export function isLast(event: MigrationEvent): event is Moved | InDoubt {
  return event.phase === 'moved' || event.phase === 'in-doubt';
}
