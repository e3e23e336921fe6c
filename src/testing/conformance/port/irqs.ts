import { codeOf, settled, success } from '../patience.js';
import { demand, type Rule } from '../rule.js';
import { sampleFace as face, type PortHarness, type PortNeed } from './harness.js';
import { atOnce, Steps } from './steps.js';

/** PORT-6 to PORT-8: irqs, and a write of device_state that waits for one. */

export const irqRules: readonly Rule<PortHarness, PortNeed>[] = [
  {
    id: 'PORT-6.1',
    title: 'what comes while the irq is not armed stays in the eventfd, and adds',
    needs: ['raiseMsi'],
    async check(harness) {
      const { port, script } = await harness.openPort();
      const steps = new Steps(harness);
      const irq = await steps.value(port.irq(face.msi), 'the registration');
      script.raiseMsi();
      await steps.turns(port);
      script.raiseMsi();
      await steps.turns(port);
      const { count } = await steps.value(irq.next(), 'the signal');
      demand(count === 2n, `two signals before one read should be one delivery of 2, it was ${count}`);
      script.raiseMsi();
      await steps.turns(port);
      script.raiseMsi();
      const again = await steps.value(irq.next(), 'the second signal');
      demand(again.count === 2n, `what came after a delivery should rest until the next one is asked for, it was ${again.count}`);
    },
  },
  {
    id: 'PORT-6.2',
    title: 'an irq that is waited for delivers once, and unsubscribing disarms it',
    needs: ['raiseMsi'],
    async check(harness) {
      const { port, script } = await harness.openPort();
      const steps = new Steps(harness);
      const irq = await steps.value(port.irq(face.msi), 'the registration');
      const disarmed: bigint[] = [];
      irq.next().subscribe({ next: ({ count }) => disarmed.push(count), error: () => disarmed.push(-1n) }).unsubscribe();
      script.raiseMsi();
      await steps.turns(port);
      const { count, line } = await steps.value(irq.next(), 'the signal');
      demand(disarmed.length === 0 && count === 1n && line.index === face.msi.index, 'a signal after unsubscribe should wait for the next subscriber');
      const waiting = settled(steps.value(irq.next(), 'the next signal'));
      script.raiseMsi();
      const signal = success(await waiting, 'a signal should reach whoever waits for it');
      demand(signal.count === 1n, `one signal should be a delivery of 1, it was ${signal.count}`);
    },
  },
  {
    id: 'PORT-6.3',
    title: 'one waits for an irq at a time',
    needs: ['raiseMsi'],
    async check(harness) {
      const { port, script } = await harness.openPort();
      const steps = new Steps(harness);
      const irq = await steps.value(port.irq(face.msi), 'the registration');
      const first = settled(steps.value(irq.next(), 'the signal'));
      await steps.fails('VFIO_E_BUSY', irq.next(), 'a second wait for the same irq');
      script.raiseMsi();
      const outcome = await first;
      demand(codeOf(outcome) === 'success', `the first wait should go on: ${codeOf(outcome)}`);
    },
  },
  {
    id: 'PORT-6.4',
    title: 'a line has one handle at a time',
    needs: ['raiseMsi'],
    async check(harness) {
      const { port, script } = await harness.openPort();
      const steps = new Steps(harness);
      const irq = await steps.value(port.irq(face.msi), 'the registration');
      await steps.fails('VFIO_E_BUSY', port.irq(face.msi), 'a second registration of the same line');
      script.raiseMsi();
      await steps.value(irq.next(), 'the signal of the first');
      await steps.value(irq.close(), 'close of the irq');
      await steps.value(port.irq(face.msi), 'a registration after the close');
    },
  },
  {
    id: 'PORT-7.1',
    title: 'now calls, trapped accesses and the ack go on while setState is outstanding',
    needs: ['remap', 'state'],
    async check(harness) {
      const opened = await harness.openPort({ ackTimeoutMs: 30_000 });
      const { port, witness } = opened;
      const steps = new Steps(harness);
      const mapping = await steps.value(port.map(face.mailbox, face.whole), 'mapping');
      const violations = witness.violations;
      const { irq, signal, set } = await steps.blocked(opened);
      await steps.value(port.access({ region: face.trapped, offset: 8, write: Uint8Array.of(1, 2, 3, 4) }), 'a trapped write');
      const read = await steps.value(port.access({ region: face.trapped, offset: 8, readBytes: 4 }), 'a trapped read');
      demand(read.join() === '1,2,3,4', 'trapped access should work meanwhile');
      demand((await steps.value(port.info(), 'info')).irqs === face.irqs, 'info should work meanwhile');
      demand((await steps.value(port.irqInfo(face.remap.index), 'irq info')).remap !== undefined, 'irq info should work meanwhile');
      demand((await steps.value(port.regionInfo(face.mailbox), 'region info')).areas.length === 0, 'the new layout should be visible before the signal');
      await steps.value(port.unmap(mapping), 'unmap');
      const other = await steps.value(port.map(face.sparse, face.firstArea), 'mapping');
      demand(witness.waiters === 1 && witness.state === 'running', 'the write should be outstanding still');
      await steps.value(irq.ack(signal.count), 'the ack');
      const { state, data } = success(await set, 'the write should return after the ack');
      demand(state === 'stop-copy', `the write should end in STOP_COPY, not in ${state}`);
      demand(witness.waiters === 0 && witness.acked === witness.sent && witness.violations === violations, 'the driver should have got its ack');
      await steps.value(port.unmap(other), 'unmap');
      demand(data?.direction === 'save', 'STOP_COPY should bring a data_fd to read from');
      if (data !== undefined) await steps.value(data.close(), 'close of the data_fd');
    },
  },
  {
    id: 'PORT-7.2',
    title: 'a write that nobody acks ends by the timeout of the driver, with the state as before',
    needs: ['remap', 'state', 'ignoreAcks'],
    async check(harness) {
      const opened = await harness.openPort({ ackTimeoutMs: harness.briefMs });
      opened.script.ignoreAcks(true);
      const steps = new Steps(harness);
      const { irq, signal, set } = await steps.blocked(opened);
      await steps.value(irq.ack(signal.count), 'the ack');
      const outcome = await set;
      demand(codeOf(outcome) === 'VFIO_E_ACK_TIMEOUT', `the write should end with VFIO_E_ACK_TIMEOUT: ${codeOf(outcome)}`);
      demand(await steps.value(opened.port.getState(), 'the state') === 'running', 'the state should be as before');
      demand((await steps.value(opened.port.regionInfo(face.mailbox), 'region info')).areas.length === 1, 'the layout should be as before');
    },
  },
  {
    id: 'PORT-7.3',
    title: 'a driver whose remap irq is not registered refuses, and the port refuses what has no arc',
    needs: ['remap', 'state'],
    async check(harness) {
      const { port } = await harness.openPort();
      const steps = new Steps(harness);
      await steps.fails('VFIO_E_REFUSED', port.setState('pre-copy'), 'device_state without the irq');
      await steps.fails('VFIO_E_ARC', port.setState('error'), 'device_state to ERROR');
      demand(await steps.value(port.getState(), 'the state') === 'running', 'the state should be as before');
    },
  },
  {
    id: 'PORT-8.1',
    title: 'closing the irq frees a setState that waits for its ack',
    needs: ['remap', 'state'],
    async check(harness) {
      const opened = await harness.openPort({ ackTimeoutMs: 30_000 });
      const steps = new Steps(harness);
      const { irq, set } = await steps.blocked(opened);
      await steps.value(irq.close(), 'close of the irq');
      const outcome = await set;
      demand(codeOf(outcome) === 'VFIO_E_CANCELED', `the write should end with VFIO_E_CANCELED: ${codeOf(outcome)}`);
      demand(opened.witness.waiters === 0 && opened.witness.irqs === 0, 'neither wait nor irq should be left');
      await steps.value(irq.close(), 'a second close');
      await steps.fails('VFIO_E_CLOSED', irq.next(), 'next() of a closed irq');
      await steps.fails('VFIO_E_CLOSED', irq.ack(1n), 'ack of a closed irq');
      await steps.value(opened.port.irq(face.remap, { ackFd: true }), 'a new registration');
    },
  },
  {
    id: 'PORT-11.1',
    title: 'readNow takes what rests in the eventfd, and no next() delivers it',
    needs: ['raiseMsi'],
    async check(harness) {
      const { port, script } = await harness.openPort();
      const steps = new Steps(harness);
      const irq = await steps.value(port.irq(face.msi), 'the registration');
      demand((await steps.value(irq.readNow(), 'an empty read')) === undefined, 'an eventfd without a signal should read undefined');
      script.raiseMsi();
      script.raiseMsi();
      demand(atOnce(irq.readNow()).value === 2n, 'two signals should be read at once, as 2');
      const waiting = settled(steps.value(irq.next(), 'the next signal'));
      await steps.fails('VFIO_E_BUSY', irq.readNow(), 'readNow while next() waits');
      script.raiseMsi();
      const { count } = success(await waiting, 'the wait should go on');
      demand(count === 1n, `what was read should not be delivered, the delivery was ${count}`);
      await steps.value(irq.close(), 'close of the irq');
      await steps.fails('VFIO_E_CLOSED', irq.readNow(), 'readNow of a closed irq');
    },
  },
  {
    id: 'PORT-11.2',
    title: 'without an ack eventfd an ack goes to the trigger eventfd: 0 changes no count, all else comes back',
    needs: ['remap'],
    async check(harness) {
      const { port } = await harness.openPort();
      const steps = new Steps(harness);
      const irq = await steps.value(port.irq(face.msi), 'the registration');
      await steps.value(irq.ack(0n), 'an ack of 0');
      demand((await steps.value(irq.readNow(), 'a read')) === undefined, 'an ack of 0 should change no count');
      await steps.value(irq.ack(1n), 'an ack of 1');
      demand((await steps.value(irq.readNow(), 'a read')) === 1n, 'an ack of 1 should be read back');
      await steps.value(irq.ack(2n ** 64n - 2n), 'the largest ack');
      const full = await steps.failure(irq.ack(1n), 'an ack that does not fit');
      demand(full.errno === 'EAGAIN', `an ack that does not fit should fail with EAGAIN: ${full.message}`);
      demand((await steps.value(irq.readNow(), 'a read')) === 2n ** 64n - 2n, 'what did not fit should change nothing');
      const remap = await steps.enableRemaps(port);
      await steps.fails('VFIO_E_RANGE', remap.ack(0n), 'an ack of 0 to an ack eventfd');
    },
  },
];
