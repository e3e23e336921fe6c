import { map, type OperatorFunction } from 'rxjs';

/** What is known at the end of a round of PRE_COPY, of all devices together. */
export interface RoundReport {
  /** From 1. */
  readonly round: number;
  readonly atNs: bigint;
  /** What has to be through before the devices are stopped. */
  readonly initialBytes: bigint;
  /** What there is beside it to be moved now; once the devices are stopped it has to be moved while nobody runs. */
  readonly dirtyBytes: bigint;
  /** Sent since the beginning. */
  readonly sentBytes: bigint;
  /** Bytes a second, over all rounds; 0 where it is not known. */
  readonly rate: number;
  /** How long it would take to move what there is, ms; Infinity where there is something, and the rate is not known. */
  readonly expectedDowntimeMs: number;
}

/** What to do after a round: another one, stop the devices and move the rest, or abort the migration. */
export type RoundVerdict = 'again' | 'switch-over' | 'give-up';

/** What `fitDowntime` goes by. */
export interface FitDowntimeOptions {
  readonly downtimeLimitMs: number;
  /** After so many rounds it gives up. Default 1000. */
  readonly mostRounds?: number;
}

/**
 * The policy of `migrate` unless it is given another: stops the devices when their initial bytes are through and what is left fits
 * the downtime.
 *
 * ```
 * rounds        --a-------b----c--     a: initial bytes left, b: 300 ms left, c: 20 ms left
 * fitDowntime   --<again>-<again><switch-over>     downtimeLimitMs: 100
 * ```
 *
 * - **Emits** one verdict for each report, in the same turn. **Drops** nothing.
 * - **Completes** and **fails** with its source. **Releases** nothing.
 *
 * @example
 * const policy = fitDowntime({ downtimeLimitMs: 100, mostRounds: 20 });
 * @see migrate
 */
export function fitDowntime({ downtimeLimitMs, mostRounds = 1000 }: FitDowntimeOptions): OperatorFunction<RoundReport, RoundVerdict> {
  return map(({ round, initialBytes, expectedDowntimeMs }) => {
    if (initialBytes === 0n && expectedDowntimeMs <= downtimeLimitMs) return 'switch-over';
    return round >= mostRounds ? 'give-up' : 'again';
  });
}
