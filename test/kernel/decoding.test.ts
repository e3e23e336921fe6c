import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { concatMap, defer, EMPTY, firstValueFrom, from, toArray } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice } from '../../src/devices/open.js';
import { pciCapabilityId } from '../../src/devices/protocol/pci-capabilities.js';
import { vfioFds } from '../support/mdev.js';
import { VfioPci } from '../support/pci.js';
import { codeOf } from '../support/devices.js';

/** How a device stops decoding, and starts again. */
const ways = ['memory-space', 'accessor', 'power-state', 'low-power'] as const;
type Way = (typeof ways)[number];

/** The devices, and what they have no register for. */
const devices = {
  edu: { pci: () => VfioPci.edu(), lacks: ['power-state'] as readonly Way[] },
  e1000e: { pci: () => VfioPci.networkCard(), lacks: [] as readonly Way[] },
} as const;

describe.each(Object.entries(devices))('%s', (name, { pci: bind, lacks }) => {
  const known = ways.filter((way) => !lacks.includes(way));

  let pci: VfioPci;
  let device: VfioDevice;

  const open = async (): Promise<void> => {
    device = await firstValueFrom(openDevice(pci.address));
    expect(await firstValueFrom(device.mapRegion(0))).toEqual([]);
  };

  const capability = async (id: number): Promise<number | undefined> => {
    const config = device.config === undefined ? undefined : await firstValueFrom(device.config.read());
    return config?.capabilities.find((one) => one.id === id)?.offset;
  };

  /** Takes decoding away, or gives it back. */
  const set = async (way: Way, on: boolean): Promise<void> => {
    const { config } = device;
    if (config === undefined) throw new Error('no configuration space');
    if (way === 'memory-space') expect(await firstValueFrom(config.memorySpace(on))).toMatchObject({ memorySpace: on });
    if (way === 'accessor') config.region.write16(4, on ? 2 : 0);
    if (way === 'low-power') await firstValueFrom(device.lowPower(!on));
    if (way === 'power-state') {
      const at = await capability(pciCapabilityId.powerManagement);
      await firstValueFrom(config.region.request({ offset: (at ?? 0) + 4, write: Uint8Array.of(on ? 0 : 3, 0) }));
    }
  };

  beforeEach(async () => {
    pci = bind();
    await open();
  });

  afterEach(async () => {
    await device.close();
    expect(vfioFds()).toEqual([]);
    pci[Symbol.dispose]();
  });

  for (const way of known) {
    it(`${way}: accessors trap and say why, and use the mapping again afterwards`, async () => {
      const bar = device.region(0);
      const before = bar.read32(0);
      await set(way, false);
      expect(bar.mapped.areas).toHaveLength(1);
      if (way === 'low-power') {
        expect(codeOf(() => bar.read32(0))).toBe('VFIO_E_WOULD_BLOCK');
        // A trapped access wakes it for as long as it takes.
        const bytes = await firstValueFrom(bar.request({ offset: 0, readBytes: 4 }));
        expect(new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true)).toBe(before);
      } else {
        expect([codeOf(() => bar.read32(0)), codeOf(() => bar.write32(0, 0))]).toEqual(['VFIO_E_SUSPENDED', 'VFIO_E_SUSPENDED']);
        await expect(firstValueFrom(bar.request({ offset: 0, readBytes: 4 }))).rejects.toMatchObject({ code: 'VFIO_E_SUSPENDED', errno: 'EIO' });
      }
      await set(way, true);
      expect(bar.read32(0)).toBe(before);
    });
  }

  it('a hundred times to and fro, and not one fault', async () => {
    const bar = device.region(0);
    const before = bar.read32(0);
    for (let round = 0; round < 100; round += 1) {
      await set('accessor', false);
      expect(codeOf(() => bar.read32(0))).toBe('VFIO_E_SUSPENDED');
      await set('accessor', true);
      expect(bar.read32(0)).toBe(before);
    }
  });

  if (name === 'edu') {
    it('says that it has no reset', async () => {
      expect(device.info.reset).toBe(false);
      await expect(firstValueFrom(device.reset())).rejects.toMatchObject({ code: 'VFIO_E_UNSUPPORTED' });
    });
  } else {
    it('reset: accessors trap meanwhile and use the mapping again, and what was off stays off', async () => {
      const bar = device.region(0);
      const before = bar.read32(8);
      const reset = firstValueFrom(device.reset(), { defaultValue: undefined });
      expect([codeOf(() => bar.read32(8)), device.currentState.going]).toEqual(['VFIO_E_WOULD_BLOCK', 'running']);
      await expect(firstValueFrom(device.reset())).rejects.toMatchObject({ code: 'VFIO_E_BUSY' });
      await reset;
      expect(bar.read32(8)).toBe(before);
      await set('accessor', false);
      await firstValueFrom(device.reset(), { defaultValue: undefined });
      expect(codeOf(() => bar.read32(8))).toBe('VFIO_E_SUSPENDED');
    });
  }

  it('holders let go before, and get their areas back', async () => {
    const seen: string[] = [];
    const holder = { name: 'h', release: () => defer(() => { seen.push('let go'); return EMPTY; }), regain: () => defer(() => { seen.push('got'); return EMPTY; }) };
    await firstValueFrom(device.region(0).hold(device.region(0).mapped.areas, holder));
    expect(codeOf(() => device.config?.region.write16(4, 0))).toBe('VFIO_E_WOULD_BLOCK');
    await set('memory-space', false);
    await set('memory-space', true);
    expect(seen).toEqual(['got', 'let go', 'got']);
  });

  describe('the control: a raw view instead of an accessor', () => {
    for (const way of known.filter((one) => one !== 'accessor')) {
      it(`dies of SIGBUS (${way})`, async () => {
        const at = (await capability(pciCapabilityId.powerManagement)) ?? 0;
        await device.close();
        const program = join(process.env['VFIO_RX_CHILDREN'] ?? '', 'test/kernel/raw-view.child.mjs');
        const { signal, said } = await new Promise<{ readonly signal: unknown; readonly said: string }>((resolve) => {
          execFile(process.execPath, [program, pci.address, way, String(at + 4)], (error, stdout) => resolve({ signal: error?.signal, said: stdout }));
        });
        expect({ signal, said: said.replaceAll(/ \d+/g, '') }).toEqual({ signal: 'SIGBUS', said: 'mapped\n' });
      });
    }
  });

  it('is read: header, capabilities, BARs; bus master on and off', async () => {
    const { config } = device;
    if (config === undefined) throw new Error('no configuration space');
    const read = await firstValueFrom(config.read());
    expect(read).toMatchObject({ kind: 'endpoint', command: { memorySpace: true, busMaster: false } });
    expect(read.bars[0]).toMatchObject({ index: 0, kind: 'memory' });
    expect(read.capabilities.map(({ id }) => id)).toEqual(name === 'edu' ? [pciCapabilityId.msi] : [pciCapabilityId.powerManagement, pciCapabilityId.msi, pciCapabilityId.express, pciCapabilityId.msix]);
    expect(read.extended.length > 0).toBe(name === 'e1000e');
    const set$ = from([true, true, false]).pipe(concatMap((on) => config.busMaster(on)), toArray());
    expect((await firstValueFrom(set$)).map(({ busMaster }) => busMaster)).toEqual([true, true, false]);
  });
});
