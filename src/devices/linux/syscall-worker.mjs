/**
 * A thread for system calls that may block: takes one request at a time from shared memory, makes the call right here,
 * and writes the answer back. It never comes back to its own event loop; between calls it sleeps in Atomics.wait.
 *
 * Plain JavaScript, because a Worker is started from a file: this one stands beside the code that starts it, in `src`,
 * in `dist` and beside a bundle. All it knows of the layout comes in `workerData`, see lane-thread.ts.
 */
import { createRequire } from 'node:module';
import { workerData } from 'node:worker_threads';

/** @type {import('./lane-thread.js').WorkerSetup} */
const { control, wakeFd, layout } = workerData;
const { state, word, wide, operation } = layout;

const words = new Int32Array(control, 0, layout.words);
const wides = new BigInt64Array(control, layout.wideOffset, layout.wides);

/** @type {typeof import('koffi')} */
const koffi = createRequire(import.meta.url)('koffi');
const libc = koffi.load(null);
// Fixed prototypes: on x86-64 and arm64 Linux the arguments of variadic ioctl travel like these.
const ioctl = libc.func('int ioctl(int, unsigned long, int64_t)');
const read = libc.func('int64_t read(int, int64_t, int64_t)');
const write = libc.func('int64_t write(int, int64_t, int64_t)');
const pread = libc.func('int64_t pread(int, int64_t, int64_t, int64_t)');
const pwrite = libc.func('int64_t pwrite(int, int64_t, int64_t, int64_t)');
const signal = libc.func('int64_t write(int, void *, size_t)');
const one = new BigUint64Array([1n]);

const EINTR = koffi.os.errno['EINTR'];
const maxInterrupts = 16;

/** @returns {number | bigint} */
function call() {
  const fd = words[word.fd];
  const argument = wides[wide.argument];
  const length = wides[wide.length];
  const offset = wides[wide.offset];
  switch (words[word.operation]) {
    case operation.ioctl:
      return ioctl(fd, wides[wide.request], argument);
    case operation.read:
      return read(fd, argument, length);
    case operation.write:
      return write(fd, argument, length);
    case operation.pread:
      return pread(fd, argument, length, offset);
    default:
      return pwrite(fd, argument, length, offset);
  }
}

function serve() {
  wides[wide.startedNs] = process.hrtime.bigint();
  let value = call();
  let errno = Number(value) === -1 ? koffi.errno() : 0;
  // An interrupted read or write has moved nothing yet. An interrupted ioctl is the vendor driver's answer.
  for (let again = 0; errno === EINTR && words[word.operation] !== operation.ioctl && again < maxInterrupts; again++) {
    value = call();
    errno = Number(value) === -1 ? koffi.errno() : 0;
  }
  wides[wide.returnedNs] = process.hrtime.bigint();
  wides[wide.value] = BigInt(value);
  words[word.errno] = errno;
  Atomics.store(words, word.state, state.done);
  signal(wakeFd, one, 8);
}

for (;;) {
  const now = Atomics.load(words, word.state);
  if (now === state.request) serve();
  else if (now === state.end) break;
  else Atomics.wait(words, word.state, now);
}
