/* SPDX-License-Identifier: GPL-2.0 */
/* All that differs between kernels, so that no other file asks for a version. */
#ifndef REMAP_COMPAT_H
#define REMAP_COMPAT_H

#include <linux/eventfd.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/version.h>
#include <linux/vfio.h>

/*
 * 6.1 passes device_state through to the driver unjudged, so that a driver with
 * its own table of arcs can offer PRE_COPY there. Only the numbers are missing.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define VFIO_MIGRATION_PRE_COPY			(1 << 2)
#define VFIO_DEVICE_STATE_PRE_COPY		6
#define VFIO_DEVICE_STATE_PRE_COPY_P2P		7

struct vfio_precopy_info {
	__u32 argsz;
	__u32 flags;
	__aligned_u64 initial_bytes;
	__aligned_u64 dirty_bytes;
};

#define VFIO_MIG_GET_PRECOPY_INFO _IO(VFIO_TYPE, VFIO_BASE + 21)
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
#define REMAP_ASKS_DATA_SIZE	/* the core calls it unchecked */
#endif

/*
 * Since 6.6 a mediated device can be opened by its own file, too, and be bound to
 * an iommufd. A kernel that has iommufd registers no driver without these.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
#define REMAP_IOMMUFD_OPS					\
	.bind_iommufd = vfio_iommufd_emulated_bind,		\
	.unbind_iommufd = vfio_iommufd_emulated_unbind,		\
	.attach_ioas = vfio_iommufd_emulated_attach_ioas,	\
	.detach_ioas = vfio_iommufd_emulated_detach_ioas,
#else
#define REMAP_IOMMUFD_OPS
#endif

/* Until 6.2 the driver's release frees the structure, afterwards the core. */
static inline void remap_free_vfio_device(struct vfio_device *vdev)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
	vfio_free_device(vdev);
#endif
}

static inline void remap_set_vm_flags(struct vm_area_struct *vma, vm_flags_t flags)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
	vma->vm_flags |= flags;
#else
	vm_flags_set(vma, flags);
#endif
}

/*
 * Until 6.8 eventfd_signal() takes the number to add. Since then it adds 1, and
 * a driver that means more has the eventfd's own write, as a user has: add.c.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
#define REMAP_SIGNAL_ADDS_N

struct remap_adder { };
#else
struct remap_adder {
	struct file shadow;
	struct mm_struct *mm;
};
#endif

static inline void remap_eventfd_add_one(struct eventfd_ctx *ctx)
{
#ifdef REMAP_SIGNAL_ADDS_N
	eventfd_signal(ctx, 1);
#else
	eventfd_signal(ctx);
#endif
}

#endif
