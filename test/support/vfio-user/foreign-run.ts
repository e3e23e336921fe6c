import { firstValueFrom, type Observable } from 'rxjs';
import { VfioError } from '../../../src/errors.js';
import type { DevicePort } from '../../../src/devices/port.js';

const ask = <T>(call: Observable<T>): Promise<T> => firstValueFrom(call);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** The code of what a call fails with. */
async function refusal(call: Observable<unknown>): Promise<string> {
  try {
    await ask(call);
  } catch (error) {
    return VfioError.is(error) ? error.code : String(error);
  }
  return 'not refused';
}

/**
 * What this library's client makes of samples/server of libvfio-user: its layouts, memory through its fd, an irq, DMA by mapping and by message, and its device_state.
 *
 * @param time for its BAR 0: when that second has come the server signals, and writes into the client's memory
 * @param signalled what is waited for then
 */
export async function foreignRun(port: DevicePort, time: bigint, signalled: () => Promise<unknown> = () => Promise.resolve()): Promise<Readonly<Record<string, unknown>>> {
  const facts: Record<string, unknown> = {};
  facts['info'] = await ask(port.info());
  facts['regions'] = await Promise.all([0, 1, 7].map((index) => ask(port.regionInfo(index))));
  facts['no region'] = await refusal(port.regionInfo(9));
  facts['irq'] = await ask(port.irqInfo(0));
  facts['config'] = hex(await ask(port.access({ region: 7, offset: 0, readBytes: 64 })));

  const mapping = await ask(port.map(1, { offset: 0x2000, size: 0x1000 }));
  await ask(port.access({ region: 1, offset: 0x2004, write: Uint8Array.of(1, 2, 3, 4) }));
  facts['seen in the mapping'] = hex(new Uint8Array(mapping.memory, 0, 16));
  await ask(port.unmap(mapping));

  const irq = await ask(port.irq({ index: 0 }));
  const memories = [];
  for (const iova of [0n, 1n << 20n]) {
    const source = await ask(port.allocateDma(1 << 20));
    await ask(port.dmaMap({ iova, size: 1 << 20, source, read: true, write: true }));
    memories.push(source);
  }
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, time, true);
  const [{ count }] = await Promise.all([ask(irq.next()), ask(port.access({ region: 0, offset: 0, write: bytes }))]);
  facts['signals'] = String(count);
  await signalled();
  // Its DMA comes before the next command is answered.
  await ask(port.info());
  facts['written by DMA'] = memories.map(({ memory }) => [0, 1024, 2048, 3072, 4096].map((at) => new Uint8Array(memory)[at]));
  await ask(irq.close());
  facts['unmapped'] = await ask(port.dmaUnmap({ iova: 0n, size: 2 << 20 }));

  facts['migration'] = await ask(port.migration());
  const { data } = await ask(port.setState('pre-copy'));
  const drain = async (): Promise<readonly [string, number]> => {
    let read = 0;
    for (;;) {
      const chunk = await ask((data ?? expectData()).read(0x1000));
      if (chunk.kind !== 'bytes') return [chunk.kind, read];
      read += chunk.bytes.length;
    }
  };
  facts['saved in pre-copy'] = await drain();
  // When it runs again it sets its timer anew, which fails for a time that has passed.
  new DataView(bytes.buffer).setBigUint64(0, time + 3600n, true);
  await ask(port.access({ region: 0, offset: 0, write: bytes }));
  await ask(port.setState('stop-copy'));
  facts['saved in stop-copy'] = await drain();
  facts['state'] = await ask(port.getState());
  facts['running again'] = await refusal(port.setState('running'));
  return facts;
}

function expectData(): never {
  throw new Error('there is no session');
}
