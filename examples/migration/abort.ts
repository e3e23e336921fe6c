import { catchError, lastValueFrom, of, Subject, tap } from 'rxjs';
import { memoryJournal, memoryTransport, migrate, receive, VfioError } from 'vfio-rx';
import { open } from './devices.js';

// Given up in the middle: the events go on until the source runs again, and then the error says why.
const [source] = await open('vf', 1);
const [destination] = await open('to', 1);
if (source === undefined || destination === undefined) throw new Error('no devices');
const { connecting, listening } = memoryTransport();
const abort = new Subject<void>();
const code = catchError((error: unknown) => of(VfioError.is(error) ? error.code : 'unknown'));

const received = lastValueFrom(receive({ devices: [{ name: 'vf0', destination }], transport: listening, journal: memoryJournal() }).pipe(code));
const ended = await lastValueFrom(
  migrate({ devices: [{ source, destination: 'vf0' }], transport: connecting, journal: memoryJournal(), abort }).pipe(
    tap(({ phase, devices }) => {
      console.log(phase, devices.map(({ state }) => state).join());
      if (phase === 'transfer') abort.next();
    }),
    code,
  ),
);
console.log(`source: ${String(ended)}, and it is ${source.currentState.state}; destination: ${String(await received)}`);
await Promise.all([source.close(), destination.close()]);
