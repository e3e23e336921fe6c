/**
 * What recording costs for each event: the same calls on a software device's port, bare and recorded into a file. Prints one
 * line of JSON.
 *
 *   recording.ts ROUNDS
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Observable } from 'rxjs';
import { realClock } from '../src/clock.js';
import type { DevicePort } from '../src/devices/port.js';
import { recordPort } from '../src/devices/replay/record-port.js';
import { traceFile } from '../src/devices/replay/trace-file.js';
import { softwareDevice } from '../src/devices/software/software-device.js';

/** Calls of one round; each is one line of a trace. */
const calls = 4;
/** The recording is cut into turns of the loop, so that the file is written meanwhile, as in a program that lives. */
const roundsEachTurn = 250;

function now<T>(call: Observable<T>): T {
  let value: { readonly came: T } | undefined;
  call.subscribe({ next: (came) => (value = { came }), error: (error: unknown) => { throw error; } });
  if (value === undefined) throw new Error('the call did not answer at once');
  return value.came;
}

/** The calls of one turn, and how long they took, ns. */
function turnOf(port: DevicePort): () => bigint {
  const irq = now(port.irq({ index: 1 }));
  return () => {
    const began = process.hrtime.bigint();
    for (let round = 0; round < roundsEachTurn; round += 1) {
      now(port.regionInfo(0));
      now(port.irqInfo(1));
      now(irq.readNow());
      port.accessNow({ region: 2, offset: 0, readBytes: 4 });
    }
    return process.hrtime.bigint() - began;
  };
}

const turns = Math.ceil(Number(process.argv[2]) / roundsEachTurn);
const open = (): DevicePort => now(softwareDevice({ mailbox: false }).open(realClock));
const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-bench-'));
const file = traceFile(join(folder, 'run.jsonl'), { maxPendingBytes: 2 ** 28 });
const ports = [open(), recordPort(open(), file, { maxLines: 2 ** 31, maxBytes: 2 ** 40 })];
const sides = ports.map((port) => ({ turn: turnOf(port), ns: 0n }));
// In turns, so that other load meets both alike; a quarter more, to warm up.
for (let turn = -turns / 4; turn < turns; turn += 1) {
  for (const side of sides) {
    const ns = side.turn();
    if (turn >= 0) side.ns += ns;
    await new Promise((resolve) => setImmediate(resolve));
  }
}
const [bareNs = Number.NaN, recordedNs = Number.NaN] = sides.map(({ ns }) => Number(ns) / (turns * roundsEachTurn * calls));
for (const port of ports) port.close();
file.closed.subscribe({
  next: ({ dropped }) => {
    if (dropped > 0) throw new Error(`${dropped} lines were dropped`);
    rmSync(folder, { recursive: true });
    console.log(JSON.stringify({ bareNs, recordedNs, costNs: recordedNs - bareNs }));
  },
  error: (error: unknown) => { throw error; },
});
