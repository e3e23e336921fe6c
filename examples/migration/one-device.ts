import { lastValueFrom, tap } from 'rxjs';
import { memoryJournal, memoryTransport, migrate, receive } from 'vfio-rx';
import { open, textOf } from './devices.js';

// One device, in one process. Between two: connectTo('tcp://...'), listenAt('tcp://...') and fileJournal('...') in their places.
const [source] = await open('vf', 1);
const [destination] = await open('to', 1);
if (source === undefined || destination === undefined) throw new Error('no devices');
const { connecting, listening } = memoryTransport();

const received = lastValueFrom(receive({ devices: [{ name: 'vf0', destination }], transport: listening, journal: memoryJournal() }));
const moved = await lastValueFrom(
  migrate({ devices: [{ source, destination: 'vf0' }], transport: connecting, journal: memoryJournal() }).pipe(tap(({ phase, devices }) => console.log(phase, devices.map(({ state }) => state).join()))),
);
await received;
console.log(`${moved.phase}: "${await textOf(destination)}" ${destination.currentState.state} at the destination, the source is in ${source.currentState.state}`);
await Promise.all([source.close(), destination.close()]);
