import { lastValueFrom } from 'rxjs';
import { memoryJournal, memoryTransport, migrate, receive } from 'vfio-rx';
import { recordLanes, renderDiagram } from 'vfio-rx/testing';
import { open } from './devices.js';

// Three devices go through every state together; the picture shows that none is ahead.
const sources = await open('vf', 3, 5);
const destinations = await open('to', 3, 5);
const { connecting, listening } = memoryTransport();
using recording = recordLanes();

const received = lastValueFrom(receive({ devices: destinations.map((destination, n) => ({ name: `vf${n}`, destination })), transport: listening, journal: memoryJournal() }));
const moved = await lastValueFrom(migrate({ devices: sources.map((source, n) => ({ source, destination: `vf${n}` })), transport: connecting, journal: memoryJournal() }));
await received;
console.log(renderDiagram(recording.events, { lanes: ['state'], width: 160 }));
if (moved.phase === 'moved') console.log(`moved: nothing ran for ${(Number(moved.downtimeNs) / 1e6).toFixed(0)} ms`);
await Promise.all([...sources, ...destinations].map((device) => device.close()));
