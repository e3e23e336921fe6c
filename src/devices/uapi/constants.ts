/**
 * Numbers of <linux/vfio.h> under their own names, and those of this project's `vfio_region_remap.h`.
 * `test/devices/uapi/layout.test.ts` compiles the headers and compares every one of them.
 */

// ── ioctls: _IO(';', 100 + n). The size is not in the number, `argsz` carries it. ────────────────────────────
// Numbers from 112 on are used twice: the kind of the file descriptor decides which call is meant.

/** On a container, /dev/vfio/vfio. */
export const VFIO_GET_API_VERSION = 0x3b64;
export const VFIO_CHECK_EXTENSION = 0x3b65;
export const VFIO_SET_IOMMU = 0x3b66;
export const VFIO_IOMMU_GET_INFO = 0x3b70;
export const VFIO_IOMMU_MAP_DMA = 0x3b71;
export const VFIO_IOMMU_UNMAP_DMA = 0x3b72;

/** On a group, /dev/vfio/$N. */
export const VFIO_GROUP_GET_STATUS = 0x3b67;
export const VFIO_GROUP_SET_CONTAINER = 0x3b68;
export const VFIO_GROUP_UNSET_CONTAINER = 0x3b69;
export const VFIO_GROUP_GET_DEVICE_FD = 0x3b6a;

/** On a device. */
export const VFIO_DEVICE_GET_INFO = 0x3b6b;
export const VFIO_DEVICE_GET_REGION_INFO = 0x3b6c;
export const VFIO_DEVICE_GET_IRQ_INFO = 0x3b6d;
export const VFIO_DEVICE_SET_IRQS = 0x3b6e;
export const VFIO_DEVICE_RESET = 0x3b6f;
export const VFIO_DEVICE_FEATURE = 0x3b75;

/** On a device that was opened by its own file, /dev/vfio/devices/vfio$N. */
export const VFIO_DEVICE_BIND_IOMMUFD = 0x3b76;
export const VFIO_DEVICE_ATTACH_IOMMUFD_PT = 0x3b77;
export const VFIO_DEVICE_DETACH_IOMMUFD_PT = 0x3b78;

/** On a data_fd. */
export const VFIO_MIG_GET_PRECOPY_INFO = 0x3b79;

/** On an iommufd, /dev/iommu. */
export const IOMMU_DESTROY = 0x3b80;
export const IOMMU_IOAS_ALLOC = 0x3b81;
export const IOMMU_IOAS_IOVA_RANGES = 0x3b84;
export const IOMMU_IOAS_MAP = 0x3b85;
export const IOMMU_IOAS_UNMAP = 0x3b86;
export const IOMMU_HWPT_ALLOC = 0x3b89;
export const IOMMU_GET_HW_INFO = 0x3b8a;
export const IOMMU_HWPT_SET_DIRTY_TRACKING = 0x3b8b;
export const IOMMU_HWPT_GET_DIRTY_BITMAP = 0x3b8c;

// ── container and group ─────────────────────────────────────────────────────────────────────────────────────

/** What VFIO_GET_API_VERSION must answer. */
export const VFIO_API_VERSION = 0;
/** The IOMMU model to ask VFIO_CHECK_EXTENSION for, and to give to VFIO_SET_IOMMU. */
export const VFIO_TYPE1v2_IOMMU = 3;
/** None: the device reaches all of memory by its physical addresses. */
export const VFIO_NOIOMMU_IOMMU = 8;

export const VFIO_IOMMU_INFO_PGSIZES = 1 << 0;
export const VFIO_IOMMU_INFO_CAPS = 1 << 1;

export const VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE = 1;
export const VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION = 2;
export const VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL = 3;

/** The device may read, may write. */
export const VFIO_DMA_MAP_FLAG_READ = 1 << 0;
export const VFIO_DMA_MAP_FLAG_WRITE = 1 << 1;

export const VFIO_GROUP_FLAGS_VIABLE = 1 << 0;
export const VFIO_GROUP_FLAGS_CONTAINER_SET = 1 << 1;

// ── iommufd ─────────────────────────────────────────────────────────────────────────────────────────────────

export const IOMMU_IOAS_MAP_FIXED_IOVA = 1 << 0;
export const IOMMU_IOAS_MAP_WRITEABLE = 1 << 1;
export const IOMMU_IOAS_MAP_READABLE = 1 << 2;

export const IOMMU_HWPT_ALLOC_DIRTY_TRACKING = 1 << 1;
export const IOMMU_HWPT_DIRTY_TRACKING_ENABLE = 1;

/** In iommu_hw_info.out_capabilities. */
export const IOMMU_HW_CAP_DIRTY_TRACKING = 1 << 0;

// ── struct vfio_device_info ─────────────────────────────────────────────────────────────────────────────────

export const VFIO_DEVICE_FLAGS_RESET = 1 << 0;
export const VFIO_DEVICE_FLAGS_PCI = 1 << 1;
export const VFIO_DEVICE_FLAGS_CAPS = 1 << 7;

// ── struct vfio_region_info ─────────────────────────────────────────────────────────────────────────────────

export const VFIO_REGION_INFO_FLAG_READ = 1 << 0;
export const VFIO_REGION_INFO_FLAG_WRITE = 1 << 1;
export const VFIO_REGION_INFO_FLAG_MMAP = 1 << 2;
export const VFIO_REGION_INFO_FLAG_CAPS = 1 << 3;

export const VFIO_REGION_INFO_CAP_SPARSE_MMAP = 1;
export const VFIO_REGION_INFO_CAP_TYPE = 2;
export const VFIO_REGION_INFO_CAP_MSIX_MAPPABLE = 3;

export const VFIO_PCI_BAR0_REGION_INDEX = 0;
export const VFIO_PCI_BAR5_REGION_INDEX = 5;
export const VFIO_PCI_ROM_REGION_INDEX = 6;
export const VFIO_PCI_CONFIG_REGION_INDEX = 7;
export const VFIO_PCI_VGA_REGION_INDEX = 8;
/** Indexes from here on are the device's own. */
export const VFIO_PCI_NUM_REGIONS = 9;

/** Type of the region of the retired v1 migration interface; its subtype is 1. */
export const VFIO_REGION_TYPE_MIGRATION_DEPRECATED = 3;
export const VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED = 1;

// ── struct vfio_irq_info and struct vfio_irq_set ────────────────────────────────────────────────────────────

export const VFIO_IRQ_INFO_EVENTFD = 1 << 0;
export const VFIO_IRQ_INFO_MASKABLE = 1 << 1;
export const VFIO_IRQ_INFO_AUTOMASKED = 1 << 2;
export const VFIO_IRQ_INFO_NORESIZE = 1 << 3;

export const VFIO_IRQ_SET_DATA_NONE = 1 << 0;
export const VFIO_IRQ_SET_DATA_BOOL = 1 << 1;
export const VFIO_IRQ_SET_DATA_EVENTFD = 1 << 2;
export const VFIO_IRQ_SET_ACTION_MASK = 1 << 3;
export const VFIO_IRQ_SET_ACTION_UNMASK = 1 << 4;
export const VFIO_IRQ_SET_ACTION_TRIGGER = 1 << 5;

export const VFIO_PCI_INTX_IRQ_INDEX = 0;
export const VFIO_PCI_MSI_IRQ_INDEX = 1;
export const VFIO_PCI_MSIX_IRQ_INDEX = 2;
export const VFIO_PCI_ERR_IRQ_INDEX = 3;
export const VFIO_PCI_REQ_IRQ_INDEX = 4;
/** Indexes from here on are the device's own. */
export const VFIO_PCI_NUM_IRQS = 5;

// ── struct vfio_device_feature ──────────────────────────────────────────────────────────────────────────────

export const VFIO_DEVICE_FEATURE_MASK = 0xffff;
export const VFIO_DEVICE_FEATURE_GET = 1 << 16;
export const VFIO_DEVICE_FEATURE_SET = 1 << 17;
export const VFIO_DEVICE_FEATURE_PROBE = 1 << 18;

export const VFIO_DEVICE_FEATURE_PCI_VF_TOKEN = 0;
export const VFIO_DEVICE_FEATURE_MIGRATION = 1;
export const VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE = 2;
export const VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY = 3;
export const VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP = 4;
export const VFIO_DEVICE_FEATURE_LOW_POWER_EXIT = 5;
export const VFIO_DEVICE_FEATURE_DMA_LOGGING_START = 6;
export const VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP = 7;
export const VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT = 8;
export const VFIO_DEVICE_FEATURE_MIG_DATA_SIZE = 9;
/** Opted in to by SET, without data. */
export const VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 = 12;

/** In vfio_precopy_info.flags, after that. */
export const VFIO_PRECOPY_INFO_REINIT = 1 << 0;

/** Bits of the u64 of VFIO_DEVICE_FEATURE_MIGRATION. */
export const VFIO_MIGRATION_STOP_COPY = 1 << 0;
export const VFIO_MIGRATION_P2P = 1 << 1;
export const VFIO_MIGRATION_PRE_COPY = 1 << 2;

/** Bits of device_state in the retired v1 interface, struct vfio_device_migration_info. */
export const VFIO_DEVICE_STATE_V1_RUNNING = 1 << 0;
export const VFIO_DEVICE_STATE_V1_SAVING = 1 << 1;
export const VFIO_DEVICE_STATE_V1_RESUMING = 1 << 2;

/** enum vfio_device_mig_state. */
export const VFIO_DEVICE_STATE_ERROR = 0;
export const VFIO_DEVICE_STATE_STOP = 1;
export const VFIO_DEVICE_STATE_RUNNING = 2;
export const VFIO_DEVICE_STATE_STOP_COPY = 3;
export const VFIO_DEVICE_STATE_RESUMING = 4;
export const VFIO_DEVICE_STATE_RUNNING_P2P = 5;
export const VFIO_DEVICE_STATE_PRE_COPY = 6;
export const VFIO_DEVICE_STATE_PRE_COPY_P2P = 7;

// ── vfio_region_remap.h: mainline's irq info has no capability chain. Private ids, upstream owns the low numbers. ──

/** In vfio_irq_info.flags: cap_offset follows, at byte 16. */
export const VFIO_REGION_REMAP_IRQ_INFO_CAPS = 1 << 4;

/** Irq capability: which kind of irq this is. */
export const VFIO_REGION_REMAP_CAP_TYPE = 3;
export const VFIO_REGION_REMAP_CAP_TYPE_VERSION = 1;
export const VFIO_REGION_REMAP_IRQ_TYPE = 1;
/** The subtype of the 2020 proposal (profile rfc-v4); this project's header does not name it. */
export const VFIO_REGION_REMAP_IRQ_SUBTYPE_RFC_V4 = 0;
export const VFIO_REGION_REMAP_IRQ_SUBTYPE = 1;

/** Irq capability: what is signalled, and how it is acked. */
export const VFIO_REGION_REMAP_CAP = 0xff01;
export const VFIO_REGION_REMAP_CAP_VERSION = 1;
export const VFIO_REGION_REMAP_FLAG_DOORBELL = 1 << 0;
export const VFIO_REGION_REMAP_FLAG_NO_ACK = 1 << 1;

/** Region capability with the layout of the sparse one: what is mappable while saving. */
export const VFIO_REGION_SAVING_LAYOUT_CAP = 0xff02;
export const VFIO_REGION_SAVING_LAYOUT_CAP_VERSION = 1;
