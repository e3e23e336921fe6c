import { describe, expect, it } from 'vitest';
import { commonVersion, decodeHello, decodeWelcome, mostDevices, mostWindowBytes, requireAnswer, requireSameKind, type DeviceKind } from '../../src/wire/hello.js';
import { mostDataBytes } from '../../src/wire/frame.js';

const kind: DeviceKind = { destination: 'vf0', generation: 2, pci: true, irqs: 6, regions: [[0, 4096], [7, 256]], ids: [0x1af4, 0x1000, 1] };
const hello = { protocol: 'vfio-rx migration', versions: [1, 1], migration: 'm', purpose: 'migrate', devices: [kind] };

describe('a hello', () => {
  it('is taken as it is', () => expect(decodeHello(hello)).toEqual(hello));

  it.each([
    ['another protocol', { protocol: 'x' }], ['versions that are none', { versions: [1] }], ['no name', { migration: '' }], ['a name too long', { migration: 'm'.repeat(65) }],
    ['a purpose that is none', { purpose: 'copy' }], ['too many devices', { devices: Array.from({ length: mostDevices + 1 }, () => kind) }],
    ['half a region', { devices: [{ ...kind, regions: [[0]] }] }], ['a size that is no integer', { devices: [{ ...kind, regions: [[0, 0.5]] }] }],
  ])('is refused with %s', (_, change) => expect(() => decodeHello({ ...hello, ...change })).toThrow('[VFIO_E_STREAM]'));
});

describe('a welcome', () => {
  const welcome = { version: 1, migration: 'm', windowBytes: 4096, chunkBytes: 1024 };
  it('is taken as it is', () => expect(decodeWelcome(welcome)).toEqual(welcome));

  it.each([{ chunkBytes: 0 }, { chunkBytes: mostDataBytes + 1, windowBytes: mostWindowBytes }, { windowBytes: 1023 }, { windowBytes: mostWindowBytes + 1 }])('is refused with %o', (change) => {
    expect(() => decodeWelcome({ ...welcome, ...change })).toThrow('[VFIO_E_STREAM]');
  });
});

describe('the answer to a hello', () => {
  const welcome = { version: 2, migration: 'm', windowBytes: 1, chunkBytes: 1 };
  it('is in a version that was offered, and about the same migration', () => {
    expect(() => requireAnswer(welcome, { versions: [1, 2], migration: 'm' })).not.toThrow();
    for (const [versions, migration] of [[[1, 1], 'm'], [[3, 4], 'm'], [[1, 2], 'n']] as const) expect(() => requireAnswer(welcome, { versions: [...versions], migration })).toThrow('[VFIO_E_INCOMPATIBLE]');
  });
});

describe('versions', () => {
  it('are the newest that both speak', () => {
    expect([commonVersion([1, 3], [1, 2]), commonVersion([1, 1], [1, 2]), commonVersion([2, 9], [1, 2])]).toEqual([1 + 1, 1, 2]);
  });

  it.each([[[3, 4], [1, 2]], [[1, 2], [3, 4]], [[2, 1], [1, 2]]] as const)('of %j and %j have none in common', (theirs, own) => {
    expect(() => commonVersion([...theirs], own)).toThrow('[VFIO_E_INCOMPATIBLE]');
  });
});

describe('devices', () => {
  it('of one kind may have their regions in another order, and other names', () => {
    expect(() => { requireSameKind(kind, { ...kind, destination: 'x', regions: [[7, 256], [0, 4096]] }); }).not.toThrow();
  });

  it.each<[string, Partial<DeviceKind>]>([
    ['generations', { generation: 1 }], ['buses', { pci: false }], ['irqs', { irqs: 7 }], ['regions', { regions: [[0, 4096]] }], ['vendor', { ids: [0x8086, 0x1000, 1] }],
  ])('that differ in their %s are refused, and the error says so', (what, change) => {
    expect(() => { requireSameKind(kind, { ...kind, ...change }); }).toThrow(what);
    expect(() => { requireSameKind(kind, { ...kind, ...change }); }).toThrow('[VFIO_E_INCOMPATIBLE]');
  });
});
