import { describe, expect, test } from 'vitest';
import { VfioError } from '../../../src/errors.js';
import { errnoName } from '../../../src/devices/linux/binding.js';
import { koffiBinding } from '../../../src/devices/linux/koffi-binding.js';
import { Syscalls, linuxSyscalls } from '../../../src/devices/linux/syscalls.js';
import { faultyBinding } from '../../support/faulty-binding.js';
import { countFds } from './process-state.js';

const thrown = (work: () => unknown): VfioError => {
  try {
    work();
  } catch (error) {
    if (VfioError.is(error)) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
};

describe('the binding', () => {
  test('takes errno from its own call', () => {
    const binding = koffiBinding();
    expect(errnoName(binding.open('/nonexistent', 0))).toBe('ENOENT');
    expect(errnoName(binding.close(-1))).toBe('EBADF');
    expect(errnoName(binding.ioctl(1_000_000, 0x3b64, 0))).toBe('EBADF');
    expect(errnoName(binding.mmap(0, 4096, 1, 0x02, -1, 0n))).toBe('EBADF');
    expect(errnoName(binding.readCount(1_000_000))).toBe('EBADF');
    expect(errnoName(512)).toBe('E512');
    expect(errnoName(-11)).toBe('EAGAIN');
    expect(errnoName(-95)).toBe('EOPNOTSUPP');
  });

  test('refuses to watch what is no fd: libuv would abort the process', () => {
    expect(() => koffiBinding().watch(-1, () => undefined)).toThrow(RangeError);
  });

  test('refuses a view that V8 cannot make: koffi would abort the process', () => {
    expect(() => koffiBinding().view(4096, 2 ** 53 - 4096)).toThrow(RangeError);
  });

  test('reads and writes at 64-bit offsets, and finds a struct by its address', () => {
    const calls = linuxSyscalls();
    const fd = calls.open('/proc/self/mem', 2);
    try {
      const struct = new Uint8Array(4096).fill(7);
      const address = BigInt(calls.binding.addressOf(struct));
      expect(address).toBeGreaterThan(0n);
      const bytes = new Uint8Array(16);
      expect(calls.pread(fd, bytes, address + 8n)).toBe(16);
      expect([...bytes]).toEqual(new Array(16).fill(7));
      expect(calls.pwrite(fd, new Uint8Array([1, 2]), address)).toBe(2);
      expect([...struct.subarray(0, 3)]).toEqual([1, 2, 7]);
    } finally {
      calls.close(fd);
    }
  });
});

describe('errors', () => {
  test('a wrong path names the file and what to check', () => {
    expect(thrown(() => linuxSyscalls().open('/dev/vfio/none'))).toMatchObject({ code: 'VFIO_E_ADDRESS', errno: 'ENOENT', operation: 'open', device: '/dev/vfio/none' });
  });

  test.each([
    ['EACCES', 'VFIO_E_PERMISSION'],
    ['EPERM', 'VFIO_E_PERMISSION'],
    ['EMFILE', 'VFIO_E_LIMIT'],
    ['ENODEV', 'VFIO_E_NO_DEVICE'],
  ] as const)('open: %s is %s', (errno, code) => {
    const calls = new Syscalls(faultyBinding(koffiBinding(), { open: [errno] }));
    expect(thrown(() => calls.open('/dev/vfio/vfio'))).toMatchObject({ code, errno });
  });

  test('an ioctl names its operation and device', () => {
    const calls = new Syscalls(faultyBinding(koffiBinding(), { ioctl: ['ENOTTY'] }));
    expect(thrown(() => calls.ioctl(0, 0x3b6c, 0, { operation: 'VFIO_DEVICE_GET_INFO', device: 'd0' }))).toMatchObject({ code: 'VFIO_E_UNSUPPORTED', operation: 'VFIO_DEVICE_GET_INFO', device: 'd0' });
  });
});

describe('EINTR', () => {
  test('open, read and write are tried again', () => {
    const binding = faultyBinding(koffiBinding(), { open: ['EINTR', 'EINTR'], read: ['EINTR'], readCount: ['EINTR'], writeCount: ['EINTR'] });
    const calls = new Syscalls(binding);
    const fd = calls.open('/dev/zero', 0);
    expect(calls.read(fd, new Uint8Array(8))).toBe(8);
    calls.close(fd);
    expect(binding.calls['open']).toBe(3);
    const eventfd = calls.eventfd();
    expect(calls.writeCount(eventfd, 3n)).toBe(true);
    expect(calls.readCount(eventfd)).toBe(3n);
    calls.close(eventfd);
  });

  test('not for ever', () => {
    const binding = faultyBinding(koffiBinding(), { open: new Array<'EINTR'>(100).fill('EINTR') });
    expect(thrown(() => new Syscalls(binding).open('/dev/zero')).code).toBe('VFIO_E_CANCELED');
    expect(binding.calls['open']).toBe(17);
  });

  test('an ioctl is not: the vendor driver may mean it', () => {
    const binding = faultyBinding(koffiBinding(), { ioctl: ['EINTR'] });
    expect(thrown(() => new Syscalls(binding).ioctl(0, 0x3b75, 0, { operation: 'VFIO_DEVICE_FEATURE' })).code).toBe('VFIO_E_CANCELED');
    expect(binding.calls['ioctl']).toBe(1);
  });
});

test('EMFILE at eventfd leaks nothing', () => {
  const before = countFds('eventfd');
  const calls = new Syscalls(faultyBinding(koffiBinding(), { eventfd: ['EMFILE'] }));
  expect(thrown(() => calls.eventfd())).toMatchObject({ code: 'VFIO_E_LIMIT', errno: 'EMFILE' });
  expect(countFds('eventfd')).toBe(before);
});
