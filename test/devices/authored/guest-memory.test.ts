import { EMPTY, of, Subject, take, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { DeviceMemory } from '../../../src/devices/authored/guest-memory.js';
import type { RemoteMemory } from '../../../src/devices/port.js';
import { Iommu } from '../../../src/devices/software/dma.js';
import { codeOf, now } from '../../support/devices.js';

const page = 4096;

/** Two pages that are mapped here at 0x1000, each for itself, then pages behind a socket from 0x3000 on. */
function mixed(remoteBytes = 2 * page) {
  const mapped = new Uint8Array(2 * page);
  const remote = new Uint8Array(remoteBytes);
  const asked: string[] = [];
  const at = (iova: bigint): number => Number(iova) - 0x3000;
  const memory: RemoteMemory = {
    read: (iova, bytes): Observable<Uint8Array> => {
      asked.push(`read ${bytes}`);
      return of(remote.slice(at(iova), at(iova) + bytes));
    },
    write: (iova, bytes): Observable<void> => {
      asked.push(`write ${bytes.length}`);
      remote.set(bytes, at(iova));
      return of(undefined);
    },
  };
  const iommu = new Iommu(undefined);
  const source = { memory: mapped.buffer, size: mapped.length, free: () => of(undefined) };
  for (const n of [0, 1]) iommu.enter({ iova: BigInt((n + 1) * page), size: page, read: true, write: true, offset: n * page, source });
  let master = true;
  const device = new DeviceMemory('device', iommu, () => master);
  device.addRemote({ iova: 0x3000n, size: remoteBytes, read: true, write: true, memory });
  return { device, mapped, remote, asked, memory, setMaster: (on: boolean) => (master = on) };
}

describe('the memory that a device reaches', () => {
  it('is one, wherever its parts are', () => {
    const { device, mapped, remote, asked } = mixed();
    const bytes = Uint8Array.from({ length: 3 * page }, (_, n) => n * 7);
    now(device.write(0x1800n, bytes));
    expect(now(device.read(0x1800n, bytes.length))).toEqual(bytes);
    expect([mapped.subarray(0x800), remote.subarray(0, 0x1800)]).toEqual([bytes.subarray(0, 0x1800), bytes.subarray(0x1800)]);
    expect(asked).toEqual(['write 6144', 'read 6144']);
  });

  it('is asked for in messages that a client can answer', () => {
    const { device, asked } = mixed(256 * 1024);
    now(device.read(0x3000n, 150_000));
    expect(asked).toEqual(['read 65536', 'read 65536', 'read 18928']);
  });

  it('is written with what was given, whatever the caller does with it between the messages', () => {
    const { device } = mixed();
    const told = new Subject<void>();
    const written = new Set<number>();
    const memory = {
      read: () => EMPTY,
      write: (_: bigint, bytes: Uint8Array) => {
        for (const byte of bytes) written.add(byte);
        return told.pipe(take(1));
      },
    };
    device.addRemote({ iova: 0x10_0000n, size: 0x4_0000, read: true, write: true, memory });
    const bytes = Buffer.alloc(0x4_0000, 1);
    let ended = false;
    device.write(0x10_0000n, bytes).subscribe({ complete: () => (ended = true), error: expect.unreachable });
    bytes.fill(2);
    for (let messages = 0; messages < 4; messages += 1) told.next();
    expect([ended, written]).toEqual([true, new Set([1])]);
  });

  it('fails where nothing is, where it may not, and without bus mastering', () => {
    const { device, memory, setMaster } = mixed();
    expect(codeOf(() => now(device.read(0x5000n, 1)))).toBe('VFIO_E_RANGE');
    expect(codeOf(() => now(device.write(0xfffn, Uint8Array.of(1, 2))))).toBe('VFIO_E_RANGE');
    device.addRemote({ iova: 0x8000n, size: page, read: true, write: false, memory });
    expect(codeOf(() => now(device.write(0x8000n, Uint8Array.of(1))))).toBe('VFIO_E_RANGE');
    expect(codeOf(() => now(device.read(0x1000n, 2 ** 32)))).toBe('VFIO_E_LIMIT');
    setMaster(false);
    expect(codeOf(() => now(device.read(0x1000n, 1)))).toBe('VFIO_E_RANGE');
  });

  it('takes no range over another, and gives back whole ones', () => {
    const { device, memory } = mixed();
    for (const iova of [0x2000n, 0x4000n]) expect(codeOf(() => device.addRemote({ iova, size: page, read: true, write: true, memory }))).toBe('VFIO_E_BUSY');
    expect(device.hasRemote({ iova: 0x4000n, size: page })).toBe(true);
    expect(device.removeRemote({ iova: 0x4000n, size: page })).toBe(0);
    expect(device.removeRemote({ iova: 0x3000n, size: 2 * page })).toBe(2 * page);
    expect(device.hasRemote({ iova: 0x3000n, size: 2 * page })).toBe(false);
  });
});
