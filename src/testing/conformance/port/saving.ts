import { concatMap, defer, repeat } from 'rxjs';
import type { DataChannel, DevicePort, State } from '../../../devices/port.js';
import { codeOf, settled, success } from '../patience.js';
import { demand, skip, type Rule } from '../rule.js';
import { sampleFace as face, type PortHarness, type PortNeed } from './harness.js';
import { Steps } from './steps.js';

/** PORT-16 and PORT-17: what a session of saving says of itself, and what a device says of its DMA. */

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
      const first = await settled(steps.value(data.precopy(), 'the first estimate'));
      if (codeOf(first) === 'VFIO_E_UNSUPPORTED') skip('this port has no call that asks what there is to read');
      const before = success(first, 'the first estimate');
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
  {
    id: 'PORT-17.1',
    title: 'a device keeps one log of what it writes by DMA, or says that it keeps none',
    needs: ['log'],
    async check(harness) {
      const { port } = await harness.openPort();
      const steps = new Steps(harness);
      const { dmaLogging } = port;
      const pageSize = 4096;
      await steps.fails('VFIO_E_RANGE', dmaLogging.start({ ranges: [], pageSize }), 'a log about nothing');
      await steps.fails('VFIO_E_RANGE', dmaLogging.report({ iova: 1n, size: pageSize, pageSize }), 'a report of no page');
      const log = { ranges: [face.logged], pageSize };
      const started = await settled(steps.value(dmaLogging.start(log), 'the start of a log'));
      if ('error' in started) {
        demand(codeOf(started) === 'VFIO_E_UNSUPPORTED', `a device that keeps no log should fail with VFIO_E_UNSUPPORTED, it failed with ${codeOf(started)}`);
        await steps.fails('VFIO_E_UNSUPPORTED', dmaLogging.report({ ...face.logged, pageSize }), 'a report of no log');
        await steps.fails('VFIO_E_UNSUPPORTED', dmaLogging.stop(), 'the stop of no log');
        return;
      }
      await steps.fails('VFIO_E_BUSY', dmaLogging.start(log), 'a second log');
      const bits = await steps.value(dmaLogging.report({ ...face.logged, pageSize }), 'a report');
      demand(bits.length === 8, `16 pages should take 8 bytes of bits, they took ${bits.length}`);
      await steps.value(dmaLogging.stop(), 'the stop');
      await steps.value(dmaLogging.start(log), 'a log after the first');
      await steps.value(dmaLogging.stop(), 'its stop');
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
