import type { Observable, OperatorFunction } from 'rxjs';
import type { VfioDevice } from '../devices/device.js';
import type { State } from '../devices/port.js';
import type { RoundReport, RoundVerdict } from './fit-downtime.js';
import type { Transport } from '../transport/transport.js';
import type { VfioError } from '../errors.js';
import type { Journal } from './journal.js';

/** The phases of a migration, on both sides, in this order; `roll-back` in place of whatever would have followed. */
export type Phase = 'check' | 'pre-copy' | 'stop' | 'transfer' | 'prepare' | 'commit' | 'release' | 'roll-back';

/** How long each phase may take, ms. One that takes longer fails with VFIO_E_DEADLINE; after the decision that is doubt. */
export type Deadlines = Readonly<Record<Phase, number>>;

export const defaultDeadlines: Deadlines = { check: 10_000, 'pre-copy': 3_600_000, stop: 10_000, transfer: 60_000, prepare: 30_000, commit: 10_000, release: 10_000, 'roll-back': 20_000 };

/** Which devices move where, and under which limits. The devices stay the caller's: open before, and closed by it after, unless the kernel asks for one. */
export interface MigrationPlan {
  readonly devices: readonly { readonly source: VfioDevice; /** The name that the destination's plan gives it. */ readonly destination: string }[];
  readonly transport: Transport;
  /** Keeps the decision; `fileJournal(path)`. */
  readonly journal: Journal;
  /** What `fitDowntime` goes by, where there is no other policy. Default 300. */
  readonly downtimeLimitMs?: number;
  /** Says after each round of PRE_COPY whether there is another one: one verdict for each report. */
  readonly policy?: OperatorFunction<RoundReport, RoundVerdict>;
  readonly deadlines?: Partial<Deadlines>;
  /** Its first value aborts in order: events until the source runs again, then VFIO_E_ABORTED. Where it fails, that is the reason. Unsubscribing does the same, unseen. */
  readonly abort?: Observable<unknown>;
  /** The same, as a signal. */
  readonly signal?: AbortSignal | undefined;
  /** The devices do no DMA to one another: they may be stopped one after the other, also where they have no P2P states. */
  readonly noPeerToPeer?: boolean;
  /** How long a round waits where no device had anything new, ms. Default 10. */
  readonly roundPauseMs?: number;
  /** Its name in both journals. Default: a random one. */
  readonly migration?: string;
}

/** Which devices may be loaded here. They stay the caller's. */
export interface ReceivePlan {
  readonly devices: readonly { readonly name: string; readonly destination: VfioDevice }[];
  readonly transport: Transport;
  /** Keeps what was promised; `fileJournal(path)`. */
  readonly journal: Journal;
  readonly deadlines?: Partial<Deadlines>;
  /** Its first value gives up: before COMMIT the devices are discarded. Where it fails, that is the reason. Unsubscribing does the same, unseen. */
  readonly abort?: Observable<unknown>;
  /** The same, as a signal. */
  readonly signal?: AbortSignal | undefined;
  /** What all devices together may have in flight, bytes. Default 16 MiB. */
  readonly windowBytes?: number;
}

/** One device, as a progress bar wants it. */
export interface DeviceProgress {
  readonly device: string;
  readonly state: State;
  /** Sent, or received. */
  readonly bytes: bigint;
  /** What the device said was left when it was last asked; it may have more by now. 0 where it was not asked. */
  readonly remaining: bigint;
}

/** Something goes on. */
export interface MigrationProgress {
  readonly phase: Phase;
  readonly atNs: bigint;
  readonly devices: readonly DeviceProgress[];
  /** Bytes a second of all devices, since the first ones; 0 where there are none yet. */
  readonly rate: number;
  /** The end of a round of PRE_COPY. */
  readonly round?: RoundReport;
  /** In `check`, where not all devices can be stopped at once: so many can, the others follow as threads come free. Each blocked call of a kernel device holds one. */
  readonly atOnce?: number;
}

/** The destination runs, the source does not. The last value. */
export interface Moved {
  readonly phase: 'moved';
  readonly atNs: bigint;
  readonly devices: readonly DeviceProgress[];
  /** At the source: from the request to stop until the confirmation that the devices run. At the destination: from the last byte. ns. */
  readonly downtimeNs: bigint;
}

/** What became of a migration that was in doubt. */
export type Resolution = 'moved' | 'not-moved';

/** COMMIT or its confirmation was lost: nobody may go on by itself. The last value. */
export interface InDoubt {
  readonly phase: 'in-doubt';
  readonly atNs: bigint;
  readonly devices: readonly DeviceProgress[];
  /** Who holds the decision. */
  readonly decision: 'source';
  readonly because: VfioError;
  /** Asks over a new connection (the plan's transport, unless another is given), and ends it: the devices run on one side, and which one is the answer. Can be tried again when it fails. */
  readonly resolve: (transport?: Transport) => Observable<Resolution>;
  /**
   * The destination only, which has never run: promises on its disk that it never will, discards the devices, and answers `not-moved`. A source that
   * has decided takes the devices back when it comes and hears of it, from `resolve({ journal, transport })` here. Fails with VFIO_E_IN_DOUBT where
   * devices have run, or the promise could not be written.
   */
  readonly giveUp?: () => Observable<Resolution>;
}

export type MigrationEvent = MigrationProgress | Moved | InDoubt;
