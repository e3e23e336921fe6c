import { lastValueFrom, map, scan, tap, type OperatorFunction } from 'rxjs';
import { memoryJournal, memoryTransport, migrate, receive, type RoundReport, type RoundVerdict } from 'vfio-rx';
import { open } from './devices.js';

/** Switches over when a round has brought nothing more: a policy is any operator from reports to verdicts. */
const untilNothingNew: OperatorFunction<RoundReport, RoundVerdict> = (rounds$) =>
  rounds$.pipe(
    scan((before, { sentBytes }) => ({ sentBytes, isNew: sentBytes > before.sentBytes }), { sentBytes: 0n, isNew: true }),
    map(({ isNew }): RoundVerdict => (isNew ? 'again' : 'switch-over')),
    tap((verdict) => console.log(`policy: ${verdict}`)),
  );

const sources = await open('vf', 2);
const destinations = await open('to', 2);
const { connecting, listening } = memoryTransport();

const received = lastValueFrom(receive({ devices: destinations.map((destination, n) => ({ name: `vf${n}`, destination })), transport: listening, journal: memoryJournal() }));
const { phase } = await lastValueFrom(migrate({ devices: sources.map((source, n) => ({ source, destination: `vf${n}` })), transport: connecting, journal: memoryJournal(), policy: untilNothingNew }));
await received;
console.log(phase);
await Promise.all([...sources, ...destinations].map((device) => device.close()));
