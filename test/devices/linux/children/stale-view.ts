/** A crash here ends this process by SIGSEGV, not the test run. The memory is a file that the worker sees by address. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { koffiBinding } from '../../../../src/devices/linux/koffi-binding.js';
import { mapRegion } from '../../../../src/devices/linux/mapped-memory.js';
import { linuxSyscalls } from '../../../../src/devices/linux/syscalls.js';

const calls = linuxSyscalls();
const page = koffiBinding().pageSize;
const directory = mkdtempSync(join(tmpdir(), 'vfio-rx-'));
const path = join(directory, 'region');
writeFileSync(path, new Uint8Array(page).fill(42));
const fd = calls.open(path);
const mapping = mapRegion(fd, 0n, page, { read: true, write: true });
const view = new Uint8Array(mapping.memory);

// The holder in its thread: a view of its own on the same address.
const holder = new Worker(
  `const { parentPort, workerData } = require('node:worker_threads');
   const koffi = require('koffi');
   const view = new Uint8Array(koffi.view(workerData.address, workerData.size));
   parentPort.on('message', (value) => {
     if (value === 'end') return parentPort.close();
     if (value !== undefined) view[0] = value;
     parentPort.postMessage(view[0]);
   });`,
  { eval: true, workerData: { address: mapping.address, size: mapping.size } },
);
const ask = (value?: number): Promise<number> =>
  new Promise((resolve) => {
    holder.once('message', resolve);
    holder.postMessage(value);
  });

console.log('mapped', view[0], await ask());
mapping.revoke();
console.log('revoked', view[0], await ask());
const written = await ask(7);
console.log('written', view[0], written);
holder.postMessage('end');
calls.close(fd);
rmSync(directory, { recursive: true });
