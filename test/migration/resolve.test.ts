import { describe, expect, it } from 'vitest';
import { VfioError } from '../../src/errors.js';
import { memoryJournal, type JournalEntry } from '../../src/migration/journal.js';
import { resolve } from '../../src/migration/resolve.js';
import { memoryTransport } from '../../src/transport/memory-transport.js';
import { nothingUnhandled } from '../support/unhandled.js';
import { virtualClock } from '../support/virtual-clock.js';
import { watchedWire } from './watched-wire.js';

nothingUnhandled();

const at = { devices: ['d'], migration: 'm' } as const;
type Record<Side> = Extract<JournalEntry, { readonly side: Side }>['record'];

function journalOf(entry?: JournalEntry) {
  const journal = memoryJournal();
  if (entry !== undefined) journal.write(entry).subscribe({ error: (error: unknown) => { throw error; } });
  return journal;
}

/** Both sides started again, from what stands in their journals. */
function met(source: Record<'source'> | undefined, destination: Record<'destination'> | undefined, other = 'm') {
  const clock = virtualClock();
  const { connecting, listening } = memoryTransport({ latencyMs: 1 });
  const [from, to] = [watchedWire(connecting, {}), watchedWire(listening, {})];
  const journals = { source: source && journalOf({ ...at, side: 'source', record: source }), destination: destination && journalOf({ ...at, migration: other, side: 'destination', record: destination }) };
  const said: { source: string[]; destination: string[] } = { source: [], destination: [] };
  const note = (side: 'source' | 'destination') => ({ next: (one: string) => said[side].push(one), error: (error: unknown) => said[side].push(VfioError.is(error) ? error.code : String(error)) });
  const controller = new AbortController();
  const common = { clock, deadlineMs: 500, signal: controller.signal };
  const all = [
    ...(journals.destination === undefined ? [] : [resolve({ journal: journals.destination, transport: to, ...common }).subscribe(note('destination'))]),
    ...(journals.source === undefined ? [] : [resolve({ journal: journals.source, transport: from, ...common }).subscribe(note('source'))]),
  ];
  const records = () => [journals.source, journals.destination].map((journal) => journal?.entries.map(({ record }) => record));
  return { clock, said, records, open: () => from.connections.open + to.connections.open, controller, all, listening: to };
}

describe('resolve, on both sides', () => {
  it.each([
    ['begun', 'begun', 'not-moved', ['begun'], ['begun', 'discarded']],
    ['begun', 'prepared', 'not-moved', ['begun'], ['prepared', 'discarded']],
    ['decided', 'prepared', 'not-moved', ['decided', 'taken-back'], ['prepared', 'discarded']],
    ['decided', 'running', 'moved', ['decided', 'moved'], ['running']],
    ['decided', 'discarded', 'not-moved', ['decided', 'taken-back'], ['discarded']],
    ['moved', 'running', 'moved', ['moved'], ['running']],
    ['undone', 'prepared', 'not-moved', ['undone'], ['prepared', 'discarded']],
    ['taken-back', 'discarded', 'not-moved', ['taken-back'], ['discarded']],
  ] as const)('from %s and %s: %s', (source, destination, answer, fromRecords, toRecords) => {
    const { clock, said, records, open } = met(source, destination);
    clock.flush();
    expect(said).toEqual({ source: [answer], destination: [answer] });
    expect(records()).toEqual([fromRecords, toRecords]);
    expect(open()).toBe(0);
  });

  it('about another migration says nothing to it, and leaves both journals as they are', () => {
    const { clock, said, records, open } = met('decided', 'prepared', 'another');
    clock.flush();
    expect(said.destination).toEqual(['VFIO_E_INCOMPATIBLE']);
    expect(said.source).toEqual(['VFIO_E_IN_DOUBT']);
    expect(records()).toEqual([['decided'], ['prepared']]);
    expect(open()).toBe(0);
  });

  it('with nobody who says anything has its time, can be aborted, and leaves no connection', () => {
    for (const how of ['waits', 'aborted', 'unsubscribed'] as const) {
      const { clock, said, records, open, controller, all, listening } = met('decided', undefined);
      listening.open(clock).subscribe({ error: (error: unknown) => { throw error; } });
      clock.advanceMs(100);
      expect([said.source, open()]).toEqual([[], 2]);
      if (how === 'aborted') controller.abort();
      if (how === 'unsubscribed') for (const one of all) one.unsubscribe();
      clock.flush();
      expect([how, said.source, records()[0]]).toEqual([how, how === 'waits' ? ['VFIO_E_DEADLINE'] : how === 'aborted' ? ['VFIO_E_ABORTED'] : [], ['decided']]);
      // The other end is nobody's here.
      expect(open()).toBe(1);
    }
  });

  it('has nothing to end where no journal was written', () => {
    const said: string[] = [];
    resolve({ journal: journalOf(), transport: memoryTransport().connecting, clock: virtualClock() }).subscribe({ error: (error: unknown) => said.push(VfioError.is(error) ? error.code : String(error)) });
    expect(said).toEqual(['VFIO_E_JOURNAL']);
  });
});
