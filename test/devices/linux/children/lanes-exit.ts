/** Nothing but the call keeps this process alive, and the idle thread afterwards does not. */
import { koffiBinding } from '../../../../src/devices/linux/koffi-binding.js';
import { sharedLanes } from '../../../../src/devices/linux/lanes.js';

const binding = koffiBinding();
const fd = binding.eventfd(0, 0);
sharedLanes()
  .lane('state')
  .submit({ op: 'read', fd, length: 8 })
  .subscribe({
    next: ({ bytes }) => {
      console.log('returned', bytes[0]);
    },
    error: console.error,
  });
setTimeout(() => binding.writeCount(fd, 5n), 100).unref();
process.on('exit', () => {
  console.log('left');
});
