import { describe, expect, it } from 'vitest';
import { shapeOfPciDevice } from '../../../src/devices/authored/description.js';
import { MsixTable } from '../../../src/devices/authored/msix-table.js';
import { sample } from './sample.js';

describe('the table of MSI-X', () => {
  const { msix } = shapeOfPciDevice(sample);
  if (msix === undefined) throw new Error('the sample has MSI-X');

  it('is a part of its BAR, whose other registers are the device\'s', () => {
    const table = new MsixTable(msix);
    expect([0x7fc, 0x800, 0x837, 0x838].map((offset) => table.has(0, offset))).toEqual([false, true, true, false]);
    expect(table.has(2, 0x800)).toBe(false);
  });

  it('keeps what is written, with all vectors masked in the beginning; pending bits are read-only', () => {
    const table = new MsixTable(msix);
    expect([0x80c, 0x81c, 0x82c].map((offset) => table.read(offset, 4)[0])).toEqual([1, 1, 1]);
    table.write(0x80c, new Uint8Array(4));
    table.write(0x830, Uint8Array.of(1, 2, 3, 4));
    expect([...table.read(0x80c, 4), ...table.read(0x830, 4)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    table.reset();
    expect(table.read(0x80c, 1)[0]).toBe(1);
  });
});
