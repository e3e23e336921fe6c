import { map, of } from 'rxjs';
import type { VfioDevice } from '../devices/device.js';
import type { Call } from '../devices/port.js';
import { VFIO_REGION_TYPE_MIGRATION_DEPRECATED } from '../devices/uapi/constants.js';
import { VfioError } from '../errors.js';
import type { DeviceKind } from '../wire/hello.js';

/** What makes the device one kind with another. Fails with VFIO_E_UNSUPPORTED where it cannot migrate. */
export function deviceKind(device: VfioDevice, destination: string): Call<DeviceKind> {
  const { migration, info, config } = device;
  if (migration === undefined) throw new VfioError('VFIO_E_UNSUPPORTED', 'the device cannot migrate', { operation: 'migrate', device: device.name });
  const kind: DeviceKind = {
    destination,
    generation: migration.version,
    pci: info.pci,
    irqs: info.irqs,
    // The migration region of v1 carries the state, and is none of it.
    regions: [...device.layoutsNow.values()].filter(({ type }) => type?.type !== VFIO_REGION_TYPE_MIGRATION_DEPRECATED).map(({ index, size }) => [index, size]),
  };
  if (config === undefined) return of(kind);
  return config.region.request({ offset: 0, readBytes: 16 }).pipe(
    map((bytes) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      return { ...kind, ids: [view.getUint16(0, true), view.getUint16(2, true), view.getUint8(8)] };
    }),
  );
}
