import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it, type TestContext } from 'vitest';

import { capHeaderLayout } from '../../../src/devices/uapi/capabilities.js';
import { attachIommufdLayout, bindIommufdLayout, detachIommufdLayout } from '../../../src/devices/uapi/cdev.js';
import * as constants from '../../../src/devices/uapi/constants.js';
import { deviceFeatureLayout } from '../../../src/devices/uapi/device-feature.js';
import { dmaAvailLayout, dmaMapLayout, dmaUnmapLayout, iommuInfoLayout, iommuMigrationLayout, iovaRangeLayout, iovaRangesLayout } from '../../../src/devices/uapi/dma.js';
import { dmaLoggingControlLayout, dmaLoggingRangeLayout, dmaLoggingReportLayout } from '../../../src/devices/uapi/dma-logging.js';
import { deviceInfoLayout } from '../../../src/devices/uapi/device-info.js';
import { groupStatusLayout } from '../../../src/devices/uapi/group.js';
import { hwInfoLayout, hwptAllocLayout, hwptGetDirtyLayout, hwptSetDirtyLayout } from '../../../src/devices/uapi/hwpt.js';
import { ioasAllocLayout, ioasIovaRangeLayout, ioasIovaRangesLayout, ioasMapLayout, ioasUnmapLayout, iommuDestroyLayout } from '../../../src/devices/uapi/iommufd.js';
import { irqInfoChainLayout, irqInfoLayout } from '../../../src/devices/uapi/irq-info.js';
import { irqSetLayout } from '../../../src/devices/uapi/irq-set.js';
import { featureMigrationLayout, migStateLayout } from '../../../src/devices/uapi/migration-feature.js';
import { migrationInfoLayout } from '../../../src/devices/uapi/migration-info.js';
import { precopyInfoLayout } from '../../../src/devices/uapi/precopy-info.js';
import { regionInfoLayout, regionTypeLayout } from '../../../src/devices/uapi/region-info.js';
import { irqTypeLayout, remapCapLayout } from '../../../src/devices/uapi/remap-capability.js';
import { sparseAreaLayout, sparseMmapLayout } from '../../../src/devices/uapi/sparse-areas.js';
import { run } from '../../lanes/children.mjs';
import { probe } from './compile-probes.js';
import { newestHeaders } from './fetch-header.mjs';

/**
 * The numbers that the readers use, against what a compiler says of the newest <linux/vfio.h> that can be had and of this
 * project's vfio_region_remap.h. What the headers lack is printed as `unchecked:`, and only what is listed here may be.
 */

type Layout = Readonly<Record<string, number>>;

const structs: Readonly<Record<string, Layout>> = {
  vfio_info_cap_header: capHeaderLayout,
  vfio_group_status: groupStatusLayout,
  vfio_device_info: deviceInfoLayout,
  vfio_iommu_type1_info: iommuInfoLayout,
  vfio_iommu_type1_info_cap_iova_range: iovaRangesLayout,
  vfio_iova_range: iovaRangeLayout,
  vfio_iommu_type1_info_cap_migration: iommuMigrationLayout,
  vfio_iommu_type1_info_dma_avail: dmaAvailLayout,
  vfio_iommu_type1_dma_map: dmaMapLayout,
  vfio_iommu_type1_dma_unmap: dmaUnmapLayout,
  vfio_region_info: regionInfoLayout,
  vfio_region_info_cap_sparse_mmap: sparseMmapLayout,
  vfio_region_sparse_mmap_area: sparseAreaLayout,
  vfio_region_info_cap_type: regionTypeLayout,
  vfio_irq_info: irqInfoLayout,
  vfio_irq_set: irqSetLayout,
  vfio_device_feature: deviceFeatureLayout,
  vfio_device_feature_migration: featureMigrationLayout,
  vfio_device_feature_mig_state: migStateLayout,
  vfio_device_migration_info: migrationInfoLayout,
  vfio_precopy_info: precopyInfoLayout,
  vfio_device_feature_dma_logging_control: dmaLoggingControlLayout,
  vfio_device_feature_dma_logging_range: dmaLoggingRangeLayout,
  vfio_device_feature_dma_logging_report: dmaLoggingReportLayout,
  vfio_device_bind_iommufd: bindIommufdLayout,
  vfio_device_attach_iommufd_pt: attachIommufdLayout,
  vfio_device_detach_iommufd_pt: detachIommufdLayout,
  iommu_destroy: iommuDestroyLayout,
  iommu_ioas_alloc: ioasAllocLayout,
  iommu_ioas_iova_ranges: ioasIovaRangesLayout,
  iommu_iova_range: ioasIovaRangeLayout,
  iommu_ioas_map: ioasMapLayout,
  iommu_ioas_unmap: ioasUnmapLayout,
  iommu_hw_info: hwInfoLayout,
  iommu_hwpt_alloc: hwptAllocLayout,
  iommu_hwpt_set_dirty_tracking: hwptSetDirtyLayout,
  iommu_hwpt_get_dirty_bitmap: hwptGetDirtyLayout,
  vfio_region_remap_irq_info: irqInfoChainLayout,
  vfio_region_remap_cap_type: irqTypeLayout,
  vfio_region_remap_cap: remapCapLayout,
};

/** Every field of a struct, for a table of what came later. */
const all = (struct: string, version: readonly [number, number]): Readonly<Record<string, readonly [number, number]>> =>
  Object.fromEntries(Object.keys(structs[struct] ?? {}).map((field) => [`${struct}.${field}`, version]));

/** What came to <linux/vfio.h> and <linux/iommufd.h> later than 6.1, with its kernel: an older header lacks it, or says something else. */
const since: Readonly<Record<string, readonly [number, number]>> = {
  VFIO_MIG_GET_PRECOPY_INFO: [6, 2],
  VFIO_MIGRATION_PRE_COPY: [6, 2],
  VFIO_DEVICE_STATE_PRE_COPY: [6, 2],
  VFIO_DEVICE_STATE_PRE_COPY_P2P: [6, 2],
  VFIO_DEVICE_FEATURE_MIG_DATA_SIZE: [6, 2],
  ...all('vfio_precopy_info', [6, 2]),
  IOMMU_DESTROY: [6, 2],
  IOMMU_IOAS_ALLOC: [6, 2],
  IOMMU_IOAS_IOVA_RANGES: [6, 2],
  IOMMU_IOAS_MAP: [6, 2],
  IOMMU_IOAS_UNMAP: [6, 2],
  IOMMU_IOAS_MAP_FIXED_IOVA: [6, 2],
  IOMMU_IOAS_MAP_WRITEABLE: [6, 2],
  IOMMU_IOAS_MAP_READABLE: [6, 2],
  ...all('iommu_destroy', [6, 2]),
  ...all('iommu_ioas_alloc', [6, 2]),
  ...all('iommu_ioas_iova_ranges', [6, 2]),
  ...all('iommu_iova_range', [6, 2]),
  ...all('iommu_ioas_map', [6, 2]),
  ...all('iommu_ioas_unmap', [6, 2]),
  VFIO_DEVICE_BIND_IOMMUFD: [6, 6],
  VFIO_DEVICE_ATTACH_IOMMUFD_PT: [6, 6],
  VFIO_DEVICE_DETACH_IOMMUFD_PT: [6, 6],
  ...all('vfio_device_bind_iommufd', [6, 6]),
  ...all('vfio_device_attach_iommufd_pt', [6, 6]),
  ...all('vfio_device_detach_iommufd_pt', [6, 6]),
  IOMMU_HWPT_ALLOC: [6, 7],
  IOMMU_GET_HW_INFO: [6, 7],
  IOMMU_HWPT_SET_DIRTY_TRACKING: [6, 7],
  IOMMU_HWPT_GET_DIRTY_BITMAP: [6, 7],
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING: [6, 7],
  IOMMU_HWPT_DIRTY_TRACKING_ENABLE: [6, 7],
  IOMMU_HW_CAP_DIRTY_TRACKING: [6, 7],
  ...all('iommu_hw_info', [6, 7]),
  ...all('iommu_hwpt_alloc', [6, 7]),
  ...all('iommu_hwpt_set_dirty_tracking', [6, 7]),
  ...all('iommu_hwpt_get_dirty_bitmap', [6, 7]),
  VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2: [7, 2],
  VFIO_PRECOPY_INFO_REINIT: [7, 2],
  'vfio_device_info.pad': [6, 6],
  'vfio_device_info.sizeof': [6, 6],
};

interface HeaderNumber {
  readonly name: string;
  readonly expression: string;
  readonly ours: number;
}

const numbers: readonly HeaderNumber[] = [
  ...Object.entries(constants).map(([name, ours]) => ({ name, expression: name, ours })),
  ...Object.entries(structs).flatMap(([struct, layout]) =>
    Object.entries(layout).map(([field, ours]) => ({
      name: `${struct}.${field}`,
      expression: field === 'sizeof' ? `sizeof(struct ${struct})` : `offsetof(struct ${struct}, ${field})`,
      ours,
    })),
  ),
];

const versionCode = (major: number, minor: number): number => (major << 16) | (minor << 8);
const remapHeader = fileURLToPath(new URL('../../../drivers/linux/vfio_region_remap.h', import.meta.url));
const uapi = fileURLToPath(new URL('../../../src/devices/uapi/', import.meta.url));

describe('numbers and layouts against the headers', () => {
  let noCompiler: string | undefined;
  let theirs: ReadonlyMap<string, number | undefined>;
  let headerVersion = 0;

  beforeAll(async () => {
    if ((await run('gcc', ['--version'])).code !== 0) {
      noCompiler = 'gcc is missing: apt-get install gcc libc6-dev';
      console.log(`layout test skipped: ${noCompiler}`);
      return;
    }
    const { includes, origin } = await newestHeaders();
    const iommufd = [...includes, '/usr/include'].some((folder) => existsSync(join(folder, 'linux', 'iommufd.h'))) ? ['<linux/iommufd.h>'] : [];
    const headers = ['<linux/version.h>', '<linux/vfio.h>', ...iommufd, `"${remapHeader}"`];
    const [code, ...values] = await probe(['LINUX_VERSION_CODE', ...numbers.map(({ expression }) => expression)], { headers, includes });
    if (code === undefined) throw new Error('<linux/version.h> names no version');
    headerVersion = code;
    theirs = new Map(numbers.map(({ name }, i) => [name, values[i]]));
    console.log(`<linux/vfio.h> of Linux ${code >> 16}.${(code >> 8) & 0xff}: ${origin}`);
  }, 180_000);

  const skipWithout = (context: TestContext): void => {
    if (noCompiler !== undefined) context.skip(noCompiler);
  };
  const isNewer = (name: string): boolean => {
    const version = since[name];
    return version !== undefined && headerVersion < versionCode(...version);
  };

  it('agree', (context) => {
    skipWithout(context);
    const compared = numbers.filter(({ name }) => theirs.get(name) !== undefined && !isNewer(name));
    expect(compared.length).toBeGreaterThan(100);
    expect(Object.fromEntries(compared.map(({ name, ours }) => [name, ours]))).toEqual(
      Object.fromEntries(compared.map(({ name }) => [name, theirs.get(name)])),
    );
  });

  it('are all there, but for what is listed', (context) => {
    skipWithout(context);
    const unchecked = numbers.map(({ name }) => name).filter((name) => theirs.get(name) === undefined || isNewer(name));
    for (const name of unchecked) console.log(`unchecked: ${name}`);
    expect(unchecked.sort()).toEqual(Object.keys(since).filter(isNewer).sort());
  });

  it('leave out no table of the source', async () => {
    const known = new Set(Object.values(structs));
    const forgotten: string[] = [];
    for (const file of readdirSync(uapi)) {
      const exported = (await import(`${uapi}${file}`)) as Readonly<Record<string, Layout>>;
      for (const [name, value] of Object.entries(exported)) if (name.endsWith('Layout') && !known.has(value)) forgotten.push(`${file}: ${name}`);
    }
    expect(forgotten).toEqual([]);
  });
});
