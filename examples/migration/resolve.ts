import { lastValueFrom, tap } from 'rxjs';
import { memoryJournal, memoryTransport, migrate, receive, resolve } from 'vfio-rx';
import { open } from './devices.js';

// The connection is lost when the source has just decided: nobody runs, and both say so. A new connection ends it.
const [source] = await open('vf', 1);
const [destination] = await open('to', 1);
if (source === undefined || destination === undefined) throw new Error('no devices');
const wire = memoryTransport({ latencyMs: 5 });
const journal = memoryJournal();

const received = lastValueFrom(receive({ devices: [{ name: 'vf0', destination }], transport: wire.listening, journal: memoryJournal() }));
const events = migrate({ devices: [{ source, destination: 'vf0' }], transport: wire.connecting, journal });
// COMMIT is on its way, and does not arrive.
const cut = tap(({ phase }: { readonly phase: string }) => {
  if (phase === 'commit') setTimeout(() => { wire.cut(); }, 1);
});
const decided = lastValueFrom(events.pipe(cut));
const [atSource, atDestination] = await Promise.all([decided, received]);
console.log(`${atSource.phase} at both: the source's device is in ${source.currentState.state}, the destination's in ${destination.currentState.state}`);
if (atDestination.phase !== 'in-doubt') throw new Error('the cut came too late');

// As if the source's process had died: a new one has only the journal, and that says "decided".
const asked = lastValueFrom(atDestination.resolve(wire.listening));
console.log(`source, started again: ${await lastValueFrom(resolve({ journal, transport: wire.connecting }))}`);
console.log(`destination: ${await asked}, its device is in ${destination.currentState.state}`);
await Promise.all([source.close(), destination.close()]);
