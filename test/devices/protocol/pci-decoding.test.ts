import { describe, expect, it } from 'vitest';
import { decodesMemory, decodingEffect, decodingRegisters } from '../../../src/devices/protocol/pci-decoding.js';
import { pciSpace } from './pci-space.js';

const registers = decodingRegisters(pciSpace({ capabilities: [[0x01, 0x40], [0x10, 0x60], [0x13, 0xa0]] }));
const none = { touches: false, suspends: false, slow: false };
const looks = { touches: true, suspends: false, slow: false };
const suspends = { touches: true, suspends: true, slow: false };
const u16 = (value: number): Uint8Array => Uint8Array.of(value & 0xff, value >> 8);

describe('decoding of memory', () => {
  it('is decided by three capabilities and the command register', () => {
    expect(registers).toEqual({ command: 4, power: 0x44, resets: [{ at: 0x69, bit: 0x80 }, { at: 0xa4, bit: 1 }] });
    expect(decodingRegisters(pciSpace({}))).toEqual({ command: 4, power: undefined, resets: [] });
    expect(decodingRegisters(new Uint8Array(0))).toEqual({ command: 4, power: undefined, resets: [] });
  });

  it('finds what stands in front of a break in the list', () => {
    expect(decodingRegisters(pciSpace({ capabilities: [[0x01, 0x40], [0x10, 0x3c]] })).power).toBe(0x44);
  });

  it.each([
    ['memory space off', 4, u16(0x0004), suspends],
    ['memory space on', 4, u16(0x0006), looks],
    ['its low byte alone', 4, Uint8Array.of(0), suspends],
    ['its high byte alone', 5, Uint8Array.of(0), none],
    ['a write that begins before it', 0, Uint8Array.of(0, 0, 0, 0, 2, 0, 0, 0), looks],
    ['a write that ends before it', 0, Uint8Array.of(0, 0, 0, 0), none],
    ['D3hot', 0x44, u16(0x0003), { touches: true, suspends: true, slow: true }],
    ['D2', 0x44, u16(0x0002), { touches: true, suspends: false, slow: true }],
    ['the head of the power management capability', 0x40, Uint8Array.of(0xff, 0xff, 0xff, 0xff), none],
    ['function level reset', 0x68, u16(0x8000), { touches: true, suspends: true, slow: true }],
    ['another bit of device control', 0x68, u16(0x7fff), none],
    ['its low byte alone', 0x68, Uint8Array.of(0xff), none],
    ['reset of advanced features', 0xa4, Uint8Array.of(1), { touches: true, suspends: true, slow: true }],
    ['a BAR', 0x10, Uint8Array.of(0, 0, 0, 0), none],
  ])('%s', (_, offset, bytes, effect) => {
    expect(decodingEffect(registers, offset, bytes)).toEqual(effect);
  });

  it('wants the bit and any state but D3hot', () => {
    expect([decodesMemory(2, undefined), decodesMemory(5, undefined), decodesMemory(7, 2), decodesMemory(7, 0x103), decodesMemory(0, 0)]).toEqual([true, false, true, false, false]);
  });
});
