/**
 * What a reactor costs while nothing is signalled: CPU time over some seconds with many irqs armed, in percent of one CPU.
 * Started by run.ts; prints one line of JSON.
 *
 *   idle.ts FDS SECONDS
 */
import { setTimeout } from 'node:timers/promises';
import { Eventfd } from '../src/devices/linux/eventfd.js';
import { sharedReactor } from '../src/devices/linux/reactor.js';

const [fds = '1024', seconds = '5'] = process.argv.slice(2);
const settleMs = 1000;

const armed = Array.from({ length: Number(fds) }, () => {
  const eventfd = new Eventfd();
  const slot = sharedReactor().add(eventfd.fd);
  slot.arm(() => {
    throw new Error('nobody signals here');
  });
  return slot;
});
await setTimeout(settleMs);
const before = process.cpuUsage();
const wakesBefore = sharedReactor().counters.wakes;
await setTimeout(Number(seconds) * 1000);
const { user, system } = process.cpuUsage(before);
const wakes = sharedReactor().counters.wakes - wakesBefore;
for (const slot of armed) slot.close();
console.log(JSON.stringify({ cpuPercent: ((user + system) / (Number(seconds) * 1e6)) * 100, wakes }));
