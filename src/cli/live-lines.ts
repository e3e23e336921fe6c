import progress, { type SingleBar } from 'cli-progress';
import type { Terminal } from './live-table.js';

/** Lines drawn over the ones before. */
export class LiveLines {
  /** The interrupt is the command's: what it does about it is drawn, too. */
  readonly #bars: InstanceType<typeof progress.MultiBar>;
  readonly #rows: SingleBar[] = [];

  constructor(stream: Terminal) {
    this.#bars = new progress.MultiBar({ stream, hideCursor: true, gracefulExit: false, emptyOnZero: true, format: '{text}' });
  }

  draw(lines: readonly string[]): void {
    for (const [index, text] of lines.entries()) {
      const row = this.#rows[index] ??= this.#bars.create(0, 0, { text });
      row.update(0, { text });
    }
  }

  /** The last ones stay; the cursor is below them. */
  stop(): void {
    if (this.#rows.splice(0).length > 0) this.#bars.stop();
  }
}
