import { describe, expect, it } from 'vitest';
import { parseDeviceName } from '../../src/cli/device-name.js';
import { parseDevice } from '../../src/cli/devices.js';

const uuid = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';

describe('the name of a device', () => {
  it.each([
    ['0000:03:00.1', 'pci', '0000:03:00.1'],
    ['03:00.1', 'pci', '03:00.1'],
    [uuid, 'mdev', uuid],
    ['group:7', 'group', 'group:7'],
    ['group:7/0000:03:00.1', 'group', 'group:7/0000:03:00.1'],
    ['/dev/vfio/devices/vfio12', 'cdev', '/dev/vfio/devices/vfio12'],
    ['unix:/run/device.sock', 'vfio-user', 'vfio-user:/run/device.sock'],
    ['vfio-user:/run/device.sock', 'vfio-user', 'vfio-user:/run/device.sock'],
    ['trace:run.jsonl', 'trace', 'trace:run.jsonl'],
  ])('%s is of kind %s', (text, kind, address) => {
    expect(parseDeviceName(text)).toMatchObject({ kind, address, alias: undefined });
    expect(parseDeviceName(`${text}=other`)).toMatchObject({ kind, address, alias: 'other' });
    expect(parseDevice(text)).toEqual({ name: address, address });
    expect(parseDevice(`${text}=other`)).toEqual({ name: 'other', address });
  });

  it.each([
    ['software', 'software'],
    ['software=d0', 'd0'],
    ['software:vf0', 'vf0'],
    ['software:vf0=d0', 'd0'],
    ['software:vf0?bytes=4096&seed=7&version=1', 'vf0'],
    ['software:vf0?seed=7=d0', 'd0'],
    ['software:vf0?every=500', 'vf0'],
  ])('%s is a device in this process, called %s', (text, name) => {
    expect(parseDeviceName(text)).toMatchObject({ kind: 'software' });
    expect(parseDevice(text)).toMatchObject({ name, address: { open: expect.any(Function) as unknown } });
  });

  it.each(['', 'eth0', '0000:03:00.8', '3:0.1', 'group:x', '/dev/vfio/7', '/dev/vfio/devices/vfio', '/dev/vfio/devices/../vfio0', 'unix:', 'vfio-user:', 'trace:', 'software:', 'software:?bytes=1', 'softwarevf0', uuid.slice(1)])('"%s" names none, and the message says what does', (text) => {
    expect(() => parseDeviceName(text)).toThrow(expect.objectContaining({ code: 'VFIO_E_ADDRESS', message: expect.stringMatching(/names no device: a PCI address \(0000:03:00\.0\), .*\. What there is: vfio-rx list/) as unknown }) as Error);
  });

  it.each(['software:x?bytes=-1', 'software:x?bytes=many', 'software:x?byte=1', 'software:x?every=1000000', `software:x?bytes=${2 ** 31}`])('"%s" is no software device', (text) => {
    expect(() => parseDevice(text)).toThrow(expect.objectContaining({ code: 'VFIO_E_ADDRESS', message: expect.stringContaining('software:NAME?every=MS') as unknown }) as Error);
  });
});
