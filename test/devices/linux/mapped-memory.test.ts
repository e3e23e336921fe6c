import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { VfioError } from '../../../src/errors.js';
import { koffiBinding } from '../../../src/devices/linux/koffi-binding.js';
import { mapAnonymous, mapRegion } from '../../../src/devices/linux/mapped-memory.js';
import { Syscalls, linuxSyscalls } from '../../../src/devices/linux/syscalls.js';
import { faultyBinding } from '../../support/faulty-binding.js';
import { childFile, mappingsAt } from './process-state.js';

const page = koffiBinding().pageSize;
const size = 4 * page;
const both = { read: true, write: true };

/** A plain file stands in for a device: the mappings are the same. */
let directory: string;
let path: string;
let fd: number;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'vfio-rx-'));
  path = join(directory, 'region');
  writeFileSync(path, Uint8Array.from({ length: size }, (_, index) => 1 + Math.floor(index / page)));
  fd = linuxSyscalls().open(path);
});

afterAll(() => {
  linuxSyscalls().close(fd);
  rmSync(directory, { recursive: true });
});

const firstBytes = (memory: ArrayBuffer): number[] => [0, 1, 2, 3].map((index) => new Uint8Array(memory)[index * page] ?? -1);
const ofFile = (address: bigint, bytes = size): number => mappingsAt(address, bytes).filter((line) => line.endsWith(path)).length;

describe('a mapped region', () => {
  test('shows the device, from its offset on, and writes through', () => {
    const mapping = mapRegion(fd, BigInt(page), 3 * page, both);
    const bytes = new Uint8Array(mapping.memory);
    expect([bytes[0], bytes[page], bytes[2 * page]]).toEqual([2, 3, 4]);
    bytes[1] = 99;
    const readBack = new Uint8Array(2);
    linuxSyscalls().pread(fd, readBack, BigInt(page));
    expect([...readBack]).toEqual([2, 99]);
    mapping.close();
    expect(ofFile(mapping.address)).toBe(0);
  });

  test('a revoked part reads zero and takes writes, the rest stays, and the file is not touched', () => {
    const mapping = mapRegion(fd, 0n, size, both);
    const stale = new Uint8Array(mapping.memory);
    mapping.revoke({ offset: page, size: 2 * page });
    expect(firstBytes(mapping.memory)).toEqual([1, 0, 0, 4]);
    stale[page] = 77;
    expect(ofFile(mapping.address + BigInt(page), 2 * page)).toBe(0);
    expect(ofFile(mapping.address)).toBe(2);
    const onDisk = new Uint8Array(1);
    linuxSyscalls().pread(fd, onDisk, BigInt(page));
    expect(onDisk[0]).toBe(2);
    mapping.revoke({ offset: page, size: page });
    expect(stale[page]).toBe(0);
    mapping.revoke();
    expect(firstBytes(mapping.memory)).toEqual([0, 0, 0, 0]);
    expect(ofFile(mapping.address)).toBe(0);
    mapping.close();
  });

  test('read-only: revoking makes even writes of a stale view harmless', () => {
    const mapping = mapRegion(fd, 0n, size, { read: true, write: false });
    expect(mappingsAt(mapping.address, size)[0]).toContain(' r--s ');
    mapping.revoke();
    new Uint8Array(mapping.memory)[0] = 1;
    mapping.close();
  });

  test('is not inherited on fork', () => {
    const mapping = mapRegion(fd, 0n, size, both);
    const { stdout } = spawnSync('grep', ['-A30', '^' + mapping.address.toString(16), `/proc/${String(process.pid)}/smaps`], { encoding: 'utf8' });
    expect(/VmFlags:.* dc/.exec(stdout)).not.toBeNull();
    mapping.close();
  });

  test.each([
    ['an offset within a page', 1n, size],
    ['half a page', 0n, page / 2],
    ['nothing', 0n, 0],
    ['a negative offset', -4096n, size],
  ])('%s is out of range', (_, offset, bytes) => {
    expect(() => mapRegion(fd, offset, bytes, both)).toThrow(expect.objectContaining({ code: 'VFIO_E_RANGE' }));
  });

  test('revoking off a page boundary or beyond the end is out of range, after close it is closed', () => {
    const mapping = mapRegion(fd, 0n, size, both);
    for (const range of [{ offset: 1, size: page }, { offset: 0, size: 1 }, { offset: 0, size: 0 }, { offset: page, size }, { offset: -page, size: page }, { offset: 0, size: Number.NaN }]) {
      expect(() => {
        mapping.revoke(range);
      }).toThrow(expect.objectContaining({ code: 'VFIO_E_RANGE' }));
    }
    mapping.close();
    mapping.close();
    expect(mapping.closed).toBe(true);
    expect(() => {
      mapping.revoke();
    }).toThrow(expect.objectContaining({ code: 'VFIO_E_CLOSED' }));
  });
});

describe('revoking without room for zero pages', () => {
  // The first two are the reservation and the device; the revocation comes third.
  const revoked = (mmap: readonly ('ENOMEM' | undefined)[], munmap: readonly ('ENOMEM' | undefined)[] = []) => {
    const calls = new Syscalls(faultyBinding(koffiBinding(), { mmap: [undefined, undefined, ...mmap], munmap }));
    return mapRegion(fd, 0n, size, both, calls, 'd0');
  };

  test('no writable ones: read-only ones, so that the device is gone and a stale view reads zeros', () => {
    const mapping = revoked(['ENOMEM']);
    mapping.revoke({ offset: page, size: page });
    expect(mappingsAt(mapping.address + BigInt(page), page)[0]).toContain(' r--p ');
    expect(firstBytes(mapping.memory)).toEqual([1, 0, 3, 4]);
    mapping.close();
  });

  test('no mapping at all: unmapped, and filled as soon as there is room', () => {
    const mapping = revoked(['ENOMEM', 'ENOMEM']);
    mapping.revoke();
    expect(ofFile(mapping.address)).toBe(0);
    expect(firstBytes(mapping.memory)).toEqual([0, 0, 0, 0]);
    mapping.close();
  });

  test('never any room: the device is gone all the same', () => {
    const mapping = revoked(['ENOMEM', 'ENOMEM', 'ENOMEM']);
    mapping.revoke();
    expect(mappingsAt(mapping.address, size)).toEqual([]);
    mapping.close();
  });

  test('a part that cannot be cut out: the error says so, since it is still mapped', () => {
    const mapping = revoked(['ENOMEM', 'ENOMEM'], ['ENOMEM']);
    expect(() => mapping.revoke({ offset: page, size: page })).toThrow(expect.objectContaining({ code: 'VFIO_E_LIMIT', errno: 'ENOMEM', device: 'd0' }));
    expect(firstBytes(mapping.memory)).toEqual([1, 2, 3, 4]);
    mapping.close();
  });
});

describe('memory that is used again', () => {
  test('shows the device in every view of it, and is not inherited either', () => {
    const mapping = mapRegion(fd, 0n, 2 * page, both);
    const stale = new Uint8Array(mapping.memory);
    mapping.revoke();
    mapping.place(fd, BigInt(2 * page), { read: true, write: false });
    expect([stale[0], stale[page]]).toEqual([3, 4]);
    expect(mappingsAt(mapping.address, 2 * page)[0]).toContain(' r--s ');
    mapping.close();
    expect(() => mapping.place(fd, 0n, both)).toThrow(expect.objectContaining({ code: 'VFIO_E_CLOSED' }));
  });

  test.each([
    ['the device refuses', { mmap: [undefined, undefined, undefined, 'EINVAL'] }],
    ['no DONTFORK', { madvise: [undefined, 'ENOMEM'] }],
  ] as const)('%s: stale views read zeros as before', (_, plan) => {
    const mapping = mapRegion(fd, 0n, size, both, new Syscalls(faultyBinding(koffiBinding(), plan)));
    mapping.revoke();
    expect(() => mapping.place(fd, 0n, both)).toThrow(VfioError);
    expect(ofFile(mapping.address)).toBe(0);
    expect(firstBytes(mapping.memory)).toEqual([0, 0, 0, 0]);
    mapping.close();
  });

  test('the kernel has unmapped the place before the driver refuses: it is filled again', () => {
    const real = koffiBinding();
    const refused = 2;
    const refusing: typeof real = {
      ...real,
      mmap: (...args) => (args[4] === refused ? (real.munmap(args[0], args[1]), -22) : real.mmap(...args)),
    };
    const mapping = mapRegion(fd, 0n, size, both, new Syscalls(refusing));
    mapping.revoke();
    expect(() => mapping.place(refused, 0n, both)).toThrow(expect.objectContaining({ errno: 'EINVAL' }));
    expect(firstBytes(mapping.memory)).toEqual([0, 0, 0, 0]);
    mapping.close();
  });
});

describe('a mapping that fails', () => {
  test.each([
    ['no address space', { mmap: ['ENOMEM'] }, 'VFIO_E_LIMIT', 0],
    ['the device refuses', { mmap: [undefined, 'EINVAL'] }, 'VFIO_E_IO', 1],
    ['the device is gone', { mmap: [undefined, 'ENODEV'] }, 'VFIO_E_NO_DEVICE', 1],
    ['no DONTFORK', { madvise: ['ENOMEM'] }, 'VFIO_E_LIMIT', 1],
  ] as const)('%s: a typed error, and nothing stays mapped', (_, plan, code, unmapped) => {
    const binding = faultyBinding(koffiBinding(), plan);
    const starts: number[] = [];
    const watched = { ...binding, munmap: (start: number, bytes: number) => (starts.push(start), binding.munmap(start, bytes)) };
    expect(() => mapRegion(fd, 0n, size, both, new Syscalls(watched), 'd0')).toThrow(expect.objectContaining({ code, device: 'd0' }));
    expect(starts).toHaveLength(unmapped);
    for (const start of starts) expect(mappingsAt(BigInt(start), size)).toEqual([]);
  });

  test('more than an ArrayBuffer holds', () => {
    const refusing = { ...koffiBinding(), view: () => { throw new RangeError('too long'); } };
    expect(() => mapAnonymous(page, new Syscalls(refusing))).toThrow(expect.objectContaining({ code: 'VFIO_E_LIMIT', operation: 'view' }));
  });
});

test('anonymous memory is zero, whole pages, and revoked to zero', () => {
  const memory = mapAnonymous(page + 1);
  expect(memory.size).toBe(2 * page);
  const words = new Uint32Array(memory.memory);
  expect(words.every((word) => word === 0)).toBe(true);
  words.fill(5);
  memory.revoke({ offset: 0, size: page });
  expect([words[0], words[page / 4]]).toEqual([0, 5]);
  memory.close();
  expect(() => mapAnonymous(0)).toThrow(expect.objectContaining({ code: 'VFIO_E_RANGE' }));
});

test('stale views, in this thread and in a worker, outlive a revocation', () => {
  const child = spawnSync(process.execPath, ['--import', 'tsx', childFile('stale-view.ts')], { encoding: 'utf8', timeout: 30_000 });
  expect(child.signal).toBeNull();
  expect(child.stderr).toBe('');
  expect(child.stdout).toBe('mapped 42 42\nrevoked 0 0\nwritten 7 7\n');
});
