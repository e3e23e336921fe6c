/** Leaves in the middle of things. */
import { Eventfd } from '../../../../src/devices/linux/eventfd.js';
import { sharedReactor } from '../../../../src/devices/linux/reactor.js';

const eventfd = new Eventfd();
sharedReactor()
  .add(eventfd.fd)
  .arm(() => {
    console.log('leaving');
    process.exit(0);
  });
eventfd.write(1n);
