import { firstValueFrom, lastValueFrom, type Observable } from 'rxjs';
import { afterAll, describe, expect, it } from 'vitest';
import { realClock } from '../../../src/clock.js';
import { openDevice } from '../../../src/devices/index.js';
import type { DevicePort } from '../../../src/devices/port.js';
import { openUserPort } from '../../../src/devices/vfio-user/open-user-port.js';
import { remapRegions } from '../../../src/operators/remap-regions.js';
import { remapIrq } from '../../../src/streams/remap-irq.js';
import { transition } from '../../../src/streams/transition.js';
import { sampleFace as face } from '../../../src/testing/conformance/port/harness.js';
import { OtherProcess } from '../../support/vfio-user/other-process.js';

const other = new OtherProcess();
afterAll(() => other.dispose());

/** What one call brings. */
function value<T>(call: Observable<T>): Promise<T> {
  return firstValueFrom(call);
}

/** A port whose driver waits for the ack of its write of STOP_COPY. */
async function blocked(port: DevicePort) {
  const irq = await value(port.irq(face.remap, { ackFd: true }));
  const signal = value(irq.next());
  const written = value(port.setState('stop-copy'));
  return { irq, count: (await signal).count, written };
}

async function trappedByte(port: DevicePort, region: number, offset: number): Promise<number | undefined> {
  return (await value(port.access({ region, offset, readBytes: 1 })))[0];
}

describe('remaps between two processes', () => {
  it('are served by the one line, there and back, and what was written is kept all the way', async () => {
    const { path, witness } = other.serve({ mailbox: false });
    const device = await value(openDevice(`vfio-user:${path}`));
    const batches: string[] = [];
    await new Promise<void>((registered, failed) => {
      remapIrq(device).pipe(remapRegions(device)).subscribe({
        next: ({ because, acked }) => {
          batches.push(`${because}${acked ? ', acked' : ''}`);
          registered();
        },
        error: failed,
      });
    });
    const settled = async (to: 'stop-copy' | 'running'): Promise<void> => { await lastValueFrom(transition(device, to)); };
    device.region(0).write32(64, 0x1234_5678);
    await settled('stop-copy');
    expect([witness.state, witness.waiters, witness.violations, device.region(0).mapped.areas]).toEqual(['stop-copy', 0, 0, []]);
    expect(witness.sent).toBe(witness.acked);
    expect(await value(device.region(0).request({ offset: 64, readBytes: 4 }))).toEqual(Uint8Array.of(0x78, 0x56, 0x34, 0x12));
    await value(device.region(0).request({ offset: 64, write: Uint8Array.of(1, 2, 3, 4) }));
    await settled('running');
    expect(device.region(0).mapped.areas).toEqual([face.whole]);
    expect(device.region(0).read32(64)).toBe(0x0403_0201);
    // What is only added is not waited for: that batch comes before or after the one that looks at everything.
    expect(batches.filter((batch) => batch !== 'signal, acked')).toEqual(['registered', 'after-transition', 'after-transition']);
    expect(batches[1]).toBe('signal, acked');
    await device.close();
    expect([witness.opens, witness.irqs, witness.vmas]).toEqual([0, 0, 0]);
  });

  it('after the ack a mapping that a client keeps is no longer the device', async () => {
    const { path } = other.serve();
    const port = await value(openUserPort(path, realClock));
    const { offset } = face.secondArea;
    const bytes = new Uint8Array((await value(port.map(face.sparse, face.secondArea))).memory);
    bytes[0] = 7;
    const { irq, count, written } = await blocked(port);
    bytes[1] = 8;
    expect(await trappedByte(port, face.sparse, offset + 1)).toBe(8);
    await value(irq.ack(count));
    await written;
    bytes.fill(9, 0, 2);
    expect([await trappedByte(port, face.sparse, offset), await trappedByte(port, face.sparse, offset + 1)]).toEqual([7, 8]);
    await value(port.access({ region: face.sparse, offset, write: Uint8Array.of(5) }));
    expect(bytes[0]).toBe(9);
    await port[Symbol.asyncDispose]();
  });

  it('an ack of an older signal leaves alone what a newer one revokes', async () => {
    const served = other.serve({ regions: [0, 1].map((index) => ({ index, size: 0x4000, areas: 'all' as const })), mailbox: false });
    const port = await value(openUserPort(served.path, realClock));
    const views = await Promise.all([0, 1].map(async (region) => new Uint8Array((await value(port.map(region, { offset: 0, size: 0x4000 }))).memory)));
    const irq = await value(port.irq(face.remap, { ackFd: true }));
    const heard = async (sum: bigint): Promise<void> => { while (served.witness.acked < sum) await value(port.info()); };
    const reached = async (): Promise<(number | undefined)[]> => {
      views.forEach((view) => { view[0] = (view[0] ?? 0) + 1; });
      return [await trappedByte(port, 0, 0), await trappedByte(port, 1, 0)];
    };
    served.script.revoke(0);
    const first = await value(irq.next());
    served.script.revoke(1);
    await value(irq.ack(first.count));
    await heard(1n);
    expect(await reached()).toEqual([0, 1]);
    await value(irq.ack((await value(irq.next())).count));
    await heard(2n);
    expect(await reached()).toEqual([0, 1]);
    served.script.restore(0);
    await value(port.regionInfo(0));
    views.forEach((view) => { view[0] = 40; });
    expect([await trappedByte(port, 0, 0), await trappedByte(port, 1, 0)]).toEqual([40, 1]);
    await port[Symbol.asyncDispose]();
  });

  it('a client that dies while its driver waits leaves nothing behind', async () => {
    const [served, client] = [other.serve({ remap: { ackTimeoutMs: 30_000 } }), new OtherProcess()];
    client.client(served.path, 'block');
    expect([served.witness.waiters, served.witness.opens]).toEqual([1, 1]);
    client.kill();
    client.dispose();
    const port = await value(openUserPort(served.path, realClock));
    expect([served.witness.waiters, served.witness.irqs, await value(port.getState())]).toEqual([0, 0, 'running']);
    await port[Symbol.asyncDispose]();
  });
});
