import type { Area, DevicePort } from '../../../devices/port.js';
import { demand, type Rule } from '../rule.js';
import { sampleFace as face, type PortHarness, type PortNeed } from './harness.js';
import { atOnce, Steps } from './steps.js';

/** PORT-3 to PORT-5: layouts and mappings. */

const sameAreas = (a: readonly Area[], b: readonly Area[]): boolean => JSON.stringify(a.map(({ offset, size }) => [offset, size])) === JSON.stringify(b.map(({ offset, size }) => [offset, size]));

async function readByte(steps: Steps, port: DevicePort, region: number, offset: number): Promise<number | undefined> {
  return (await steps.value(port.access({ region, offset, readBytes: 1 }), 'a trapped read'))[0];
}

export const memoryRules: readonly Rule<PortHarness, PortNeed>[] = [
  {
    id: 'PORT-3.1',
    title: 'regionInfo is the layout of this instant',
    needs: ['remap', 'revoke'],
    async check(harness) {
      const { port, witness, script } = await harness.openPort();
      const steps = new Steps(harness);
      await steps.enableRemaps(port);
      const areas = async (): Promise<readonly Area[]> => (await steps.value(port.regionInfo(face.mailbox), 'region info')).areas;
      demand(sameAreas(await areas(), [face.whole]), 'region 0 should be one area at first');
      script.revoke(face.mailbox);
      demand(sameAreas(await areas(), []), 'a revoked region should offer nothing');
      script.restore(face.mailbox);
      demand(sameAreas(await areas(), [face.whole]), 'a restored region should offer itself again');
      for (const [region, offered] of witness.layout) {
        const info = await steps.value(port.regionInfo(region), 'region info');
        demand(sameAreas(info.areas, offered), `region ${region} should offer what the driver offers`);
      }
    },
  },
  {
    id: 'PORT-4.1',
    title: 'map takes a part of an offered area, and nothing else',
    needs: ['remap', 'revoke', 'mappings'],
    async check(harness) {
      const { port, witness, script } = await harness.openPort();
      const steps = new Steps(harness);
      const refused = async (region: number, area: Area, what: string): Promise<void> => {
        const error = await steps.failure(port.map(region, area), what);
        demand(error.code === 'VFIO_E_RANGE' || error.errno === 'EINVAL', `${what} should be refused as out of range, it failed with ${error.message}`);
      };
      await refused(face.trapped, { offset: 0, size: 0x1000 }, 'mapping a region without mmap');
      await refused(face.sparse, { offset: 0x8000, size: 0x8000 }, 'mapping the gap between two areas');
      await refused(face.sparse, { offset: 0x7000, size: 0x2000 }, 'mapping across the end of an area');
      await refused(face.mailbox, { offset: 0xf000, size: 0x2000 }, 'mapping across the end of a region');
      await refused(face.mailbox, { offset: 0x800, size: 0x1000 }, 'mapping from the middle of a page');
      await steps.enableRemaps(port);
      script.revoke(face.mailbox);
      await refused(face.mailbox, face.whole, 'mapping what the latest layout does not offer');
      demand(witness.vmas === 0, `nothing should be mapped, vmas is ${witness.vmas}`);
      script.restore(face.mailbox);
      const part = await steps.value(port.map(face.mailbox, { offset: 0x1000, size: 0x2000 }), 'mapping a part of an area');
      demand(part.memory.byteLength === 0x2000 && part.area.offset === 0x1000, 'the mapping should be the part that was asked for');
      demand(witness.vmas === 1, `the driver should see one mapping, vmas is ${witness.vmas}`);
    },
  },
  {
    id: 'PORT-4.2',
    title: "a mapping shows the device's memory, both ways",
    needs: ['mappings', 'memory'],
    async check(harness) {
      const { port } = await harness.openPort();
      const steps = new Steps(harness);
      const mapping = await steps.value(port.map(face.sparse, { offset: 0x1000, size: 0x1000 }), 'mapping');
      const bytes = new Uint8Array(mapping.memory);
      bytes[5] = 0x5a;
      demand(await readByte(steps, port, face.sparse, 0x1005) === 0x5a, 'a trapped read should see what was written through the mapping');
      await steps.value(port.access({ region: face.sparse, offset: 0x1006, write: Uint8Array.of(0xa5) }), 'a trapped write');
      demand(bytes[6] === 0xa5, 'the mapping should show what a trapped write wrote');
    },
  },
  {
    id: 'PORT-5.1',
    title: 'when unmap completes the driver sees no mapping, and a stale view does not reach the device',
    needs: ['mappings'],
    async check(harness) {
      const { port, witness } = await harness.openPort();
      const steps = new Steps(harness);
      const mapping = await steps.value(port.map(face.sparse, face.firstArea), 'mapping');
      const bytes = new Uint8Array(mapping.memory);
      bytes[0] = 1;
      await steps.value(port.unmap(mapping), 'unmap');
      demand(witness.vmas === 0, `the driver should see nothing mapped, vmas is ${witness.vmas}`);
      demand(await readByte(steps, port, face.sparse, 0) === 1, 'what was written while it was mapped should stay');
      bytes.fill(~(bytes.at(0) ?? 0), 0, 1); // a stale read and a stale write: neither may fault
      demand(await readByte(steps, port, face.sparse, 0) === 1, 'a stale write should go nowhere');
      await steps.value(port.access({ region: face.sparse, offset: 0, write: Uint8Array.of(3) }), 'a trapped write');
      demand(bytes[0] !== 3, "a stale view should not show the device's memory");
    },
  },
  {
    id: 'PORT-5.2',
    title: 'unmap of a part takes that part alone',
    needs: ['mappings'],
    async check(harness) {
      const { port, witness } = await harness.openPort();
      const steps = new Steps(harness);
      const mapping = await steps.value(port.map(face.sparse, face.firstArea), 'mapping');
      const bytes = new Uint8Array(mapping.memory);
      await steps.value(port.unmap(mapping, { offset: 0x2000, size: 0x1000 }), 'unmap of a part');
      demand(witness.vmas === 2, `a hole should leave two mappings, vmas is ${witness.vmas}`);
      bytes[0x1000] = 7;
      bytes[0x2000] = 8;
      bytes[0x3000] = 9;
      const seen = [await readByte(steps, port, face.sparse, 0x1000), await readByte(steps, port, face.sparse, 0x2000), await readByte(steps, port, face.sparse, 0x3000)];
      demand(seen[0] === 7 && seen[2] === 9, 'what is left should reach the device');
      demand(seen[1] !== 8, 'the part that is gone should not reach the device');
      await steps.value(port.unmap(mapping), 'unmap of the rest');
      demand(witness.vmas === 0, `nothing should be left, vmas is ${witness.vmas}`);
    },
  },
  {
    id: 'PORT-5.3',
    title: 'an area that was revoked can be unmapped, and mapped again once it is restored',
    needs: ['remap', 'revoke', 'mappings'],
    async check(harness) {
      const { port, witness, script } = await harness.openPort();
      const steps = new Steps(harness);
      await steps.enableRemaps(port);
      const mapping = await steps.value(port.map(face.mailbox, face.whole), 'mapping');
      script.revoke(face.mailbox);
      await steps.value(port.unmap(mapping), 'unmap of a revoked area');
      demand(witness.vmas === 0, `the driver should see nothing mapped, vmas is ${witness.vmas}`);
      script.restore(face.mailbox);
      demand(atOnce(port.map(face.mailbox, face.whole)).error === undefined, 'a restored area should be mappable');
    },
  },
];
