import { concatMap, delay, ignoreElements, map, merge, of, timer, type Observable } from 'rxjs';
import type { VfioDevice } from '../../../src/devices/device.js';
import { withDevice, type PortSource } from '../../../src/devices/open.js';
import { memoryTrace } from '../../../src/devices/replay/memory-trace.js';
import { recordPort } from '../../../src/devices/replay/record-port.js';
import { softwareDevice } from '../../../src/devices/software/software-device.js';
import { readTrace, type Trace } from '../../../src/devices/trace/reader.js';
import { entryLine, headerLine, type TraceEntry } from '../../../src/devices/trace/entry.js';
import { remapRegions } from '../../../src/operators/remap-regions.js';
import { remapIrq } from '../../../src/streams/remap-irq.js';
import { transition } from '../../../src/streams/transition.js';
import { virtualClock } from '../../support/virtual-clock.js';

/** A demanded remap: a write of device_state at 1 ms that waits for the ack, some bytes, and back. */
export function demandedTrace(): Trace {
  const sink = memoryTrace();
  const software = softwareDevice({
    name: 'vf0',
    regions: [
      { index: 0, size: 0x2000, areas: 'all', savingAreas: [] },
      { index: 1, size: 0x4000, areas: [{ offset: 0, size: 0x2000 }, { offset: 0x3000, size: 0x1000 }], savingAreas: [{ offset: 0, size: 0x1000 }] },
    ],
    mailbox: false,
  });
  software.driver.faults.signalDelayUs = 30;
  const source: PortSource = { open: (clock) => software.open(clock).pipe(map((port) => recordPort(port, sink))) };
  const clock = virtualClock();
  const to = (device: VfioDevice, state: 'pre-copy' | 'running'): Observable<unknown> =>
    transition(device, state).pipe(concatMap(({ data }) => (data === undefined ? of(0) : data.read(16).pipe(delay(0.05, clock.scheduler), concatMap(() => data.close())))), ignoreElements());
  const work = (device: VfioDevice): Observable<unknown> =>
    merge(
      remapIrq(device).pipe(remapRegions(device)),
      timer(1, clock.scheduler).pipe(concatMap(() => to(device, 'pre-copy'))),
      timer(2, clock.scheduler).pipe(concatMap(() => to(device, 'running'))),
      timer(3, clock.scheduler).pipe(concatMap(() => device.close())),
    );
  withDevice(source, work, { clock }).subscribe({ error: () => undefined });
  clock.flush();
  return readTrace(sink.text);
}

/** Many events, as a flood of signals makes them: every tenth query of region 1 fails. */
export function longTrace(events: number): Trace {
  const lines: string[] = [headerLine({ device: 'vf1', atNs: 0n, pageSize: 4096, remapInOneTurn: true, syncAccess: true, dataBytes: 0 })];
  let call = 0;
  const add = (entry: TraceEntry): void => void lines.push(entryLine(entry));
  add({ kind: 'call', atNs: 0n, call: (call += 1), name: 'irq', args: { index: 5, vector: 0, ackFd: true }, outcome: { value: undefined } });
  for (let round = 0; lines.length <= events; round += 1) {
    const atNs = BigInt(round) * 10_000n + 1_000n;
    add({ kind: 'call', atNs, call: (call += 1), name: 'irq.next', args: { irq: [1, 0] } });
    add({ kind: 'answer', atNs: atNs + 4_000n, call, name: 'irq.next', outcome: { value: { count: 1n, atNs: atNs + 4_000n } } });
    const failure = { code: 'VFIO_E_IO', message: 'no', operation: 'query', device: 'vf1', errno: 'EIO' } as const;
    const error = round % 10 === 9;
    add({
      kind: 'call', atNs: atNs + 5_000n, call: (call += 1), name: 'regionInfo', args: { index: 1 },
      outcome: error ? { error: failure } : { value: { index: 1, flags: 7, readable: true, writable: true, mmappable: true, size: 4096, fileOffset: 0, areas: [], msixMappable: false } },
    });
    add({ kind: 'call', atNs: atNs + 6_000n, call: (call += 1), name: 'irq.ack', args: { irq: [1, 0], count: 1n }, outcome: { value: undefined } });
  }
  return readTrace(`${lines.join('\n')}\n`);
}
