import { existsSync } from 'node:fs';

/** The ways in which the guest's kernel lets a device be opened. */
export const kernelWays = existsSync('/dev/iommu') ? (['group', 'cdev'] as const) : (['group'] as const);

/** Why areas of devices cannot be mapped for DMA, where devices are opened the usual way. */
export const noAreaDma = existsSync('/dev/iommu') ? 'an iommufd maps memory, no areas of devices' : undefined;
