import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { writeFileSync } from 'node:fs';
import { firstValueFrom } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Warning } from '../../src/diagnostics.js';
import { openDevice, type KernelWay } from '../../src/devices/open.js';
import { vfioFds } from '../support/mdev.js';
import { VfioPci } from '../support/pci.js';

const parameter = '/sys/module/vfio/parameters/enable_unsafe_noiommu_mode';

describe('a device that no IOMMU is in front of', () => {
  let pci: VfioPci;
  let warnings: Warning[];
  const warned = (warning: unknown) => void warnings.push(warning as Warning);
  const open = (way?: KernelWay) => firstValueFrom(openDevice(pci.address, way === undefined ? {} : { way }));

  beforeEach(() => {
    writeFileSync(parameter, '1');
    pci = VfioPci.edu();
    warnings = [];
    subscribe('vfio-rx:warning', warned);
  });

  afterEach(() => {
    unsubscribe('vfio-rx:warning', warned);
    expect(vfioFds()).toEqual([]);
    pci[Symbol.dispose]();
    writeFileSync(parameter, '0');
  });

  it('opens only where that is asked for, and says what it means', async () => {
    await expect(open()).rejects.toMatchObject({ code: 'VFIO_E_UNAVAILABLE', message: expect.stringContaining("way: 'noiommu'") as string });
    await expect(open('group')).rejects.toMatchObject({ code: 'VFIO_E_UNAVAILABLE' });
    await expect(open('cdev')).rejects.toMatchObject({ code: 'VFIO_E_UNAVAILABLE' });
    expect(warnings).toEqual([]);
    await using device = await open('noiommu');
    expect(warnings).toMatchObject([{ device: pci.address, what: expect.stringContaining('reads and writes all of memory') as string }]);
    // edu's identification.
    expect(device.region(0).read32(0)).toBe(0x0100_00ed);
  });

  it('maps nothing for it', async () => {
    await using device = await open('noiommu');
    const source = await firstValueFrom(device.port.allocateDma(4096));
    await expect(firstValueFrom(device.port.dmaLimits())).rejects.toMatchObject({ code: 'VFIO_E_UNSUPPORTED' });
    await expect(firstValueFrom(device.port.dmaMap({ iova: 0n, size: 4096, source, read: true, write: true }))).rejects.toMatchObject({ code: 'VFIO_E_UNSUPPORTED' });
  });
});
