/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Region remap: how a VFIO vendor driver and its user change, at run time,
 * which parts of a device region the user may mmap.
 *
 * This header is the ABI. It compiles alone, as C and as C++. Each rule has a
 * number, so that a test or a review can cite it: docs/contract.md lists the
 * tests of each. Numbers are never used again for something else.
 *
 * There are two ways to say that a layout changes, and a device may have none:
 *
 *   an irq           RR-1 to RR-35   a signal, served while device_state is
 *                                    being written; by doorbell or by bitmap,
 *                                    acked by value or by the mappings alone
 *   saving layouts   RR-40 to RR-44  no irq: the user unmaps beforehand what
 *                                    the target of a transition lacks
 *
 * The older form of the irq, as it was proposed in 2020, is RR-50 to RR-55: new
 * drivers do not offer it, and users meet it only where it is.
 *
 * "Declared" regions are those that a remap irq may ever signal (RR-3). The
 * "saving group" is PRE_COPY, PRE_COPY_P2P and STOP_COPY, in the first
 * generation of device_state every value with _SAVING.
 *
 * Discovery
 * RR-1  The device has an irq index, anywhere, whose VFIO_DEVICE_GET_IRQ_INFO
 *       sets VFIO_REGION_REMAP_IRQ_INFO_CAPS and carries a capability chain
 *       with a struct vfio_region_remap_cap_type and, beside it, a struct
 *       vfio_region_remap_cap. The user scans every index; EINVAL means that
 *       an index is absent. Nothing of this is particular to PCI.
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
 *       another role or page, are EINVAL. The slot stays unregistered.
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
 *       after the next ack; a wait takes its target at that moment. Of a
 *       bitmap that does not fit as a whole the bits that fit are added first.
 *
 * Waits
 * RR-18 A device_state write into the saving group from outside that group is
 *       EPERM while the irq of any page is not enabled.
 * RR-19 A write that revokes signals and waits for the ack, before the first
 *       arc of the transition, at most ack_timeout_ms per wait and max_waits
 *       times. A change that only adds is signalled and not waited for.
 * RR-20 A wait ends with 0 (acked), ETIMEDOUT, EINTR (killed), or ECANCELED:
 *       a registered fd disabled, registered again or closed for good, the
 *       device reset or removed.
 * RR-21 A wait that fails leaves device_state and layout as they were; the
 *       restored layout is signalled and not waited for.
 * RR-22 While one device_state write waits a second gets EBUSY, and every
 *       other call, mmap, munmap and page fault on the device proceeds.
 * RR-23 Mappings made before the change keep working until the wait ends.
 *
 * Bitmaps
 * RR-24 Without VFIO_REGION_REMAP_FLAG_DOORBELL a signal adds the OR of the
 *       bits of the regions it is about, in one add: a part of it would read
 *       as another region. A driver that cannot add more than 1 at once rings
 *       doorbells instead.
 * RR-25 Counts add and do not OR: region 64 * page + b is meant if it is
 *       declared and 2^b is not larger than what was read.
 * RR-26 A read at or above 2^64 - 2 means every declared region: the kernel
 *       may have dropped adds there. So does the first batch of a registration,
 *       and the one after each device_state write, whatever its result.
 *
 * Pages
 * RR-27 More than 64 regions have an irq for each 64, at any index; `page`
 *       tells which. Two irqs of one page, or a bit of a region that the device
 *       does not have, are a driver's error: the user registers nothing.
 * RR-28 Pages are independent: fds, sums and signals are each page's own. One
 *       write of device_state may signal several, and waits for all of them.
 *
 * Ack by the mappings
 * RR-29 VFIO_REGION_REMAP_FLAG_NO_ACK: there is no ack fd (ACTION_UNMASK is
 *       ENOTTY), and the irq is enabled by the trigger fd alone. A wait ends
 *       when no mapping overlaps what the layout does not offer.
 * RR-30 Mappings are told by range, since munmap splits them. Those of every
 *       process count, and so does one that mremap has moved; MADV_DONTNEED
 *       takes nothing away.
 * RR-31 Mappings of regions are shared (a private one is EINVAL), lie within
 *       one offered area, and are neither inherited by a fork nor expanded.
 *
 * Duties of the driver
 * RR-32 It never reads the trigger fd, and does not take its own wake-ups or
 *       the user's reads for anything that the user wrote.
 * RR-33 It waits after every signal that revokes, in whichever direction the
 *       state moves, and for as long as it waits it holds no lock that another
 *       call on the device needs.
 * RR-34 If an arc after the wait fails, that is undone like a failed wait:
 *       the areas are offered again, and that is signalled.
 * RR-35 The device's removal and its last close end every wait, and take every
 *       registration with them.
 *
 * Saving layouts
 * RR-40 A region with VFIO_REGION_SAVING_LAYOUT_CAP in its chain has, in the
 *       saving group, exactly the areas of that capability; it has the form of
 *       struct vfio_region_info_cap_sparse_mmap, possibly with no area.
 * RR-41 The driver checks for mappings that conflict with the target's layout
 *       and changes the layout in one step with respect to mmap; a conflict is
 *       EBUSY, and nothing has changed.
 * RR-42 mmap takes only what the current state's layout offers (EINVAL).
 * RR-43 The user unmaps what the target's layout lacks before the write of
 *       device_state, in both directions, and makes no new mapping of those
 *       regions until it has returned; then it maps what is offered.
 * RR-44 VFIO_DEVICE_RESET is a transition to RUNNING, in this too.
 *
 * The older form: type VFIO_REGION_REMAP_IRQ_TYPE, subtype
 * VFIO_REGION_REMAP_IRQ_SUBTYPE_RFC_V4, no struct vfio_region_remap_cap
 * RR-50 Declared are the regions 0 to 5 whose size is not 0. A signal adds bits
 *       as a bitmap does (RR-24), or 1; it means any declared region.
 * RR-51 The irq is EVENTFD and MASKABLE with one vector, and has the trigger fd
 *       alone (ACTION_UNMASK with an eventfd is ENOTTY). RR-6 and RR-7 hold for
 *       it, and RR-8 as for an ack fd.
 * RR-52 An ack is any write to the trigger fd: of 0, which changes no count, or
 *       of 1, which the user reads back as an echo. Only that echo is ambiguous.
 * RR-53 Read rule: an ack is ignored while the driver's own last add has not
 *       been read. So an ack for an older batch cannot end a newer wait, unless
 *       the user reads between a batch and its ack; it does not. Drivers older
 *       than this rule take any ack: the user writes device_state only when it
 *       owes none and the trigger fd reads EAGAIN.
 * RR-54 A device_state write into the saving group is ENODEV while the irq is
 *       not enabled.
 * RR-55 RR-10, RR-12, RR-13 and RR-19 to RR-23 hold here too, with a timeout
 *       that the device does not tell.
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
#define VFIO_REGION_REMAP_IRQ_SUBTYPE_RFC_V4	0	/* RR-50 */
#define VFIO_REGION_REMAP_IRQ_SUBTYPE		1

struct vfio_region_remap_cap_type {
	struct vfio_info_cap_header header;
	__u32	type;		/* VFIO_REGION_REMAP_IRQ_TYPE */
	__u32	subtype;	/* VFIO_REGION_REMAP_IRQ_SUBTYPE* */
};

/* A private id on purpose: upstream owns the low numbers. */
#define VFIO_REGION_REMAP_CAP			0xff01
#define VFIO_REGION_REMAP_CAP_VERSION		1

#define VFIO_REGION_REMAP_FLAG_DOORBELL		(1 << 0)	/* RR-11; without it RR-24 */
#define VFIO_REGION_REMAP_FLAG_NO_ACK		(1 << 1)	/* RR-29; without it RR-14 */

struct vfio_region_remap_cap {
	struct vfio_info_cap_header header;
	__u32	page;		/* covers regions 64 * page .. 64 * page + 63 */
	__u32	flags;		/* VFIO_REGION_REMAP_FLAG_*; all others 0 */
	__aligned_u64 regions;	/* RR-3 */
	__u32	ack_timeout_ms;	/* per wait, at least 1 */
	__u32	max_waits;	/* per device_state write, at least 1 */
};

/*
 * RR-40: a capability of regions, in the form of the sparse mmap capability;
 * private like the one above.
 */
#define VFIO_REGION_SAVING_LAYOUT_CAP		0xff02
#define VFIO_REGION_SAVING_LAYOUT_CAP_VERSION	1

#endif /* VFIO_REGION_REMAP_H */
