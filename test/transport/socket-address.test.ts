import { describe, expect, it } from 'vitest';
import { mostPathBytes } from '../../src/devices/linux/unix-address.js';
import { hostAndPort, ipAddress, unixAddress } from '../../src/transport/socket-address.js';

describe('a sockaddr', () => {
  it('of IPv4 has family and port in their own orders, then the address', () => {
    expect([...ipAddress('192.0.2.7', 4444).bytes]).toEqual([2, 0, 0x11, 0x5c, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
  });

  it.each([
    ['::1', [0, 0, 0, 0, 0, 0, 0, 1]], ['::', [0, 0, 0, 0, 0, 0, 0, 0]], ['2001:db8::8a2e:370:7334', [0x2001, 0xdb8, 0, 0, 0, 0x8a2e, 0x370, 0x7334]],
    ['1:2:3:4:5:6:7:8', [1, 2, 3, 4, 5, 6, 7, 8]], ['fe80::', [0xfe80, 0, 0, 0, 0, 0, 0, 0]], ['::ffff:192.0.2.7', [0, 0, 0, 0, 0, 0xffff, 0xc000, 0x207]],
  ])('of IPv6 has the groups of %s', (text, groups) => {
    const { bytes } = ipAddress(text, 80);
    expect([bytes.length, bytes[0], bytes[2], bytes[3]]).toEqual([28, 10, 0, 80]);
    expect(Array.from({ length: 8 }, (_, n) => new DataView(bytes.buffer).getUint16(8 + 2 * n))).toEqual(groups);
  });

  it.each([['127.0.0.1', '127.0.0.1:65535'], ['::1', '[::1]:65535'], ['2001:DB8:0:0::1', '[2001:db8::1]:65535']])('of %s reads %s', (text, read) => {
    expect(hostAndPort(ipAddress(text, 65535).bytes)).toBe(read);
  });

  it('of a UNIX socket holds a path, and a longer one than it has room for is none', () => {
    expect(Buffer.from(unixAddress('/a')?.bytes ?? []).subarray(0, 5)).toEqual(Buffer.of(1, 0, 0x2f, 0x61, 0));
    expect(unixAddress('x'.repeat(mostPathBytes))).toBeDefined();
    expect(unixAddress('x'.repeat(mostPathBytes + 1))).toBeUndefined();
    expect(hostAndPort(unixAddress('/a')?.bytes ?? new Uint8Array())).toBeUndefined();
    expect(hostAndPort(new Uint8Array())).toBeUndefined();
  });
});
