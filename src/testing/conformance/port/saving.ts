import { concatMap, defer, repeat } from 'rxjs';
import type { DataChannel, DevicePort, State } from '../../../devices/port.js';
import { demand, type Rule } from '../rule.js';
import type { PortHarness, PortNeed } from './harness.js';
import { Steps } from './steps.js';

/** PORT-16: what a session of saving says of itself. */

const enough = 1 << 20;

export const savingRules: readonly Rule<PortHarness, PortNeed>[] = [
  {
    id: 'PORT-16.1',
    title: 'a session says in PRE_COPY what there is to read, and only there',
    needs: ['state', 'remap'],
    async check(harness) {
      const { port } = await harness.openPort();
      const steps = new Steps(harness);
      await serveRemaps(steps, port);
      const data = await session(steps, port, 'pre-copy');
      const before = await steps.value(data.precopy(), 'the first estimate');
      const said = before.initialBytes + before.dirtyBytes;
      demand(said > 0n && !before.reinit, `a session should begin with something to say, it has ${said} bytes`);
      let read = 0;
      for (let chunk = await steps.value(data.read(enough), 'a read'); chunk.kind === 'bytes'; chunk = await steps.value(data.read(enough), 'a read')) read += chunk.bytes.length;
      const after = await steps.value(data.precopy(), 'the estimate after all was read');
      demand(BigInt(read) === said && after.initialBytes === 0n && after.dirtyBytes === 0n, `${read} bytes were read of ${said}, then there were ${after.initialBytes} and ${after.dirtyBytes}`);
      await steps.value(port.setState('stop-copy'), 'STOP_COPY');
      await steps.fails('VFIO_E_RANGE', data.precopy(), 'an estimate in STOP_COPY');
      await steps.value(port.setState('stop'), 'STOP');
      await steps.fails('VFIO_E_NO_DEVICE', data.precopy(), 'an estimate of a session that is over');
      const resume = await session(steps, port, 'resuming');
      await steps.fails('VFIO_E_RANGE', resume.precopy(), 'an estimate while resuming');
      await steps.value(data.close(), 'close');
      await steps.fails('VFIO_E_CLOSED', data.precopy(), 'an estimate of a closed session');
    },
  },
];

/** Acks whatever the driver signals. */
async function serveRemaps(steps: Steps, port: DevicePort): Promise<void> {
  const irq = await steps.enableRemaps(port);
  defer(() => irq.next()).pipe(concatMap(({ count }) => irq.ack(count)), repeat()).subscribe({ error: () => undefined });
}

async function session(steps: Steps, port: DevicePort, to: State): Promise<DataChannel> {
  const { data } = await steps.value(port.setState(to), to);
  if (data === undefined) throw new Error(`no session began with ${to}`);
  return data;
}
