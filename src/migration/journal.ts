import { nowCall } from '../devices/call.js';
import type { Call } from '../devices/port.js';
import type { DestinationRecord } from '../wire/handover-destination.js';
import type { SourceRecord } from '../wire/handover-source.js';

/** What one side of a migration knows for good. Each entry replaces the one before. */
export type JournalEntry = {
  /** The name of the migration, the same on both sides. */
  readonly migration: string;
  readonly devices: readonly string[];
} & ({ readonly side: 'source'; readonly record: SourceRecord } | { readonly side: 'destination'; readonly record: DestinationRecord });

/** Where the decision stands. One migration at a time, one side each. */
export interface Journal {
  readonly name: string;
  /** The last entry; undefined where there is none. Fails with VFIO_E_JOURNAL. */
  read(): Call<JournalEntry | undefined>;
  /** Answers when the entry is there for good. Fails with VFIO_E_JOURNAL; then it may or may not be there. */
  write(entry: JournalEntry): Call<void>;
}

/** A journal that dies with the process: for tests, and for migrations inside one process, where nothing else could outlive it either. */
export function memoryJournal(): Journal & { readonly entries: readonly JournalEntry[] } {
  const entries: JournalEntry[] = [];
  return {
    name: 'memory',
    entries,
    read: () => nowCall(() => entries.at(-1)),
    write: (entry) => nowCall(() => void entries.push(entry)),
  };
}
