import { lastValueFrom, materialize, tap, toArray, type Observable } from 'rxjs';
import type { VfioDevice } from '../../src/devices/device.js';
import { memoryJournal } from '../../src/migration/journal.js';
import { migrate } from '../../src/migration/migrate.js';
import type { Deadlines, MigrationEvent, MigrationPlan, ReceivePlan } from '../../src/migration/plan.js';
import { receive } from '../../src/migration/receive.js';
import { memoryTransport } from '../../src/transport/memory-transport.js';

/** What one side of a migration said, from begin to end. */
export interface Told {
  readonly events: readonly MigrationEvent[];
  /** The phases in their order, each once. */
  readonly phases: readonly string[];
  readonly error: unknown;
  readonly records: readonly string[];
}

/** An emulated processor may take seconds to start a thread. */
export const patientDeadlines: Partial<Deadlines> = { check: 60_000, stop: 60_000, release: 60_000, commit: 60_000, 'roll-back': 60_000 };

export interface BothSidesOptions {
  readonly plan?: Partial<MigrationPlan>;
  readonly receivePlan?: Partial<ReceivePlan>;
  /** Sees each event of the source when it comes. */
  readonly watch?: (event: MigrationEvent) => void;
}

/** Moves devices to others in this process, the first to the first, and answers when both sides are over. */
export async function bothSides(sources: readonly VfioDevice[], destinations: readonly VfioDevice[], options: BothSidesOptions = {}): Promise<{ readonly source: Told; readonly destination: Told }> {
  const transport = memoryTransport();
  const [fromJournal, toJournal] = [memoryJournal(), memoryJournal()];
  const deadlines = patientDeadlines;
  const receiving = told(receive({ devices: destinations.map((destination, n) => ({ name: `d${n}`, destination })), transport: transport.listening, journal: toJournal, deadlines, ...options.receivePlan }));
  const migrating = told(migrate({ devices: sources.map((source, n) => ({ source, destination: `d${n}` })), transport: transport.connecting, journal: fromJournal, deadlines, ...options.plan }).pipe(tap(options.watch)));
  const [source, destination] = await Promise.all([migrating, receiving]);
  return {
    source: { ...source, records: fromJournal.entries.map(({ record }) => record) },
    destination: { ...destination, records: toJournal.entries.map(({ record }) => record) },
  };
}

async function told(run: Observable<MigrationEvent>): Promise<Omit<Told, 'records'>> {
  const all = await lastValueFrom(run.pipe(materialize(), toArray()));
  const events = all.flatMap((one) => (one.kind === 'N' ? [one.value] : []));
  const end = all.at(-1);
  return {
    events,
    phases: events.map(({ phase }) => phase).filter((phase, n, phases) => phase !== phases[n - 1]),
    error: end?.kind === 'E' ? (end.error as unknown) : undefined,
  };
}
