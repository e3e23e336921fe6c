import { defer } from 'rxjs';
import { VfioError } from '../../errors.js';
import type { Call } from '../port.js';
import { IovaTable } from '../protocol/dma-ranges.js';
import type { DmaCaller, DmaEntry, DmaSpace } from './dma-space.js';

/** No IOMMU stands in front of the device: it reaches all of memory by physical addresses, and nobody maps anything for it. */
export class NoIommuSpace implements DmaSpace {
  readonly iovas = new IovaTable<DmaEntry>();
  readonly operations = { limits: 'VFIO_IOMMU_GET_INFO', map: 'VFIO_IOMMU_MAP_DMA', unmap: 'VFIO_IOMMU_UNMAP_DMA' } as const;
  readonly noAreas = undefined;
  readonly limits = refuse;
  readonly map = (_range: unknown, caller: DmaCaller) => refuse(caller);
  readonly unmap = (_range: unknown, caller: DmaCaller) => refuse(caller);
}

function refuse({ device }: DmaCaller): Call<never> {
  return defer(() => {
    throw new VfioError('VFIO_E_UNSUPPORTED', 'no IOMMU is in front of this device: nothing can be mapped for it', { operation: 'map DMA', device });
  });
}
