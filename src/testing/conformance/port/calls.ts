import type { Call } from '../../../devices/port.js';
import { demand, skip, type Rule } from '../rule.js';
import { sampleFace as face, type PortHarness, type PortNeed } from './harness.js';
import { atOnce, Steps } from './steps.js';

/** PORT-1, PORT-2 and PORT-10: what a call is, and what it may answer. */

export const callRules: readonly Rule<PortHarness, PortNeed>[] = [
  {
    id: 'PORT-1.1',
    title: 'nothing happens before subscribe',
    needs: ['remap'],
    async check(harness) {
      const { port, witness } = await harness.openPort();
      const steps = new Steps(harness);
      // A port may have to ask once where a region lies before its first access.
      await steps.turns(port);
      const before = witness.trace.length;
      const calls: readonly Call<unknown>[] = [
        port.info(), port.regionInfo(face.mailbox), port.irqInfo(face.msi.index), port.irq(face.msi), port.irq(face.remap, { ackFd: true }),
        port.map(face.mailbox, face.whole), port.access({ region: face.trapped, offset: 0, write: Uint8Array.of(1) }), port.getState(), port.setState('stop'), port.reset(),
      ];
      await steps.turns(port);
      demand(calls.length === 10 && witness.trace.length === before, `the driver saw ${witness.trace.slice(before).map(({ event }) => event).join(', ')} of calls that nobody subscribed`);
      demand(witness.irqs === 0 && witness.vmas === 0 && witness.state === 'running', 'calls that nobody subscribed changed the device');
    },
  },
  {
    id: 'PORT-1.2',
    title: 'each subscription is one call',
    needs: ['mappings'],
    async check(harness) {
      const { port, witness } = await harness.openPort();
      const steps = new Steps(harness);
      const queries = (): number => witness.trace.filter(({ event, fields }) => event === 'query' && fields['region'] === String(face.sparse)).length;
      const before = queries();
      const query = port.regionInfo(face.sparse);
      await steps.value(query, 'region info');
      demand(queries() === before + 1, 'the first subscription should be one query');
      await steps.value(query, 'region info');
      demand(queries() === before + 2, 'the second subscription should be another');
      const map = port.map(face.sparse, face.firstArea);
      const first = await steps.value(map, 'mapping');
      await steps.value(port.unmap(first), 'unmap');
      const second = await steps.value(map, 'mapping again');
      demand(first !== second && witness.vmas === 1, 'a second subscription of map should be a new mapping');
    },
  },
  {
    id: 'PORT-2.1',
    title: 'a call marked now answers inside subscribe()',
    needs: ['remap'],
    async check(harness) {
      const { port } = await harness.openPort();
      if (!port.traits.remapInOneTurn) skip('traits.remapInOneTurn is false: this port answers in a later turn');
      const inside = <T>(what: string, call: Call<T>): T => {
        const { value, error, answered } = atOnce(call);
        demand(answered && error === undefined, `${what} should answer inside subscribe()${error instanceof Error ? `: ${error.message}` : ''}`);
        return value as T;
      };
      inside('info', port.info());
      inside('regionInfo', port.regionInfo(face.mailbox));
      inside('irqInfo', port.irqInfo(face.remap.index));
      inside('migration', port.migration());
      const irq = inside('irq', port.irq(face.remap, { ackFd: true }));
      const mapping = inside('map', port.map(face.mailbox, face.whole));
      inside('unmap of a part', port.unmap(mapping, { offset: 0, size: 0x1000 }));
      inside('unmap', port.unmap(mapping));
      inside('ack', irq.ack(1n));
      inside('close of an irq', irq.close());
    },
  },
  {
    id: 'PORT-10.1',
    title: 'an index that is not there is a typed error',
    needs: ['signalWitness'],
    async check(harness) {
      const { port, witness } = await harness.openPort();
      const steps = new Steps(harness);
      const { regions, irqs } = await steps.value(port.info(), 'info');
      await steps.fails('VFIO_E_NO_REGION', port.regionInfo(regions), 'region info beyond the last index');
      await steps.fails('VFIO_E_NO_IRQ', port.irqInfo(irqs), 'irq info beyond the last index');
      await steps.fails('VFIO_E_NO_IRQ', port.irq({ index: irqs }), 'an irq beyond the last index');
      demand(witness.irqs === 0, 'a refused irq should not be registered');
    },
  },
  {
    id: 'PORT-10.2',
    title: 'a query that fails says which, and the next one asks again',
    needs: ['failQuery'],
    async check(harness) {
      const { port, script } = await harness.openPort();
      const steps = new Steps(harness);
      script.failQuery(face.mailbox, 'EIO', 1);
      const error = await steps.failure(port.regionInfo(face.mailbox), 'a query that the driver fails');
      demand(error.errno === 'EIO' && error.message.includes(port.name), `the error should name errno and device: ${error.message}`);
      const info = await steps.value(port.regionInfo(face.mailbox), 'the next query');
      demand(info.size === face.whole.size, 'the next query should succeed');
    },
  },
  {
    id: 'PORT-10.3',
    title: 'a hostile answer is VFIO_E_PROTOCOL',
    needs: ['lieAboutRegion'],
    async check(harness) {
      const { port, script } = await harness.openPort();
      const steps = new Steps(harness);
      script.lieAboutRegion?.(face.sparse);
      await steps.fails('VFIO_E_PROTOCOL', port.regionInfo(face.sparse), 'an answer that contradicts itself');
      await steps.value(port.regionInfo(face.mailbox), 'the answer for another region');
    },
  },
];
