import { describe, expect, it } from 'vitest';
import { parsePathAddress } from '../../src/devices/address.js';
import { openDevice } from '../../src/devices/index.js';

describe('the address of something at a path', () => {
  it.each([
    ['unix:/run/device.sock', { kind: 'vfio-user', path: '/run/device.sock' }],
    ['vfio-user:/run/device.sock', { kind: 'vfio-user', path: '/run/device.sock' }],
    ['trace:run.jsonl', { kind: 'trace', path: 'run.jsonl' }],
    ['unix:', undefined],
    ['group:7', undefined],
    ['0000:03:00.0', undefined],
  ])('%s', (text, at) => {
    expect(parsePathAddress(text)).toEqual(at);
  });

  it('may be unix: for openDevice too, and the message for one that is none names that form', async () => {
    const errorOf = (address: string) => new Promise((error) => openDevice(address).subscribe({ error }));
    expect(await errorOf('unix:/nobody/device.sock')).toMatchObject({ code: 'VFIO_E_ADDRESS', device: 'vfio-user:/nobody/device.sock', errno: 'ENOENT' });
    expect(await errorOf('unix:')).toMatchObject({ code: 'VFIO_E_ADDRESS', message: expect.stringContaining('unix:PATH') as unknown });
  });
});
