/** Stands in for a driver that lies: a call "returns" what stands in its offset or, where it has none, in its fd. */
import { createRequire } from 'node:module';
import { workerData } from 'node:worker_threads';

/** @type {import('../../../../src/devices/linux/lane-thread.js').WorkerSetup} */
const { control, wakeFd, layout } = workerData;
const words = new Int32Array(control, 0, layout.words);
const wides = new BigInt64Array(control, layout.wideOffset, layout.wides);
const write = createRequire(import.meta.url)('koffi').load(null).func('int64_t write(int, void *, size_t)');

for (;;) {
  const now = Atomics.load(words, layout.word.state);
  if (now === layout.state.end) break;
  if (now === layout.state.request) {
    const offset = wides[layout.wide.offset] ?? 0n;
    wides[layout.wide.value] = offset === 0n ? BigInt(words[layout.word.fd] ?? 0) : offset;
    words[layout.word.errno] = 0;
    Atomics.store(words, layout.word.state, layout.state.done);
    write(wakeFd, new BigUint64Array([1n]), 8);
  } else {
    Atomics.wait(words, layout.word.state, now);
  }
}
