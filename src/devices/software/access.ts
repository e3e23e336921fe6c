import { errnoError, VfioError } from '../../errors.js';
import type { AccessRequest } from '../port.js';
import { migrationInfoLayout } from '../uapi/migration-info.js';
import type { VendorDriver } from './vendor-driver.js';

/** A trapped access: checked, then put to the driver. A write answers with no bytes. */
export function accessDevice(driver: VendorDriver, request: AccessRequest): Uint8Array {
  const { region, offset, write, readBytes } = request;
  const operation = write === undefined ? 'pread' : 'pwrite';
  const device = driver.shape.name;
  const refuse = (what: string): never => {
    throw new VfioError('VFIO_E_RANGE', what, { operation, device });
  };
  if ((write === undefined) === (readBytes === undefined)) refuse('an access has exactly one of write and readBytes');
  const bytes = write?.length ?? readBytes ?? 0;
  const shape = driver.shape.regions.get(region);
  if (shape === undefined) throw new VfioError('VFIO_E_NO_REGION', `this device has no region ${region}`, { operation, device, errno: 'EINVAL' });
  if (!Number.isSafeInteger(offset) || offset < 0 || !Number.isSafeInteger(bytes) || bytes < 1 || offset + bytes > shape.size) {
    refuse(`${bytes} bytes at 0x${offset.toString(16)} are not inside region ${region} of ${shape.size} bytes`);
  }
  if ((bytes === 2 || bytes === 4 || bytes === 8) && offset % bytes !== 0) refuse(`${bytes} bytes at 0x${offset.toString(16)} are not naturally aligned`);
  if (write !== undefined && region === driver.shape.migrationRegion && offset < migrationInfoLayout.reserved) {
    refuse('device_state is written by transition(), which waits for it on a lane of its own');
  }
  if (write !== undefined) {
    const errno = driver.write(region, offset, write);
    if (errno !== undefined) throw errnoError(errno, operation, device);
    return new Uint8Array(0);
  }
  const answer = driver.read(region, offset, bytes);
  if (typeof answer === 'string') throw errnoError(answer, operation, device);
  return answer;
}
