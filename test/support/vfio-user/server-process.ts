import { createReadStream, openSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { firstValueFrom } from 'rxjs';
import { realClock } from '../../../src/clock.js';
import { openUserPort } from '../../../src/devices/vfio-user/open-user-port.js';
import { serveDevice, softwareDevice, type SoftwareDevice, type SoftwareDeviceOptions } from '../../../src/devices/index.js';
import { sampleFace as face } from '../../../src/testing/conformance/port/harness.js';

/**
 * The other process of a two-process test: serves software devices, and does what the test says to their drivers. Requests come as lines of JSON
 * through one FIFO, replies go through another.
 */
const [, , requests = '', replies = ''] = process.argv;
const out = openSync(replies, 'r+');

interface Request {
  readonly op: 'serve' | 'witness' | 'script' | 'dma' | 'client';
  readonly id: number;
  readonly path?: string;
  readonly options?: SoftwareDeviceOptions;
  readonly act?: string;
  readonly args?: readonly never[];
}

const devices = new Map<number, SoftwareDevice>();

function driverOf(id: number): SoftwareDevice['driver'] {
  const device = devices.get(id);
  if (device === undefined) throw new Error(`no device ${id}`);
  return device.driver;
}

function scriptOf(id: number): Record<string, (...args: never[]) => void> {
  const driver = driverOf(id);
  return {
    revoke: (region: number) => { driver.revoke(region); },
    restore: (region: number) => { driver.restore(region); },
    raiseMsi: () => { driver.raiseMsi(); },
    intx: (up: boolean) => { if (up) driver.raise(face.intx); else driver.lower(face.intx); },
    ignoreAcks: (on: boolean) => { driver.faults.ignoreAcks = on; },
    failQuery: (region: number, errno: 'EIO', times: number) => { driver.faults.failQuery(region, errno, times); },
    lieAboutRegion: (region: number) => { driver.faults.corrupt('regionInfo', region, (bytes) => { new DataView(bytes.buffer).setUint32(12, 0xffff_fff0, true); }); },
  };
}

function answer(value: unknown): void {
  writeSync(out, `${JSON.stringify(value, (_, one: unknown) => (typeof one === 'bigint' ? one.toString() : one))}\n`);
}

function serve({ id, path = '', options = {} }: Request): void {
  const device = softwareDevice(options);
  devices.set(id, device);
  serveDevice(device, path).subscribe({
    next: ({ kind }) => { if (kind === 'listening') answer(true); },
    error: (error: unknown) => { answer({ error: String(error) }); },
  });
}

/** Opens a device of somebody else, and answers when its driver waits for an ack that will not come. */
async function blockClient(path: string): Promise<void> {
  const port = await firstValueFrom(openUserPort(path, realClock));
  const irq = await firstValueFrom(port.irq(face.remap, { ackFd: true }));
  const signal = firstValueFrom(irq.next());
  port.setState('stop-copy').subscribe({ error: () => undefined });
  await signal;
  answer(true);
}

function handle(request: Request): void {
  switch (request.op) {
    case 'serve':
      serve(request);
      return;
    case 'witness': {
      const { opens, vmas, irqs, waiters, sent, acked, violations, layout, state, trace } = driverOf(request.id);
      answer({ opens, vmas, irqs, waiters, sent, acked, violations, layout: [...layout], state, trace });
      return;
    }
    case 'dma': {
      const { dma } = driverOf(request.id);
      const [iova = '0', text = ''] = (request.args ?? []) as unknown as readonly string[];
      const seen = dma.read(BigInt(iova), text.length);
      const wrote = dma.write(BigInt(iova), new TextEncoder().encode(text));
      answer({ seen: seen === undefined ? null : new TextDecoder().decode(seen), wrote });
      return;
    }
    case 'client':
      blockClient(request.path ?? '').catch((error: unknown) => { answer({ error: String(error) }); });
      return;
    case 'script':
      scriptOf(request.id)[request.act ?? '']?.(...(request.args ?? []));
      // What the driver has signalled goes through the server first: it was put in line before these.
      setTimeout(() => setTimeout(() => { answer(true); }, 1), 1);
  }
}

createInterface({ input: createReadStream(requests, { flags: 'r+' }) }).on('line', (line) => {
  handle(JSON.parse(line) as Request);
});
