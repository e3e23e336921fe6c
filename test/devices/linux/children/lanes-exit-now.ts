/** Nobody will ever end this read. */
import { writeSync } from 'node:fs';
import { readFileSync, readdirSync } from 'node:fs';
import { koffiBinding } from '../../../../src/devices/linux/koffi-binding.js';
import { sharedLanes } from '../../../../src/devices/linux/lanes.js';
import { exitNow } from '../../../../src/devices/linux/syscalls.js';

const fd = koffiBinding().eventfd(0, 0);
sharedLanes().lane('state').submit({ op: 'read', fd, length: 8 }).subscribe();

/** Is a thread of this process inside read() of the eventfd? */
const stuck = (): boolean => readdirSync('/proc/self/task').some((task) => readFileSync(`/proc/self/task/${task}/syscall`, 'utf8').startsWith(`0 0x${fd.toString(16)} `));
const watch = setInterval(() => {
  if (!stuck()) return;
  clearInterval(watch);
  writeSync(1, 'stuck\n');
  exitNow(3);
}, 5);
