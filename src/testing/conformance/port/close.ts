import { VfioError } from '../../../errors.js';
import type { Call, Mapping } from '../../../devices/port.js';
import { codeOf, settled, success } from '../patience.js';
import { demand, type Rule } from '../rule.js';
import { sampleFace as face, type PortHarness, type PortNeed } from './harness.js';
import { Steps } from './steps.js';

/** PORT-9: the end of a port. */

export const closeRules: readonly Rule<PortHarness, PortNeed>[] = [
  {
    id: 'PORT-9.1',
    title: 'close takes away irqs, mappings and the device, and released says so',
    needs: ['remap'],
    async check(harness) {
      const { port, witness } = await harness.openPort();
      const steps = new Steps(harness);
      demand(witness.opens === 1, `the driver should see one open, it sees ${witness.opens}`);
      await steps.value(port.irq(face.msi), 'the registration');
      await steps.value(port.irq(face.remap, { ackFd: true }), 'the registration');
      await steps.value(port.map(face.mailbox, face.whole), 'mapping');
      const mapping = await steps.value(port.map(face.sparse, face.firstArea), 'mapping');
      await steps.value(port.unmap(mapping, { offset: 0x1000, size: 0x1000 }), 'unmap of a part');
      port.close();
      port.close();
      const reports = await steps.released(port);
      const { opens, vmas, irqs, waiters } = witness;
      demand(opens === 0 && vmas === 0 && irqs === 0 && waiters === 0, `nothing should be left: opens ${opens}, vmas ${vmas}, irqs ${irqs}, waiters ${waiters}`);
      demand(reports.length > 0 && reports.every(({ error }) => error === undefined), 'the teardown should be reported, without errors');
      demand((await steps.released(port)).length === reports.length, 'released should be replayed to a late subscriber');
      await port[Symbol.asyncDispose]();
    },
  },
  {
    id: 'PORT-9.2',
    title: 'after close every call fails with VFIO_E_CLOSED',
    async check(harness) {
      const { port } = await harness.openPort();
      const steps = new Steps(harness);
      const irq = await steps.value(port.irq(face.msi), 'the registration');
      const unmapped: Mapping = { region: face.mailbox, area: face.whole, memory: new ArrayBuffer(0) };
      const mapping = harness.lacks?.mappings === undefined ? await steps.value(port.map(face.mailbox, face.whole), 'mapping') : unmapped;
      port.close();
      const calls: Readonly<Record<string, Call<unknown>>> = {
        info: port.info(), regionInfo: port.regionInfo(0), irqInfo: port.irqInfo(1), irq: port.irq(face.msi), map: port.map(face.sparse, face.firstArea),
        unmap: port.unmap(mapping), access: port.access({ region: face.trapped, offset: 0, readBytes: 1 }), migration: port.migration(),
        getState: port.getState(), setState: port.setState('stop'), reset: port.reset(), lowPower: port.lowPower(true), 'dmaLogging.start': port.dmaLogging.start({ ranges: [face.logged], pageSize: 4096 }), 'dmaLogging.report': port.dmaLogging.report({ ...face.logged, pageSize: 4096 }), 'dmaLogging.stop': port.dmaLogging.stop(), 'irq.next': irq.next(), 'irq.ack': irq.ack(1n),
        irqs: port.irqs(face.msi.index, [0]), setIrqs: port.setIrqs({ index: face.msi.index, action: 'trigger', data: 'none', count: 1 }),
        'irq.mask': irq.mask(), 'irq.unmask': irq.unmask(), 'irq.trigger': irq.trigger(),
      };
      for (const [name, call] of Object.entries(calls)) await steps.fails('VFIO_E_CLOSED', call, `${name} after close`);
      await steps.value(irq.close(), 'close of an irq after close');
      if (port.traits.syncAccess) {
        let code = 'no error';
        try {
          port.accessNow({ region: face.trapped, offset: 0, readBytes: 1 });
        } catch (error) {
          code = VfioError.is(error) ? error.code : String(error);
        }
        demand(code === 'VFIO_E_CLOSED', `accessNow after close should fail with VFIO_E_CLOSED: ${code}`);
      }
      await steps.released(port);
    },
  },
  {
    id: 'PORT-9.3',
    title: 'close frees whoever waits for an irq',
    async check(harness) {
      const { port } = await harness.openPort();
      const steps = new Steps(harness);
      const irq = await steps.value(port.irq(face.msi), 'the registration');
      const waiting = settled(steps.value(irq.next(), 'the end of next()'));
      port.close();
      const outcome = await waiting;
      demand(codeOf(outcome) === 'VFIO_E_CLOSED', `next() should end with VFIO_E_CLOSED: ${codeOf(outcome)}`);
      await steps.released(port);
    },
  },
  {
    id: 'PORT-9.4',
    title: 'close frees a blocked setState, and nothing is left when released completes',
    needs: ['remap', 'state'],
    async check(harness) {
      const opened = await harness.openPort({ ackTimeoutMs: 30_000 });
      const { port, witness } = opened;
      const steps = new Steps(harness);
      await steps.value(port.map(face.mailbox, face.whole), 'mapping');
      const { set } = await steps.blocked(opened);
      port.close();
      const outcome = await set;
      demand(codeOf(outcome) === 'VFIO_E_CANCELED', `the write should end with VFIO_E_CANCELED: ${codeOf(outcome)}`);
      await steps.released(port);
      const { opens, vmas, irqs, waiters } = witness;
      demand(opens === 0 && vmas === 0 && irqs === 0 && waiters === 0, `nothing should be left: opens ${opens}, vmas ${vmas}, irqs ${irqs}, waiters ${waiters}`);
    },
  },
  {
    id: 'PORT-9.5',
    title: 'a detached setState is waited for, and its data_fd does not outlive the port',
    needs: ['remap', 'state'],
    async check(harness) {
      const opened = await harness.openPort();
      const { port, witness } = opened;
      const steps = new Steps(harness);
      const irq = await steps.value(port.irq(face.remap, { ackFd: true }), 'the registration');
      const next = settled(steps.value(irq.next(), 'the signal'));
      const detached = port.setState('pre-copy').subscribe({ error: () => undefined });
      const { count } = success(await next, 'the signal');
      detached.unsubscribe();
      demand(witness.waiters === 1, 'unsubscribing should not interrupt the driver');
      await steps.value(irq.ack(count), 'the ack');
      demand(await steps.value(port.getState(), 'the state') === 'pre-copy', 'the detached write should have gone on');
      port.close();
      await steps.released(port);
      demand(witness.opens === 0, `the device should be closed, opens is ${witness.opens}`);
    },
  },
];
