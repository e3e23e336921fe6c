import { describe, expect, it } from 'vitest';
import { defaultCapabilities, encodeVersion, ownVersion, readVersion } from '../../../../src/devices/vfio-user/messages/version.js';
import { survives } from '../../../support/vfio-user/hostile.js';

function payload(json: string, major = 0, minor = 0): Uint8Array {
  const text = new TextEncoder().encode(json);
  const bytes = new Uint8Array(4 + text.length);
  new DataView(bytes.buffer).setUint16(0, major, true);
  new DataView(bytes.buffer).setUint16(2, minor, true);
  bytes.set(text, 4);
  return bytes;
}

describe('VERSION', () => {
  it('is read back as it was written, and fits what QEMU takes as a reply', () => {
    const bytes = encodeVersion(ownVersion);
    expect(readVersion(bytes)).toEqual(ownVersion);
    expect(bytes.length + 16).toBeLessThanOrEqual(214);
    expect(bytes.at(-1)).toBe(0);
  });

  it('reads what QEMU and libvfio-user say', () => {
    const qemu = '{"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, "max_data_xfer_size": 1048576, "migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, "write_multiple": true}}\0';
    expect(readVersion(payload(qemu))).toEqual({ ...ownVersion, capabilities: { ...ownVersion.capabilities, remap: false } });
    const libvfioUser = '{ "capabilities": { "max_msg_fds": 8, "max_data_xfer_size": 1048576, "migration": { "pgsize": 4096 } } }\0';
    expect(readVersion(payload(libvfioUser, 0, 2))).toEqual({ major: 0, minor: 2, capabilities: { ...defaultCapabilities, maxFds: 8 } });
  });

  it('takes the defaults where nothing is said', () => {
    for (const json of ['', '\0', '{}\0', '{"capabilities":{}}\0']) expect(readVersion(payload(json)).capabilities).toEqual(defaultCapabilities);
  });

  it('offers remaps as an extension that nobody else need know', () => {
    const remapOf = (remap: unknown): boolean => readVersion(payload(`${JSON.stringify({ capabilities: { vfio_rx: { remap } } })}\0`)).capabilities.remap;
    expect([remapOf(0), remapOf(1), remapOf(2), remapOf(undefined)]).toEqual([false, true, true, false]);
    expect(() => remapOf('1')).toThrow(expect.objectContaining({ code: 'VFIO_E_PROTOCOL' }));
  });

  it.each([
    ['no NUL', '{}'],
    ['no JSON', 'capabilities\0'],
    ['a number', '7\0'],
    ['null', 'null\0'],
    ['fds that are no number', '{"capabilities":{"max_msg_fds":"8"}}\0'],
    ['fewer than no fds', '{"capabilities":{"max_msg_fds":-1}}\0'],
    ['half a byte', '{"capabilities":{"max_data_xfer_size":0.5}}\0'],
    ['no page size', '{"capabilities":{"pgsizes":0}}\0'],
    ['more JSON than anybody needs', `{"a":"${'a'.repeat(5000)}"}\0`],
    ['no UTF-8', '{"a":"\ud800"}\0'.replace('\ud800', '\u00ff')],
  ])('refuses %s', (what, json) => {
    const bytes = what === 'no UTF-8' ? Uint8Array.from([0, 0, 0, 0, 0x22, 0xff, 0x22, 0]) : payload(json);
    expect(() => readVersion(bytes)).toThrow(expect.objectContaining({ code: 'VFIO_E_PROTOCOL' }));
  });

  it('refuses another major version, and a payload that is cut off', () => {
    expect(() => readVersion(payload('{}\0', 1))).toThrow(expect.objectContaining({ code: 'VFIO_E_UNSUPPORTED' }));
    expect(() => readVersion(new Uint8Array(3))).toThrow(/cut off/);
  });

  it('never lets a peer raise what is sent to it beyond the own bound', () => {
    expect(readVersion(payload('{"capabilities":{"max_data_xfer_size":9007199254740991}}\0')).capabilities.maxDataBytes).toBe(1 << 20);
  });

  it('survives whatever comes', () => survives(readVersion, [encodeVersion(ownVersion), payload('{"capabilities":{"max_msg_fds":8,"vfio_rx":{"remap":1}}}\0')]));
});
