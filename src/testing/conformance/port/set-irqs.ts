import type { IrqSignal } from '../../../devices/port.js';
import { demand, type Rule } from '../rule.js';
import { sampleFace as face, type PortHarness, type PortNeed } from './harness.js';
import { Steps } from './steps.js';

/** PORT-14 and PORT-15: what VFIO_DEVICE_SET_IRQS does beside registering one irq. */

export const setIrqsRules: readonly Rule<PortHarness, PortNeed>[] = [
  {
    id: 'PORT-14.1',
    title: 'what an irq does not take is refused, and the driver is not asked',
    needs: ['signalWitness'],
    async check(harness) {
      const { port, witness } = await harness.openPort();
      const steps = new Steps(harness);
      const { index } = face.msi;
      const { count } = await steps.value(port.irqInfo(index), 'irq info');
      await steps.fails('VFIO_E_NO_IRQ', port.irq({ index, vector: count }), 'a vector beyond the last');
      await steps.fails('VFIO_E_RANGE', port.irqs(index, []), 'no vectors');
      await steps.fails('VFIO_E_RANGE', port.irqs(index, [0, 0]), 'a vector named twice');
      await steps.fails('VFIO_E_UNSUPPORTED', port.irq(face.msi, { ackFd: true }), 'an ack eventfd for MSI');
      await steps.fails('VFIO_E_RANGE', port.setIrqs({ index, action: 'trigger', data: 'none', count: 1 }), 'a loopback of what is not enabled');
      demand(witness.irqs === 0 && witness.trace.every(({ event }) => event !== 'register'), 'the driver should not have been asked');
      const irq = await steps.value(port.irq(face.msi), 'the registration');
      await steps.fails('VFIO_E_UNSUPPORTED', irq.mask(), 'a mask of MSI');
      await steps.fails('VFIO_E_UNSUPPORTED', irq.unmask(), 'an unmask of MSI');
      await steps.fails('VFIO_E_RANGE', port.setIrqs({ index, action: 'trigger', data: 'none', count: 0 }), 'disabling behind the back of a handle');
      demand(witness.irqs === 1, 'a refused call should leave the irq as it was');
    },
  },
  {
    id: 'PORT-14.2',
    title: 'a loopback reaches the user as a signal would',
    needs: ['loopback'],
    async check(harness) {
      const { port } = await harness.openPort();
      const steps = new Steps(harness);
      const irq = await steps.value(port.irq(face.msi), 'the registration');
      await steps.value(irq.trigger(), 'the loopback');
      await steps.value(irq.trigger(), 'the loopback');
      const { count } = await steps.value(irq.next(), 'the signal of the loopback');
      demand(count === 2n, `two loopbacks should be a count of 2, it was ${count}`);
    },
  },
  {
    id: 'PORT-14.3',
    title: 'irqs registers all its vectors or none, each with a handle',
    needs: ['signalWitness', 'vectors', 'loopback'],
    async check(harness) {
      const { port, witness } = await harness.openPort();
      const steps = new Steps(harness);
      const { index } = face.msi;
      const irqs = await steps.value(port.irqs(index, [2, 0]), 'the registration of two vectors');
      demand(irqs.length === 2 && witness.irqs === 2, `two vectors should be two eventfds, they are ${witness.irqs}`);
      demand(irqs.map(({ line }) => line.vector).join() === '2,0', 'the handles should come in the order of the vectors');
      for (const irq of irqs) await steps.value(irq.trigger(), 'the loopback');
      for (const irq of irqs) {
        const { line, count } = await steps.value(irq.next(), 'the signal of a vector');
        demand(line.vector === irq.line.vector && count === 1n, `vector ${irq.line.vector} should have its own signal`);
      }
      await steps.fails('VFIO_E_BUSY', port.irqs(index, [1, 2]), 'a vector that is in use');
      await steps.fails('VFIO_E_BUSY', port.irqs(index, [1, 3]), 'a vector beyond those enabled, where the index cannot be resized');
      demand(witness.irqs === 2, `neither should have registered anything, there are ${witness.irqs}`);
      await steps.value(port.irqs(index, [1]), 'a vector that was enabled with the others');
      for (const irq of irqs) await steps.value(irq.close(), 'close of a vector');
      demand(witness.irqs === 1, 'closing two vectors should leave the third');
    },
  },
  {
    id: 'PORT-14.4',
    title: 'INTx and MSI exclude each other',
    needs: ['intx', 'signalWitness'],
    async check(harness) {
      const { port, witness } = await harness.openPort();
      const steps = new Steps(harness);
      const intx = await steps.value(port.irq(face.intx), 'the registration of INTx');
      await steps.fails('VFIO_E_BUSY', port.irq(face.msi), 'MSI beside INTx');
      await steps.value(intx.close(), 'close of INTx');
      await steps.value(port.irq(face.msi), 'the registration of MSI');
      await steps.fails('VFIO_E_BUSY', port.irq(face.intx), 'INTx beside MSI');
      demand(witness.irqs === 1, 'only MSI should be registered');
    },
  },
  {
    id: 'PORT-15.1',
    title: 'an automasked irq signals once, and again when it is unmasked by call while its line is up',
    needs: ['intx'],
    async check(harness) {
      const { port, script } = await harness.openPort();
      const steps = new Steps(harness);
      const irq = await steps.value(port.irq(face.intx), 'the registration');
      const seen: bigint[] = [];
      const heard = { next: ({ count }: IrqSignal) => { seen.push(count); }, error: () => undefined };
      script.intx(true);
      await steps.value(irq.next(), 'the signal of INTx');
      const waiting = irq.next().subscribe(heard);
      script.intx(true);
      await steps.turns(port);
      demand(seen.length === 0, 'a masked irq should not signal');
      waiting.unsubscribe();
      await steps.value(irq.unmask(), 'the unmask');
      await steps.value(irq.next(), 'the signal of a line that is still up');
      script.intx(false);
      await steps.value(irq.unmask(), 'the unmask');
      const quiet = irq.next().subscribe(heard);
      await steps.turns(port);
      demand(seen.length === 0, 'a line that is down should not signal');
      await steps.value(irq.mask(), 'the mask');
      script.intx(true);
      await steps.turns(port);
      demand(seen.length === 0, 'a line that goes up while it is masked should not signal');
      quiet.unsubscribe();
      await steps.value(irq.unmask(), 'the unmask');
      await steps.value(irq.next(), 'the signal that waited for the unmask');
    },
  },
  {
    id: 'PORT-15.2',
    title: 'each write of its ack eventfd unmasks an automasked irq',
    needs: ['intx', 'unmaskWitness'],
    async check(harness) {
      const { port, script, witness } = await harness.openPort();
      const steps = new Steps(harness);
      const irq = await steps.value(port.irq(face.intx, { ackFd: true }), 'the registration');
      demand(witness.irqs === 2, `trigger and unmask should be two eventfds, they are ${witness.irqs}`);
      script.intx(true);
      for (let times = 0; times < 3; times += 1) {
        await steps.value(irq.next(), 'the signal of INTx');
        await steps.value(irq.ack(1n), 'the unmask by eventfd');
      }
      await steps.value(irq.close(), 'close of the irq');
      demand(witness.irqs === 0, 'the unmask eventfd should go with its irq');
    },
  },
];
