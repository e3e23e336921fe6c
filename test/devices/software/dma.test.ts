import { describe, expect, it } from 'vitest';
import { softwareDevice } from '../../../src/devices/software/software-device.js';
import type { DevicePort } from '../../../src/devices/port.js';
import { now } from '../../support/devices.js';
import { virtualClock } from '../../support/virtual-clock.js';

const page = 4096;
const both = { read: true, write: true };

function opened() {
  const clock = virtualClock();
  const device = softwareDevice({ scanMs: false, mailbox: false });
  const { driver } = device;
  const port: DevicePort = now(device.open(clock));
  const errors: unknown[] = [];
  const soon = <T>(call: { subscribe: (observer: { next: (value: T) => void; error: (error: unknown) => void }) => unknown }): T | undefined => {
    let value: T | undefined;
    call.subscribe({ next: (one) => (value = one), error: (error) => errors.push(error) });
    clock.advanceMs(0);
    return value;
  };
  return { clock, driver, port, errors, soon };
}

describe('the software IOMMU', () => {
  it('is the way from the device to memory: both ways, as far as it may', () => {
    const { driver, port, soon } = opened();
    const source = now(port.allocateDma(2 * page));
    soon(port.dmaMap({ iova: 0x1000n, size: page, source, offset: page, ...both }));
    soon(port.dmaMap({ iova: 0x2000n, size: page, source, read: true, write: false }));
    new Uint8Array(source.memory)[page + 4] = 7;
    expect(driver.dma.read(0x1004n, 1)).toEqual(Uint8Array.of(7));
    expect(driver.dma.write(0x1005n, Uint8Array.of(8, 9))).toBe(true);
    expect([...new Uint8Array(source.memory).subarray(page + 4, page + 7)]).toEqual([7, 8, 9]);
    expect([driver.dma.write(0x2000n, Uint8Array.of(1)), driver.dma.read(0x1ffen, 4), driver.dma.read(0x3000n, 1)]).toEqual([false, undefined, undefined]);
    expect(driver.dma.ranges).toEqual([{ iova: 0x1000n, size: page, ...both }, { iova: 0x2000n, size: page, read: true, write: false }]);
  });

  it("shows an area: what another device writes there is in this one's region", () => {
    const { driver, port, soon } = opened();
    const source = now(port.map(1, { offset: 0x1000, size: 0x2000 }));
    soon(port.dmaMap({ iova: 0n, size: page, source, offset: page, ...both }));
    expect(driver.dma.ranges).toEqual([{ iova: 0n, size: page, ...both, region: 1, area: { offset: 0x2000, size: page } }]);
    expect(driver.dma.write(8n, Uint8Array.of(5))).toBe(true);
    expect(driver.readRegion(1, 0x2008, 1)).toEqual(Uint8Array.of(5));
  });

  it('is a witness: what is unmapped under it is a violation, and what devices write there then is one too', () => {
    const { driver, port, soon } = opened();
    const source = now(port.map(1, { offset: 0, size: 0x2000 }));
    soon(port.dmaMap({ iova: 0n, size: page, source, ...both }));
    // The port refuses that; this is the driver below it.
    (driver as unknown as { munmap: (mapping: unknown, area: unknown) => void }).munmap(source, { offset: 0, size: page });
    driver.dma.write(0n, Uint8Array.of(5));
    expect(driver.violationList.map(({ kind, region, offset }) => [kind, region, offset])).toEqual([['unmapped-in-iommu', 1, 0], ['stale-write', 1, 0]]);
  });

  it('has the limits of one with 39 bits and the hole of x86', () => {
    const { port, soon, errors } = opened();
    expect(soon(port.dmaLimits())).toMatchObject({ pageSizes: 4096n, available: 65_535 });
    const source = now(port.allocateDma(page));
    soon(port.dmaMap({ iova: 0xfee0_0000n, size: page, source, ...both }));
    soon(port.dmaMap({ iova: 2n ** 39n, size: page, source, ...both }));
    expect(errors).toMatchObject([{ code: 'VFIO_E_RANGE' }, { code: 'VFIO_E_RANGE' }]);
  });

  it('fails when it is told to; nothing is left of a map, and all of an unmap', () => {
    const { driver, port, soon, errors } = opened();
    const source = now(port.allocateDma(page));
    driver.faults.failDma('map', 'ENOMEM');
    soon(port.dmaMap({ iova: 0n, size: page, source, ...both }));
    soon(port.dmaMap({ iova: 0n, size: page, source, ...both }));
    driver.faults.failDma('unmap', 'EIO');
    soon(port.dmaUnmap({ iova: 0n, size: page }));
    expect(errors).toMatchObject([{ code: 'VFIO_E_LIMIT', errno: 'ENOMEM' }, { code: 'VFIO_E_IO' }]);
    expect(driver.dma.ranges).toHaveLength(1);
    expect(soon(port.dmaUnmap({ iova: 0n, size: page }))).toBe(page);
  });

  it('keeps mapped, at close, what does not leave', () => {
    const { driver, port, clock, soon } = opened();
    const source = now(port.map(1, { offset: 0, size: 0x2000 }));
    soon(port.dmaMap({ iova: 0n, size: page, source, ...both }));
    driver.faults.failDma('unmap', 'EIO');
    const failed: string[] = [];
    port.released.subscribe({ next: ({ what, error }) => { if (error !== undefined) failed.push(what); }, error: () => failed.push('released') });
    port.close();
    clock.advanceMs(0);
    expect([failed, driver.vmas]).toEqual([['iova 0x0+0x1000 left the IOMMU', 'region 1 0x0+0x2000 unmapped'], 1]);
  });
});
