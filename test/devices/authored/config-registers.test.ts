import { describe, expect, it } from 'vitest';
import { configImage } from '../../../src/devices/authored/config-image.js';
import { ConfigRegisters } from '../../../src/devices/authored/config-registers.js';
import { shapeOfPciDevice } from '../../../src/devices/authored/description.js';
import { sample } from './sample.js';

const fresh = (): ConfigRegisters => new ConfigRegisters(configImage(shapeOfPciDevice(sample)));

describe('the registers of configuration space', () => {
  it('tell the size of a BAR to who writes ones', () => {
    const registers = fresh();
    const ones = Uint8Array.of(0xff, 0xff, 0xff, 0xff);
    for (const index of [0, 1, 2]) registers.write(0x10 + 4 * index, ones);
    const bar = (index: number): number => new DataView(registers.read(0x10 + 4 * index, 4).buffer).getUint32(0, true);
    expect([0, 1, 2].map(bar)).toEqual([0xffff_f000, 0, 0xffff_fff9]);
  });

  it('keep what is not to be written', () => {
    const registers = fresh();
    registers.write(0, new Uint8Array(256).fill(0xff));
    expect([...registers.read(0, 4)]).toEqual([0x34, 0x12, 0x78, 0x56]);
    expect(registers.command).toMatchObject({ ioSpace: true, memorySpace: true, busMaster: true, intxDisable: true, value: 0x0547 });
  });

  it('show the line in the status register', () => {
    const registers = fresh();
    registers.line = true;
    expect(registers.read(6, 1)[0]).toBe(0x18);
    registers.line = false;
    expect(registers.read(6, 1)[0]).toBe(0x10);
  });

  it('are after a reset what they were in the beginning', () => {
    const registers = fresh();
    const before = registers.read(0, 256);
    registers.write(0, new Uint8Array(256).fill(0xa5));
    expect(registers.read(0, 256)).not.toEqual(before);
    registers.reset();
    expect(registers.read(0, 256)).toEqual(before);
  });
});
