// SPDX-License-Identifier: GPL-2.0
/*
 * GET_IRQ_INFO and SET_IRQS. The PCI face has INTx, MSI and, behind the indexes
 * that are PCI's, a remap irq for each page; the other face has one plain irq
 * and the remap irqs behind that.
 */
#include <linux/eventfd.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "remap.h"

enum remap_irq_kind { REMAP_IRQ_ABSENT, REMAP_IRQ_INTX, REMAP_IRQ_MSI, REMAP_IRQ_REMAP };

static u32 remap_first_irq(struct remap_device *rd)
{
	return rd->non_pci ? 1 : VFIO_PCI_NUM_IRQS;
}

u32 remap_num_irqs(struct remap_device *rd)
{
	return remap_first_irq(rd) + (rd->row->irq ? rd->pages : 0);
}

static enum remap_irq_kind remap_irq_kind(struct remap_device *rd, u32 index)
{
	if (index >= remap_num_irqs(rd))
		return REMAP_IRQ_ABSENT;
	if (index >= remap_first_irq(rd))
		return REMAP_IRQ_REMAP;
	if (rd->non_pci)
		return REMAP_IRQ_MSI;	/* like a vector of it */
	switch (index) {
	case VFIO_PCI_INTX_IRQ_INDEX:
		return REMAP_IRQ_INTX;
	case VFIO_PCI_MSI_IRQ_INDEX:
		return REMAP_IRQ_MSI;
	default:
		return REMAP_IRQ_ABSENT;
	}
}

static u32 remap_irq_count(struct remap_device *rd, u32 index)
{
	if (remap_irq_kind(rd, index) != REMAP_IRQ_MSI)
		return 1;
	return rd->non_pci ? 1 : REMAP_MSI_VECTORS;
}

/* GET_IRQ_INFO's answer for the remap irq. The older subtype has no second capability. */
struct remap_irq_answer {
	struct vfio_region_remap_irq_info info;
	u32 pad;	/* the chain starts on 8 bytes */
	struct vfio_region_remap_cap_type type;
	struct vfio_region_remap_cap remap;
};

static size_t remap_fill_irq(struct remap_device *rd, struct remap_irq_answer *answer)
{
	unsigned int page = answer->info.index - remap_first_irq(rd);

	answer->info.flags |= VFIO_REGION_REMAP_IRQ_INFO_CAPS;
	answer->type.header.id = VFIO_REGION_REMAP_CAP_TYPE;
	answer->type.header.version = VFIO_REGION_REMAP_CAP_TYPE_VERSION;
	answer->type.type = VFIO_REGION_REMAP_IRQ_TYPE;
	if (rd->row->ack == REMAP_ACK_BARE) {
		answer->info.flags |= VFIO_IRQ_INFO_MASKABLE;
		answer->type.subtype = VFIO_REGION_REMAP_IRQ_SUBTYPE_RFC_V4;
		return offsetof(struct remap_irq_answer, remap);
	}
	answer->type.subtype = VFIO_REGION_REMAP_IRQ_SUBTYPE;
	answer->type.header.next = offsetof(struct remap_irq_answer, remap);
	answer->remap.header.id = VFIO_REGION_REMAP_CAP;
	answer->remap.header.version = VFIO_REGION_REMAP_CAP_VERSION;
	answer->remap.page = page;
	answer->remap.flags = (rd->row->bitmap ? 0 : VFIO_REGION_REMAP_FLAG_DOORBELL) |
			      (rd->row->ack == REMAP_ACK_NONE ? VFIO_REGION_REMAP_FLAG_NO_ACK : 0);
	answer->remap.regions = remap_reason_bits(remap_page_reasons(page), page);
	answer->remap.ack_timeout_ms = READ_ONCE(rd->ack_timeout_ms);
	answer->remap.max_waits = READ_ONCE(rd->max_waits);
	return sizeof(*answer);
}

long remap_get_irq_info(struct remap_device *rd, void __user *arg)
{
	struct remap_irq_answer answer = {};
	size_t minsz = offsetofend(struct vfio_irq_info, count);
	size_t size = minsz;
	u32 argsz;

	if (copy_from_user(&answer.info, arg, minsz))
		return -EFAULT;
	argsz = answer.info.argsz;
	if (argsz < minsz)
		return -EINVAL;
	answer.info.flags = VFIO_IRQ_INFO_EVENTFD;
	answer.info.count = remap_irq_count(rd, answer.info.index);
	switch (remap_irq_kind(rd, answer.info.index)) {
	case REMAP_IRQ_INTX:
		answer.info.flags |= VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
		break;
	case REMAP_IRQ_MSI:
		answer.info.flags |= VFIO_IRQ_INFO_NORESIZE;
		break;
	case REMAP_IRQ_REMAP:
		size = remap_fill_irq(rd, &answer);
		break;
	default:
		return -EINVAL;
	}
	answer.info.argsz = size;
	if (argsz >= size && size > minsz)
		answer.info.cap_offset = offsetof(struct remap_irq_answer, type);
	else if (argsz < size)
		size = min_t(size_t, argsz, sizeof(answer.info));
	return copy_to_user(arg, &answer, size) ? -EFAULT : 0;
}

static long remap_set_remap(struct remap_device *rd, const struct vfio_irq_set *set,
			    const struct remap_irq_data *data)
{
	unsigned int page = set->index - remap_first_irq(rd);
	enum remap_slot slot;

	switch (set->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK) {
	case VFIO_IRQ_SET_ACTION_TRIGGER:
		slot = REMAP_TRIGGER_OF(page);
		break;
	case VFIO_IRQ_SET_ACTION_UNMASK:
		if (rd->row->ack != REMAP_ACK_VALUE)
			return -ENOTTY;
		slot = REMAP_ACK_OF(page);
		break;
	default:
		return -ENOTTY;
	}
	if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD) {
		if (set->count != 1)
			return -EINVAL;
		if (data->fds[0] >= 0)
			return remap_eventfd_register(rd, slot, data->fds[0]);
	} else if (set->count || !(set->flags & VFIO_IRQ_SET_DATA_NONE)) {
		return -ENOTTY;		/* nobody but the driver signals this irq */
	}
	if (!remap_ignores_disable(rd, slot))
		remap_eventfd_unregister(rd, slot);
	return 0;
}

static long remap_apply_irqs(struct remap_device *rd, const struct vfio_irq_set *set,
			     const struct remap_irq_data *data)
{
	switch (remap_irq_kind(rd, set->index)) {
	case REMAP_IRQ_INTX:
		return remap_set_intx(rd, set, data);
	case REMAP_IRQ_MSI:
		return remap_set_msi(rd, set, data);
	default:
		return remap_set_remap(rd, set, data);
	}
}

/* The data is copied first, so that no user access happens under reg_mutex. */
static long remap_copy_irq_data(const struct vfio_irq_set *set, const void __user *from,
				size_t size, struct remap_irq_data *data)
{
	bool eventfds = set->flags & VFIO_IRQ_SET_DATA_EVENTFD;
	u32 i;

	if (copy_from_user(eventfds ? (void *)data->fds : data->bools, from, size))
		return -EFAULT;
	for (i = 0; eventfds && i < set->count; i++)
		if (data->fds[i] < -1)
			return -EINVAL;
	return 0;
}

long remap_set_irqs(struct remap_device *rd, void __user *arg)
{
	size_t minsz = offsetofend(struct vfio_irq_set, count);
	struct remap_irq_data data;
	struct vfio_irq_set set;
	size_t data_size = 0;
	long ret;

	if (copy_from_user(&set, arg, minsz))
		return -EFAULT;
	if (remap_irq_kind(rd, set.index) == REMAP_IRQ_ABSENT)
		return -EINVAL;
	ret = vfio_set_irqs_validate_and_prepare(&set, remap_irq_count(rd, set.index),
						 remap_num_irqs(rd), &data_size);
	if (ret)
		return ret;
	ret = remap_copy_irq_data(&set, arg + minsz, data_size, &data);
	if (ret)
		return ret;

	mutex_lock(&rd->reg_mutex);
	ret = remap_apply_irqs(rd, &set, &data);
	mutex_unlock(&rd->reg_mutex);
	return ret;
}

void remap_disable_irqs(struct remap_device *rd)
{
	unsigned int slot;

	mutex_lock(&rd->reg_mutex);
	for (slot = 0; slot < REMAP_NUM_SLOTS; slot++)
		remap_eventfd_unregister(rd, slot);
	rd->msi_enabled = 0;
	mutex_unlock(&rd->reg_mutex);
}
