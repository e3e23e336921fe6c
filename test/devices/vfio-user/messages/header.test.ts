import { describe, expect, it } from 'vitest';
import { viewOf } from '../../../../src/devices/uapi/bytes.js';
import { commandName, commands, encodeMessage, headerLayout, maxMessageBytes, readHeader } from '../../../../src/devices/vfio-user/messages/header.js';
import { survives } from '../../../support/vfio-user/hostile.js';

describe('the header of vfio-user', () => {
  it('stands at the offsets of the protocol', () => {
    const bytes = encodeMessage({ id: 0x1234, command: commands.REGION_READ, kind: 'command' }, new Uint8Array(16));
    expect(Buffer.from(bytes.subarray(0, 16)).toString('hex')).toBe('34120900200000000000000000000000');
    expect(Buffer.from(encodeMessage({ id: 1, command: 10, kind: 'no-reply' })).toString('hex')).toBe('01000a00100000001000000000000000');
    expect(Buffer.from(encodeMessage({ id: 1, command: 10, kind: 'reply', errno: 22 })).toString('hex')).toBe('01000a00100000002100000016000000');
  });

  it('is read back as it was written', () => {
    for (const kind of ['command', 'no-reply', 'reply'] as const) {
      const header = readHeader(viewOf(encodeMessage({ id: 65_535, command: 18, kind }, new Uint8Array(5))));
      expect(header).toEqual({ id: 65_535, command: 18, reply: kind === 'reply', noReply: kind === 'no-reply', errno: undefined, payloadBytes: 5 });
    }
    expect(readHeader(viewOf(encodeMessage({ id: 1, command: 2, kind: 'reply', errno: 0 }))).errno).toBe(0);
  });

  it('refuses a size that no message has, and a type that is none', () => {
    const bytes = encodeMessage({ id: 1, command: 1, kind: 'command' });
    const view = new DataView(bytes.buffer);
    for (const size of [0, 15, maxMessageBytes + 1, 0xffff_ffff]) {
      view.setUint32(headerLayout.size, size, true);
      expect(() => readHeader(viewOf(bytes))).toThrow(expect.objectContaining({ code: 'VFIO_E_PROTOCOL' }));
    }
    view.setUint32(headerLayout.size, 16, true);
    view.setUint32(headerLayout.flags, 2, true);
    expect(() => readHeader(viewOf(bytes))).toThrow(/neither command nor reply/);
    expect(() => encodeMessage({ id: 1, command: 1, kind: 'command' }, new Uint8Array(maxMessageBytes))).toThrow(expect.objectContaining({ code: 'VFIO_E_RANGE' }));
  });

  it('names the commands', () => {
    expect(commandName(17)).toBe('MIG_DATA_READ');
    expect([0, 14, 19, 65_535].map(commandName)).toEqual([undefined, undefined, undefined, undefined]);
  });

  it('survives whatever comes', () => {
    survives((bytes) => bytes.length >= 16 && readHeader(viewOf(bytes)), [encodeMessage({ id: 7, command: 3, kind: 'command' })]);
  });
});
