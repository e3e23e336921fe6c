import { firstValueFrom } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseAddress } from '../../src/devices/kernel/address.js';
import { findDevice } from '../../src/devices/kernel/discovery.js';
import { linuxSyscalls } from '../../src/devices/linux/syscalls.js';
import { openDevice } from '../../src/devices/open.js';
import { encodeAttach, encodeBind, encodeDetach, readAttached, readBound } from '../../src/devices/uapi/cdev.js';
import { IOMMU_DESTROY, IOMMU_IOAS_ALLOC, VFIO_DEVICE_ATTACH_IOMMUFD_PT, VFIO_DEVICE_BIND_IOMMUFD, VFIO_DEVICE_DETACH_IOMMUFD_PT, VFIO_DEVICE_GET_INFO } from '../../src/devices/uapi/constants.js';
import { encodeDestroy, encodeIoasAlloc, readIoasId } from '../../src/devices/uapi/iommufd.js';
import { VfioError } from '../../src/errors.js';
import { nothingHeld, SampleMdev, vfioFds } from '../support/mdev.js';

const calls = linuxSyscalls();

/** `ok`, or the errno and the code of the typed error. */
function outcome(call: () => unknown): string {
  try {
    call();
    return 'ok';
  } catch (error) {
    if (!VfioError.is(error)) throw error;
    return `${error.errno ?? ''} ${error.code}`;
  }
}

/** What the kernel refuses, call by call: the library makes these in the right order, so its users never see it. */
describe('bind and attach by themselves', () => {
  let mdev: SampleMdev;
  let device: number;
  let iommufd: number;
  let ioas: number;

  const ioctl = (fd: number, request: number, argument: Uint8Array) => calls.ioctl(fd, request, argument, { operation: 'test' });
  const bind = (fd = iommufd): Uint8Array => {
    const argument = encodeBind(fd);
    ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, argument);
    return argument;
  };
  const attach = (pt: number): Uint8Array => {
    const argument = encodeAttach(pt);
    ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, argument);
    return argument;
  };
  const detach = () => ioctl(device, VFIO_DEVICE_DETACH_IOMMUFD_PT, encodeDetach());
  const info = () => ioctl(device, VFIO_DEVICE_GET_INFO, Uint8Array.of(20, ...new Uint8Array(19)));

  beforeEach(() => {
    mdev = new SampleMdev();
    device = calls.open(`/dev/vfio/devices/${findDevice(parseAddress(mdev.uuid)).cdev ?? ''}`);
    iommufd = calls.open('/dev/iommu');
    const argument = encodeIoasAlloc();
    ioctl(iommufd, IOMMU_IOAS_ALLOC, argument);
    ioas = readIoasId(argument);
  });

  afterEach(async () => {
    for (const fd of [iommufd, device]) if (fd >= 0) calls.close(fd);
    expect(mdev.held()).toEqual(nothingHeld);
    // Nothing is left behind that the next one would meet.
    await (await firstValueFrom(openDevice(mdev.uuid))).close();
    expect(vfioFds()).toEqual([]);
    mdev[Symbol.dispose]();
  });

  it('before bind nothing works', () => {
    const busy = { info: outcome(info), attach: outcome(() => attach(ioas)), detach: outcome(detach), read: outcome(() => calls.pread(device, new Uint8Array(2), 7n << 40n)) };
    expect(busy).toEqual({ info: 'EINVAL VFIO_E_IO', attach: 'EINVAL VFIO_E_IO', detach: 'EINVAL VFIO_E_IO', read: 'EINVAL VFIO_E_IO' });
    expect(mdev.number('opens')).toBe(0);
  });

  it('what is no iommufd is not bound to', () => {
    const other = calls.open('/dev/null');
    // EBADFD, which node has no name for.
    expect([outcome(() => bind(other)), outcome(() => bind(9999)), mdev.number('opens')]).toEqual(['E77 VFIO_E_IO', 'EBADF VFIO_E_IO', 0]);
    calls.close(other);
    expect(readBound(bind())).toBeGreaterThan(0);
    expect([outcome(info), mdev.number('opens')]).toEqual(['ok', 1]);
  });

  it('a second bind is refused, of the same file and of another', () => {
    bind();
    expect(outcome(() => bind())).toBe('EINVAL VFIO_E_IO');
    const first = device;
    device = calls.open(`/dev/vfio/devices/${findDevice(parseAddress(mdev.uuid)).cdev ?? ''}`);
    expect(outcome(() => bind())).toBe('EINVAL VFIO_E_IO');
    calls.close(first);
    expect(outcome(() => bind())).toBe('ok');
  });

  it('only an IOAS can be attached to, and another takes its place', () => {
    const id = readBound(bind());
    expect([outcome(() => attach(9999)), outcome(() => attach(id))]).toEqual(['ENOENT VFIO_E_ADDRESS', 'ENOENT VFIO_E_ADDRESS']);
    expect(readAttached(attach(ioas))).toBe(ioas);
    const argument = encodeIoasAlloc();
    ioctl(iommufd, IOMMU_IOAS_ALLOC, argument);
    expect(readAttached(attach(readIoasId(argument)))).toBe(readIoasId(argument));
    expect(outcome(detach)).toBe('ok');
    expect(outcome(detach)).toBe('ok');
  });

  it('an IOAS goes when nobody is attached to it', () => {
    bind();
    attach(ioas);
    expect(outcome(() => ioctl(iommufd, IOMMU_DESTROY, encodeDestroy(ioas)))).toBe('EBUSY VFIO_E_BUSY');
    detach();
    expect(outcome(() => ioctl(iommufd, IOMMU_DESTROY, encodeDestroy(ioas)))).toBe('ok');
  });

  it.each([['device', 'iommufd'], ['iommufd', 'device']])('closes in any order: %s first', (first) => {
    bind();
    attach(ioas);
    if (first === 'iommufd') {
      calls.close(iommufd);
      iommufd = -1;
      expect([outcome(info), mdev.number('opens')]).toEqual(['ok', 1]);
    } else {
      calls.close(device);
      device = -1;
      expect(mdev.number('opens')).toBe(0);
    }
  });
});
