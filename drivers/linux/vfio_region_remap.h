/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Region remap: how a VFIO vendor driver and its user change, at run time,
 * which parts of a device region the user may mmap.
 *
 * This header is the ABI. It compiles alone, as C and as C++. Each rule has a
 * number, so that a test or a review can cite it.
 *
 * Discovery
 * RR-1  The device has one irq index, anywhere, whose VFIO_DEVICE_GET_IRQ_INFO
 *       sets VFIO_REGION_REMAP_IRQ_INFO_CAPS and carries a capability chain
 *       with a struct vfio_region_remap_cap_type and, beside it, a struct
 *       vfio_region_remap_cap. The user scans every index; EINVAL means that
 *       an index is absent.
 * RR-2  cap_offset is a u32 at byte 16, behind the 16 bytes of the mainline
 *       struct vfio_irq_info. If argsz cannot hold the chain the call succeeds
 *       with CAPS set, argsz the size needed, and cap_offset 0 (where the
 *       user's buffer reaches that far): the user asks again.
 * RR-3  `regions` says beforehand which regions may ever be signalled; bit b
 *       is region 64 * page + b. A user that cannot re-evaluate all of them
 *       registers nothing.
 * RR-4  Flags the user does not know, ack_timeout_ms 0 or max_waits 0 are a
 *       driver's error: the user registers nothing.
 *
 * Registration
 * RR-5  Trigger fd (driver to user): VFIO_DEVICE_SET_IRQS with DATA_EVENTFD |
 *       ACTION_TRIGGER, start 0, count 1. Ack fd (user to driver): DATA_EVENTFD
 *       | ACTION_UNMASK, start 0, count 1. Any order. The irq counts as
 *       enabled when both are there.
 * RR-6  fd -1, or DATA_NONE with count 0, disables that fd. Disabling the
 *       trigger removes the ack fd as well. Registering an fd again disables
 *       it first, even if the new registration then fails.
 * RR-7  Both fds are fresh: an eventfd whose count is not 0 is EBUSY.
 * RR-8  An EFD_SEMAPHORE ack fd, and an eventfd that the device already has in
 *       another role, are EINVAL. The slot stays unregistered.
 * RR-9  Every change of registration sets sent = acked = 0 and forgets what
 *       was pending; the user forgets what it has read and not acked.
 *
 * Signal
 * RR-10 The new layout is visible to VFIO_DEVICE_GET_REGION_INFO, and enforced
 *       by mmap (EINVAL), before the trigger fd's count grows.
 * RR-11 VFIO_REGION_REMAP_FLAG_DOORBELL: each signal adds 1, and means that
 *       any of `regions` may have changed.
 * RR-12 Only flags and sparse areas change, never a region's size.
 * RR-13 The user re-queries every signalled region, munmaps what is no longer
 *       offered (areas in an IOMMU leave that first), and then acks. It does
 *       so while its own write of device_state has not returned.
 *
 * Ack by value
 * RR-14 The user writes the sum of what it READ from the trigger fd to the ack
 *       fd; the driver takes the count out as the write arrives.
 * RR-15 The driver keeps u64 sums sent and acked. A wait notes target = sent
 *       with its own signal included, and ends when
 *       sent - acked <= sent - target, modulo 2^64.
 * RR-16 An ack larger than sent - acked acknowledges what was never sent: it
 *       is ignored and counted as a violation.
 * RR-17 A signal that would make sent - acked reach 2^64 - 1 is kept and made
 *       after the next ack; a wait takes its target at that moment.
 *
 * Waits
 * RR-18 A device_state write into PRE_COPY, PRE_COPY_P2P or STOP_COPY from
 *       outside that group is EPERM while the irq is not enabled.
 * RR-19 A write that revokes signals and waits for the ack, before the first
 *       arc of the transition, at most ack_timeout_ms per wait and max_waits
 *       times. A change that only adds is signalled and not waited for.
 * RR-20 A wait ends with 0 (acked), ETIMEDOUT, EINTR (killed), or ECANCELED:
 *       either fd disabled, registered again or closed for good, the device
 *       reset or removed.
 * RR-21 A wait that fails leaves device_state and layout as they were; the
 *       restored layout is signalled and not waited for.
 * RR-22 While one device_state write waits a second gets EBUSY, and every
 *       other call, mmap, munmap and page fault on the device proceeds.
 * RR-23 Mappings made before the change keep working until the wait ends.
 */
#ifndef VFIO_REGION_REMAP_H
#define VFIO_REGION_REMAP_H

#include <linux/types.h>
#include <linux/vfio.h>

/* RR-1: in vfio_irq_info.flags; mainline has no irq capability chain. */
#define VFIO_REGION_REMAP_IRQ_INFO_CAPS	(1 << 4)

/* RR-2: vfio_irq_info with the field that the chain needs. */
struct vfio_region_remap_irq_info {
	__u32	argsz;
	__u32	flags;
	__u32	index;
	__u32	count;
	__u32	cap_offset;	/* from the start of this struct; 0: none */
};

/* RR-1: the irq's type. */
#define VFIO_REGION_REMAP_CAP_TYPE		3
#define VFIO_REGION_REMAP_CAP_TYPE_VERSION	1
#define VFIO_REGION_REMAP_IRQ_TYPE		1
#define VFIO_REGION_REMAP_IRQ_SUBTYPE		1
#define VFIO_REGION_REMAP_IRQ_SUBTYPE_RFC_V4	0

struct vfio_region_remap_cap_type {
	struct vfio_info_cap_header header;
	__u32	type;		/* VFIO_REGION_REMAP_IRQ_TYPE */
	__u32	subtype;	/* VFIO_REGION_REMAP_IRQ_SUBTYPE */
};

/* A private id on purpose: upstream owns the low numbers. */
#define VFIO_REGION_REMAP_CAP			0xff01
#define VFIO_REGION_REMAP_CAP_VERSION		1

#define VFIO_REGION_REMAP_FLAG_DOORBELL		(1 << 0)	/* RR-11 */
#define VFIO_REGION_REMAP_FLAG_NO_ACK		(1 << 1)

struct vfio_region_remap_cap {
	struct vfio_info_cap_header header;
	__u32	page;		/* covers regions 64 * page .. 64 * page + 63 */
	__u32	flags;		/* VFIO_REGION_REMAP_FLAG_*; all others 0 */
	__aligned_u64 regions;	/* RR-3 */
	__u32	ack_timeout_ms;	/* per wait, at least 1 */
	__u32	max_waits;	/* per device_state write, at least 1 */
};

#define VFIO_REGION_SAVING_LAYOUT_CAP		0xff02
#define VFIO_REGION_SAVING_LAYOUT_CAP_VERSION	1

#endif /* VFIO_REGION_REMAP_H */
