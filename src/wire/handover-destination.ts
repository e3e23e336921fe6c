/**
 * The handover from the destination's side; see `sourceStep`.
 *
 * ```
 * loading --loaded--> preparing --recorded--> prepared --commit--> starting --recorded--> running --ran--> ran
 *    |                    |                     |  |                  |                      |
 *  failed, lost, abort    |                  abort give-up         disk                  run-failed
 *    v                    v                     v  v                  v                      v
 * discarded <-------------+---------------------+  refusing <---------+----------------------+
 *    ^--------------------------------recorded-------'
 * ```
 *
 * Where some run and some cannot (`broken`) it is in doubt, and tries again whenever the source comes (`restarting`).
 *
 * It runs only after COMMIT, and only when its own disk says so. Prepared, it may not throw the state away in silence: it waits,
 * in doubt, or promises on its disk that it will never run (`refusing`), and only then says that it never ran.
 */
export type DestinationPhase =
  | 'loading'
  | 'preparing'
  | 'prepared'
  | 'starting'
  /** The devices are being started. */
  | 'running'
  | 'ran'
  /** Some have started and some could not: nobody else may have them, and each time the source comes it is tried again. */
  | 'broken'
  | 'restarting'
  | 'refusing'
  /** The promise could not be written: neither runs, nor says that it never will. */
  | 'cornered'
  | 'discarded'
  /** The process died with the state: it can only promise not to run. */
  | 'forgotten';

export type DestinationEvent =
  /** All devices are loaded and stopped. */
  | 'loaded'
  /** Messages of the source. */
  | 'commit' | 'abort'
  | 'recorded' | 'not-recorded'
  | 'ran'
  /** Starting failed before any device had left STOP, or after. */
  | 'run-failed' | 'run-broke'
  /** Anything of this side before it is prepared. */
  | 'failed'
  /** The caller wants to wait no longer. */
  | 'give-up'
  | 'lost' | 'connected';

/** What stands in the destination's journal; each replaces the one before. */
export type DestinationRecord = 'begun' | 'prepared' | 'running' | 'discarded';

export type DestinationAct =
  | { readonly act: 'record'; readonly record: DestinationRecord }
  | { readonly act: 'send'; readonly message: 'prepared' | 'confirmed' | 'never-ran' | 'abort' }
  | { readonly act: 'run' }
  | { readonly act: 'discard' }
  | { readonly act: 'doubt' };

export interface DestinationStep {
  readonly phase: DestinationPhase;
  readonly acts: readonly DestinationAct[];
}

const record = (one: DestinationRecord): DestinationAct => ({ act: 'record', record: one });
const send = (message: 'prepared' | 'confirmed' | 'never-ran' | 'abort'): DestinationAct => ({ act: 'send', message });
const discard: DestinationAct = { act: 'discard' };
const doubt: DestinationAct = { act: 'doubt' };

const to = (phase: DestinationPhase, ...acts: readonly DestinationAct[]): DestinationStep => ({ phase, acts });

/** The source cannot have decided yet. */
const dropped = to('discarded', discard);
const fail = to('discarded', discard, send('abort'));
/** Nothing was decided: that it is over is written down for the next migration only. */
const over = to('discarded', record('discarded'), discard, send('never-ran'));
const refuse = to('refusing', record('discarded'));
const neverRan = send('never-ran');

const table: Readonly<Record<DestinationPhase, Partial<Readonly<Record<DestinationEvent, DestinationStep>>>>> = {
  loading: { loaded: to('preparing', record('prepared')), failed: fail, 'give-up': fail, abort: dropped, lost: dropped },
  preparing: { recorded: to('prepared', send('prepared')), 'not-recorded': fail, failed: fail, 'give-up': fail, abort: dropped, lost: dropped },
  prepared: {
    commit: to('starting', record('running')),
    abort: over,
    'give-up': refuse,
    failed: to('prepared', doubt), lost: to('prepared', doubt),
  },
  starting: { recorded: to('running', { act: 'run' }), 'not-recorded': refuse, failed: to('starting', doubt) },
  running: { ran: to('ran', send('confirmed')), 'run-failed': refuse, 'run-broke': to('broken', doubt) },
  ran: { commit: to('ran', send('confirmed')) },
  broken: { connected: to('restarting', { act: 'run' }) },
  restarting: { ran: to('ran', send('confirmed')), 'run-failed': to('broken', doubt), 'run-broke': to('broken', doubt) },
  refusing: { recorded: to('discarded', discard, neverRan), 'not-recorded': to('cornered', doubt), failed: to('refusing', doubt) },
  cornered: { connected: refuse, commit: refuse, 'give-up': refuse },
  discarded: { commit: to('discarded', neverRan), abort: to('discarded', neverRan) },
  forgotten: { commit: refuse, abort: to('discarded', record('discarded'), neverRan) },
};

export function destinationStep(phase: DestinationPhase, event: DestinationEvent): DestinationStep {
  return table[phase][event] ?? { phase, acts: [] };
}

/** Where a destination that died stands: what it had loaded is gone, and what it had begun to run counts as run. */
export function destinationAfterRestart(last: DestinationRecord): DestinationPhase {
  if (last === 'running') return 'ran';
  return last === 'discarded' ? 'discarded' : 'forgotten';
}
