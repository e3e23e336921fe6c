/**
 * The handover from the source's side, as a state machine without time or I/O. Whoever drives it does the acts in their order and
 * tells it what came of them.
 *
 * ```
 * moving --prepared--> deciding --recorded--> decided --confirmed--> moved
 *    |                    |                      |
 *  failed, lost        failed, lost, disk     never-ran
 *    v                    v                      v
 *  kept <------------- undoing               taking-back --recorded--> kept
 * ```
 *
 * The source holds the decision. Before it is on disk and COMMIT is sent, whatever fails ends with the source running (`kept`).
 * After it the source never runs by itself: a lost COMMIT or confirmation is doubt, and only a destination that promises on its
 * own disk that it never ran gives the right to run back.
 */
export type SourcePhase =
  | 'moving'
  /** The decision is being written. */
  | 'deciding'
  /** The same, and the migration has failed meanwhile: COMMIT is not sent whatever the disk says. */
  | 'giving-way'
  /** What may or may not stand on the disk is being overwritten; only then may the source run. */
  | 'undoing'
  /** That failed, too: nobody runs, and the disk has to be seen to first. */
  | 'stuck'
  | 'decided'
  | 'taking-back'
  | 'moved'
  | 'kept';

export type SourceEvent =
  /** Messages of the destination. */
  | 'prepared' | 'confirmed' | 'never-ran'
  /** What became of a record. */
  | 'recorded' | 'not-recorded'
  /** Anything of this side: a device, a deadline, the caller, the destination's abort. */
  | 'failed'
  | 'lost' | 'connected';

/** What stands in the source's journal; each replaces the one before. `begun` stands there before anything is moved. */
export type SourceRecord = 'begun' | 'decided' | 'undone' | 'taken-back' | 'moved';

export type SourceAct =
  | { readonly act: 'record'; readonly record: SourceRecord }
  | { readonly act: 'send'; readonly message: 'commit' | 'abort' }
  /** The devices run again here. */
  | { readonly act: 'run' }
  /** The devices are the destination's: give them back. */
  | { readonly act: 'release' }
  /** Tell the caller that the result is in doubt. */
  | { readonly act: 'doubt' };

export interface SourceStep {
  readonly phase: SourcePhase;
  readonly acts: readonly SourceAct[];
}

const record = (one: SourceRecord): SourceAct => ({ act: 'record', record: one });
const commit: SourceAct = { act: 'send', message: 'commit' };
const abort: SourceAct = { act: 'send', message: 'abort' };
const run: SourceAct = { act: 'run' };
const doubt: SourceAct = { act: 'doubt' };

const to = (phase: SourcePhase, ...acts: readonly SourceAct[]): SourceStep => ({ phase, acts });

const keep = to('kept', abort, run);
const undo = to('undoing', record('undone'));
const inDoubt = to('decided', doubt);

/** An event that is not named changes nothing. */
const table: Readonly<Record<SourcePhase, Partial<Readonly<Record<SourceEvent, SourceStep>>>>> = {
  moving: { prepared: to('deciding', record('decided')), failed: keep, lost: keep, 'never-ran': keep },
  deciding: { recorded: to('decided', commit), 'not-recorded': undo, failed: to('giving-way'), lost: to('giving-way'), 'never-ran': to('giving-way') },
  'giving-way': { recorded: undo, 'not-recorded': undo, failed: to('giving-way', doubt) },
  undoing: { recorded: keep, 'not-recorded': to('stuck', doubt), failed: to('undoing', doubt) },
  stuck: { connected: undo },
  decided: {
    confirmed: to('moved', { act: 'release' }),
    'never-ran': to('taking-back', record('taken-back')),
    failed: inDoubt, lost: inDoubt,
    connected: to('decided', commit),
  },
  'taking-back': { recorded: to('kept', run), 'not-recorded': inDoubt, failed: to('taking-back', doubt) },
  moved: { connected: to('moved', commit) },
  kept: { connected: to('kept', abort), prepared: to('kept', abort) },
};

export function sourceStep(phase: SourcePhase, event: SourceEvent): SourceStep {
  return table[phase][event] ?? { phase, acts: [] };
}

/** Where a source that died stands: what is not known to be decided is not. Its devices died with it. */
export function sourceAfterRestart(last: SourceRecord): SourcePhase {
  return last === 'decided' || last === 'moved' ? last : 'kept';
}
