import progress, { type SingleBar } from 'cli-progress';
import type { MigrationEvent } from '../migration/plan.js';
import { headline, size } from './words.js';

/** What a terminal is to a table. */
export type Terminal = NodeJS.WritableStream & { readonly isTTY?: boolean };

/** What goes on, and a row with a bar for each device, drawn over the one before. */
export class LiveTable {
  /** The interrupt is the migration's: what it does about it is drawn, too. */
  readonly #bars: InstanceType<typeof progress.MultiBar>;
  readonly #rows: SingleBar[] = [];

  constructor(stream: Terminal) {
    this.#bars = new progress.MultiBar({ stream, hideCursor: true, gracefulExit: false, barsize: 24, emptyOnZero: true });
  }

  draw(event: MigrationEvent): void {
    const rows = [
      { done: 0, all: 0, payload: { text: `${headline(event)}${flow(event)}` }, format: '{text}' },
      ...event.devices.map(({ device, state, bytes, remaining }) => ({
        done: Number(bytes),
        all: Number(bytes + remaining),
        payload: { device: device.padEnd(16), state: state.padEnd(12), text: `${size(Number(bytes))}${remaining > 0n ? `, ${size(Number(remaining))} left` : ''}` },
        format: '  {device} {state} [{bar}] {text}',
      })),
    ];
    for (const [index, { done, all, payload, format }] of rows.entries()) {
      const row = (this.#rows[index] ??= this.#bars.create(all, done, payload, { format }));
      row.setTotal(all);
      row.update(done, payload);
    }
  }

  /** The last state stays; the cursor is below it. */
  stop(): void {
    if (this.#rows.splice(0).length > 0) this.#bars.stop();
  }
}

/** How fast, where no round says it. */
function flow(event: MigrationEvent): string {
  return 'rate' in event && event.rate > 0 && event.round === undefined ? `, ${size(event.rate)}/s` : '';
}
