// SPDX-License-Identifier: GPL-2.0
/* GET_IRQ_INFO and SET_IRQS: one MSI vector, and the remap irq. */
#include <linux/eventfd.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "remap.h"

/* GET_IRQ_INFO's answer for the remap irq. */
struct remap_irq_answer {
	struct vfio_region_remap_irq_info info;
	u32 pad;	/* the chain starts on 8 bytes */
	struct vfio_region_remap_cap_type type;
	struct vfio_region_remap_cap remap;
};

static size_t remap_fill_irq(struct remap_device *rd, struct remap_irq_answer *answer)
{
	answer->info.flags |= VFIO_REGION_REMAP_IRQ_INFO_CAPS;
	answer->type.header.id = VFIO_REGION_REMAP_CAP_TYPE;
	answer->type.header.version = VFIO_REGION_REMAP_CAP_TYPE_VERSION;
	answer->type.header.next = offsetof(struct remap_irq_answer, remap);
	answer->type.type = VFIO_REGION_REMAP_IRQ_TYPE;
	answer->type.subtype = VFIO_REGION_REMAP_IRQ_SUBTYPE;
	answer->remap.header.id = VFIO_REGION_REMAP_CAP;
	answer->remap.header.version = VFIO_REGION_REMAP_CAP_VERSION;
	answer->remap.flags = VFIO_REGION_REMAP_FLAG_DOORBELL;
	answer->remap.regions = BIT_ULL(REMAP_REGION_MAILBOX) | BIT_ULL(REMAP_REGION_SPARSE);
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
	if (answer.info.index != REMAP_IRQ_MSI && answer.info.index != REMAP_IRQ_REMAP)
		return -EINVAL;
	answer.info.flags = VFIO_IRQ_INFO_EVENTFD;
	answer.info.count = 1;
	if (answer.info.index == REMAP_IRQ_MSI)
		answer.info.flags |= VFIO_IRQ_INFO_NORESIZE;
	else
		size = remap_fill_irq(rd, &answer);
	answer.info.argsz = size;
	if (argsz >= size && size > minsz)
		answer.info.cap_offset = offsetof(struct remap_irq_answer, type);
	else if (argsz < size)
		size = min_t(size_t, argsz, sizeof(answer.info));
	return copy_to_user(arg, &answer, size) ? -EFAULT : 0;
}

/* Which slot an index and an action mean; negative where they mean nothing. */
static int remap_irq_role(const struct vfio_irq_set *set)
{
	u32 action = set->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;

	if (set->index == REMAP_IRQ_MSI)
		return action == VFIO_IRQ_SET_ACTION_TRIGGER ? REMAP_MSI : -ENOTTY;
	if (set->index != REMAP_IRQ_REMAP)
		return -EINVAL;
	switch (action) {
	case VFIO_IRQ_SET_ACTION_TRIGGER:
		return REMAP_TRIGGER;
	case VFIO_IRQ_SET_ACTION_UNMASK:
		return REMAP_ACK;
	default:
		return -ENOTTY;
	}
}

/* [reg_mutex] `fd` is a kernel copy, so that no user access happens under it. */
static long remap_apply_irqs(struct remap_device *rd, const struct vfio_irq_set *set,
			     enum remap_role role, s32 fd)
{
	switch (set->flags & VFIO_IRQ_SET_DATA_TYPE_MASK) {
	case VFIO_IRQ_SET_DATA_NONE:
		if (set->count) {	/* loopback: for MSI only, as the uAPI has it */
			if (role != REMAP_MSI)
				return -ENOTTY;
			if (rd->eventfd[role].ctx)
				remap_eventfd_add_one(rd->eventfd[role].ctx);
			return 0;
		}
		remap_eventfd_unregister(rd, role);
		return 0;
	case VFIO_IRQ_SET_DATA_EVENTFD:
		if (set->count != 1 || fd < -1)
			return -EINVAL;
		if (fd >= 0)
			return remap_eventfd_register(rd, role, fd);
		remap_eventfd_unregister(rd, role);
		return 0;
	default:
		return -ENOTTY;
	}
}

long remap_set_irqs(struct remap_device *rd, void __user *arg)
{
	size_t minsz = offsetofend(struct vfio_irq_set, count);
	struct vfio_irq_set set;
	size_t data_size = 0;
	s32 fd = -1;
	long ret;
	int role;

	if (copy_from_user(&set, arg, minsz))
		return -EFAULT;
	ret = vfio_set_irqs_validate_and_prepare(&set, 1, REMAP_NUM_IRQS, &data_size);
	if (ret)
		return ret;
	role = remap_irq_role(&set);
	if (role < 0)
		return role;
	if (data_size == sizeof(fd) && copy_from_user(&fd, arg + minsz, sizeof(fd)))
		return -EFAULT;

	mutex_lock(&rd->reg_mutex);
	ret = remap_apply_irqs(rd, &set, role, fd);
	mutex_unlock(&rd->reg_mutex);
	return ret;
}

int remap_raise_msi(struct remap_device *rd)
{
	int ret = -ENOENT;

	mutex_lock(&rd->reg_mutex);
	if (rd->eventfd[REMAP_MSI].ctx) {
		remap_eventfd_add_one(rd->eventfd[REMAP_MSI].ctx);
		ret = 0;
	}
	mutex_unlock(&rd->reg_mutex);
	return ret;
}

void remap_disable_irqs(struct remap_device *rd)
{
	unsigned int role;

	mutex_lock(&rd->reg_mutex);
	for (role = 0; role < REMAP_NUM_ROLES; role++)
		remap_eventfd_unregister(rd, role);
	mutex_unlock(&rd->reg_mutex);
}
