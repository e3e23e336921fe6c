import type { Progress } from './guest.js';
import { TraceLog } from './trace-log.js';

/** What a run leaves behind for its verdict. */
export class RunRecord {
  readonly trace = new TraceLog();
  readonly #failures: string[] = [];
  readonly #progress = new Map<number, Progress>();
  /** The driver's sums while its irq was still enabled. */
  sums: { readonly sent: bigint; readonly acked: bigint } = { sent: 0n, acked: 0n };

  progress(latest: Progress): void {
    this.#progress.set(latest.guest, latest);
  }

  /** The latest of each guest, by number. */
  get latest(): readonly Progress[] {
    return [...this.#progress.values()].sort((a, b) => a.guest - b.guest);
  }

  sentBy(guest: number): number {
    return this.#progress.get(guest)?.sent ?? 0;
  }

  failed(error: unknown): void {
    this.#failures.push(error instanceof Error ? error.message : String(error));
  }

  get failures(): readonly string[] {
    return this.#failures;
  }
}
