/** Ends by itself: after the delivery nothing is armed, although a slot and its eventfd stay open. */
import { Eventfd } from '../../../../src/devices/linux/eventfd.js';
import { sharedReactor } from '../../../../src/devices/linux/reactor.js';

const eventfd = new Eventfd();
const slot = sharedReactor().add(eventfd.fd);
slot.arm((count) => {
  console.log(`delivered ${String(count)}`);
});
// Unreferenced: only the armed slot can keep the process alive until this comes.
setTimeout(() => eventfd.write(1n), 20).unref();
process.on('exit', () => {
  console.log('left with an idle slot');
});
