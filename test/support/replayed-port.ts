import { firstValueFrom } from 'rxjs';
import type { Clock } from '../../src/clock.js';
import type { DevicePort } from '../../src/devices/port.js';
import { memoryTrace, readTrace, recordPort, replayTrace, softwarePortHarness, type MemoryTrace, type PortHarness, type PortScript, type PortWitness } from '../../src/testing/index.js';

/** One port of a run of the suite: what crossed it, and what the driver's side was seen to be, in the order in which it was looked at. */
interface KeptPort {
  readonly trace: MemoryTrace;
  readonly seen: unknown[];
}

/** The suite on software devices, with all of it kept. */
export function recordedHarness(clock: Clock, kept: KeptPort[]): PortHarness {
  const around = (port: DevicePort): DevicePort => {
    const trace = memoryTrace();
    kept.push({ trace, seen: [] });
    return recordPort(port, trace, { dataBytes: 1 << 20 });
  };
  const harness = softwarePortHarness({ clock, around });
  return {
    ...harness,
    openPort: async (options) => {
      const opened = await harness.openPort(options);
      const seen = kept.at(-1)?.seen;
      const look = (target: PortWitness, key: string | symbol): unknown => {
        const value: unknown = Reflect.get(target, key, target);
        seen?.push(structuredClone(value));
        return value;
      };
      return { ...opened, witness: new Proxy(opened.witness, { get: look }) };
    },
  };
}

const nothing = (): void => undefined;
/** What the driver did stands in the recording. */
const script: PortScript = { revoke: nothing, restore: nothing, raiseMsi: nothing, intx: nothing, ignoreAcks: nothing, failQuery: nothing, lieAboutRegion: nothing };

/** The same ports again, without their devices: port by port in the order in which they were opened. */
export function replayedHarness(clock: Clock, kept: readonly KeptPort[]): PortHarness {
  const { patienceMs, briefMs } = softwarePortHarness();
  const ports = kept.values();
  const open: DevicePort[] = [];
  return {
    patienceMs,
    briefMs,
    clock,
    openPort: async () => {
      const { value } = ports.next();
      if (value === undefined) throw new Error('the recorded run opened no such port');
      const port = await firstValueFrom(replayTrace(readTrace(value.trace.text)).open(clock));
      open.push(port);
      const seen = value.seen.values();
      return { port, script, witness: new Proxy({} as PortWitness, { get: () => seen.next().value }) };
    },
    dispose: async () => {
      for (const port of open.splice(0)) await port[Symbol.asyncDispose]();
    },
  };
}
