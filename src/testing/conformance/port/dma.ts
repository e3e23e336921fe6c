import type { DevicePort, DmaMapRequest, DmaMemory, IovaRange } from '../../../devices/port.js';
import { settled, success } from '../patience.js';
import { demand, type Rule } from '../rule.js';
import { sampleFace as face, type PortHarness, type PortNeed } from './harness.js';
import { Steps } from './steps.js';

/** PORT-12 and PORT-13: DMA. The kernel's own count of free ranges, where it keeps one, is the witness that one is in the IOMMU, or out. */

const first = 0x10_0000n;

class Dma {
  readonly #port: DevicePort;
  readonly #steps: Steps;
  readonly #page: number;

  constructor(port: DevicePort, steps: Steps) {
    this.#port = port;
    this.#steps = steps;
    this.#page = port.traits.pageSize;
  }

  pages(count: number): number {
    return count * this.#page;
  }

  range(page: number, pages: number): IovaRange {
    return { iova: first + BigInt(this.pages(page)), size: this.pages(pages) };
  }

  memory(pages: number): Promise<DmaMemory> {
    return this.#steps.value(this.#port.allocateDma(this.pages(pages)), 'DMA memory');
  }

  map(request: IovaRange & Pick<DmaMapRequest, 'source' | 'offset'>): Promise<IovaRange> {
    return this.#steps.value(this.#port.dmaMap({ read: true, write: true, ...request }), 'dmaMap');
  }

  async refused(code: 'VFIO_E_RANGE' | 'VFIO_E_BUSY', request: Partial<DmaMapRequest> & Pick<DmaMapRequest, 'source'>, what: string): Promise<void> {
    await this.#steps.fails(code, this.#port.dmaMap({ ...this.range(0, 1), read: true, write: true, ...request }), what);
  }

  unmap(range: IovaRange): Promise<number> {
    return this.#steps.value(this.#port.dmaUnmap(range), 'dmaUnmap');
  }

  async available(): Promise<number | undefined> {
    return (await this.#steps.value(this.#port.dmaLimits(), 'the limits of DMA')).available;
  }

  /** So many entries of the IOMMU are taken now, as far as the kernel counts them. */
  async demandTaken(before: number | undefined, entries: number, what: string): Promise<void> {
    const now = await this.available();
    demand(before === undefined || now === before - entries, what);
  }
}

async function opened(harness: PortHarness): Promise<{ readonly port: DevicePort; readonly steps: Steps; readonly dma: Dma }> {
  const { port } = await harness.openPort();
  const steps = new Steps(harness);
  return { port, steps, dma: new Dma(port, steps) };
}

const takesAreas = (harness: PortHarness): boolean => harness.lacks?.areaDma === undefined;

export const dmaRules: readonly Rule<PortHarness, PortNeed>[] = [
  {
    id: 'PORT-12.1',
    title: 'a range enters and leaves the IOMMU whole, and takes an entry meanwhile',
    needs: ['dma'],
    async check(harness) {
      const { dma } = await opened(harness);
      const source = await dma.memory(4);
      const before = await dma.available();
      const mapped = await dma.map({ ...dma.range(0, 2), source });
      await dma.map({ ...dma.range(4, 1), source, offset: dma.pages(3) });
      demand(mapped.iova === first && mapped.size === dma.pages(2), 'dmaMap should say what it mapped');
      await dma.demandTaken(before, 2, 'two ranges should take two entries of the IOMMU');
      const bytes = await dma.unmap(dma.range(0, 8));
      demand(bytes === dma.pages(3), `an unmap over both should take ${dma.pages(3)} bytes, it took ${bytes}`);
      await dma.demandTaken(before, 0, 'both entries should be free again');
      demand(await dma.unmap(dma.range(0, 8)) === 0, 'where nothing is mapped nothing should go');
      await dma.map({ ...dma.range(0, 1), source });
    },
  },
  {
    id: 'PORT-12.2',
    title: 'what overlaps, is no page, or lies outside is refused before the kernel is asked',
    needs: ['dma'],
    async check(harness) {
      const { port, steps, dma } = await opened(harness);
      const source = await dma.memory(2);
      const before = await dma.available();
      await dma.map({ ...dma.range(4, 2), source });
      await dma.refused('VFIO_E_BUSY', { ...dma.range(5, 2), source, offset: 0 }, 'a range that overlaps');
      await dma.refused('VFIO_E_RANGE', { size: 100, source }, 'a part of a page');
      await dma.refused('VFIO_E_RANGE', { iova: first + 1n, source }, 'an address inside a page');
      await dma.refused('VFIO_E_RANGE', { iova: 2n ** 64n - 4096n, size: dma.pages(2), source }, 'a range beyond 64 bits');
      await dma.refused('VFIO_E_RANGE', { source, size: dma.pages(3) }, 'more than the memory has');
      await dma.refused('VFIO_E_RANGE', { source, offset: 1 }, 'memory from the middle of a page');
      await dma.refused('VFIO_E_RANGE', { source, read: false, write: false }, 'a range that nobody may use');
      await dma.refused('VFIO_E_RANGE', { source: { ...source } }, 'memory of somebody else');
      await steps.fails('VFIO_E_RANGE', port.dmaUnmap(dma.range(4, 1)), 'an unmap that would cut a range');
      await steps.fails('VFIO_E_RANGE', port.allocateDma(100), 'memory of a part of a page');
      await dma.demandTaken(before, 1, 'what was refused should leave nothing in the IOMMU');
    },
  },
  {
    id: 'PORT-12.3',
    title: 'an area enters the IOMMU only where it is mapped',
    needs: ['dma', 'mappings', 'areaDma'],
    async check(harness) {
      const { port, steps, dma } = await opened(harness);
      const source = await steps.value(port.map(face.sparse, face.firstArea), 'mapping');
      await steps.value(port.unmap(source, { offset: dma.pages(2), size: dma.pages(1) }), 'unmap of a part');
      await dma.refused('VFIO_E_RANGE', { ...dma.range(0, 3), source }, 'an area with a hole');
      await dma.refused('VFIO_E_RANGE', { source, offset: face.firstArea.size }, 'what lies behind the area');
      await dma.map({ ...dma.range(0, 2), source });
      await dma.map({ ...dma.range(3, 5), source, offset: dma.pages(3) });
    },
  },
  {
    id: 'PORT-12.4',
    title: 'an unmap that is asked for at once comes after the map, and limits go on while setState is outstanding',
    needs: ['remap', 'state', 'dma'],
    async check(harness) {
      const opened = await harness.openPort({ ackTimeoutMs: 30_000 });
      const { port } = opened;
      const steps = new Steps(harness);
      const dma = new Dma(port, steps);
      const { irq, signal, set } = await steps.blocked(opened);
      const before = await dma.available();
      const source = await dma.memory(1);
      const mapped = settled(dma.map({ ...dma.range(0, 1), source }));
      const gone = settled(dma.unmap(dma.range(0, 1)));
      success(await mapped, 'dmaMap');
      demand(success(await gone, 'dmaUnmap') === dma.pages(1), 'the range should have gone after it came');
      await dma.demandTaken(before, 0, 'nothing should be left in the IOMMU');
      await steps.value(irq.ack(signal.count), 'the ack');
      await set;
    },
  },
  {
    id: 'PORT-13.1',
    title: 'what is in the IOMMU is neither unmapped nor freed',
    needs: ['dma', 'mappings'],
    async check(harness) {
      const { port, steps, dma } = await opened(harness);
      const memory = await dma.memory(2);
      const source = await steps.value(port.map(face.sparse, face.firstArea), 'mapping');
      await dma.map({ ...dma.range(0, 1), source: memory, offset: dma.pages(1) });
      await steps.fails('VFIO_E_BUSY', memory.free(), 'freeing memory that is in the IOMMU');
      if (takesAreas(harness)) {
        await dma.map({ ...dma.range(1, 1), source, offset: dma.pages(2) });
        await steps.fails('VFIO_E_BUSY', port.unmap(source, { offset: dma.pages(1), size: dma.pages(2) }), 'unmapping an area that is in the IOMMU');
      } else {
        await steps.fails('VFIO_E_UNSUPPORTED', port.dmaMap({ ...dma.range(1, 1), source, read: true, write: true }), 'mapping an area for DMA');
      }
      await steps.value(port.unmap(source, { offset: 0, size: dma.pages(2) }), 'unmapping what is not in the IOMMU');
      await dma.unmap(dma.range(0, 2));
      await steps.value(memory.free(), 'freeing');
      await steps.value(memory.free(), 'freeing twice');
      await steps.value(port.unmap(source), 'unmapping');
      await dma.refused('VFIO_E_RANGE', { source: memory }, 'memory that was freed');
      const stale = new Uint8Array(memory.memory);
      stale[0] = 1; // must not fault
    },
  },
  {
    id: 'PORT-13.2',
    title: 'close takes the ranges of this device out of the IOMMU before its areas',
    needs: ['dma', 'mappings'],
    async check(harness) {
      const { port, steps, dma } = await opened(harness);
      const source = await steps.value(port.map(face.mailbox, face.whole), 'mapping');
      await dma.map({ ...dma.range(0, 1), source: await dma.memory(1) });
      await dma.map({ ...dma.range(1, 16), source: takesAreas(harness) ? source : await dma.memory(16) });
      port.close();
      const reports = await steps.released(port);
      const whats = reports.map(({ what }) => what);
      const left = whats.filter((what) => what.includes('left the IOMMU'));
      demand(left.length === 2, `both ranges should be reported: ${whats.join('; ')}`);
      demand(whats.findLastIndex((what) => what.includes('left the IOMMU')) < whats.findIndex((what) => what.includes('unmapped')), 'the ranges should leave before any area is unmapped');
      demand(reports.every(({ error }) => error === undefined), 'the teardown should be without errors');
      for (const [name, call] of Object.entries({ allocateDma: port.allocateDma(4096), dmaMap: port.dmaMap({ ...dma.range(0, 1), source, read: true, write: true }), dmaUnmap: port.dmaUnmap(dma.range(0, 1)), dmaLimits: port.dmaLimits() })) {
        await steps.fails('VFIO_E_CLOSED', call, `${name} after close`);
      }
    },
  },
];
