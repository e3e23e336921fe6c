// SPDX-License-Identifier: GPL-2.0
/*
 * INTx and MSI, as a PCI device has them, raised from sysfs.
 *
 * INTx is a level: while the line is up and not masked it signals once and is
 * masked by that (VFIO_IRQ_INFO_AUTOMASKED); an unmask signals again if it is
 * still up. Loopback signals whatever the level is, unless masked. The vectors
 * of MSI are enabled together, by the first call, and their number stays.
 */
#include "remap.h"

#define REMAP_ONE	1

static bool remap_intx_enabled(struct remap_device *rd)
{
	return rd->eventfd[REMAP_INTX].ctx;
}

/* [reg_mutex] */
static void remap_intx_fire(struct remap_device *rd)
{
	bool fire;

	spin_lock_irq(&rd->lock);
	fire = rd->intx_level && !rd->intx_masked && remap_intx_enabled(rd);
	if (fire)
		rd->intx_masked = true;
	spin_unlock_irq(&rd->lock);
	if (fire)
		remap_eventfd_signal(rd, REMAP_INTX, REMAP_ONE);
}

/* [reg_mutex] */
static void remap_intx_set_mask(struct remap_device *rd, bool masked)
{
	spin_lock_irq(&rd->lock);
	rd->intx_masked = masked;
	spin_unlock_irq(&rd->lock);
	remap_intx_fire(rd);
}

/* [reg_mutex] An unmask by eventfd, out of its wait callback. */
void remap_intx_work(struct remap_device *rd)
{
	bool unmask;

	spin_lock_irq(&rd->lock);
	unmask = xchg(&rd->intx_unmask, false);
	spin_unlock_irq(&rd->lock);
	if (unmask && remap_intx_enabled(rd))
		remap_intx_set_mask(rd, false);
}

void remap_set_level(struct remap_device *rd, bool level)
{
	mutex_lock(&rd->reg_mutex);
	spin_lock_irq(&rd->lock);
	rd->intx_level = level;
	spin_unlock_irq(&rd->lock);
	remap_intx_fire(rd);
	mutex_unlock(&rd->reg_mutex);
}

/* Whether a call without eventfds is about this vector. */
static bool remap_chosen(const struct vfio_irq_set *set, const struct remap_irq_data *data,
			 unsigned int i)
{
	return !(set->flags & VFIO_IRQ_SET_DATA_BOOL) || data->bools[i];
}

static long remap_intx_register(struct remap_device *rd, s32 fd)
{
	long ret = 0;

	if (rd->msi_enabled)
		return -EINVAL;	/* one kind of interrupt at a time */
	remap_eventfd_unregister(rd, REMAP_INTX);
	if (fd >= 0)
		ret = remap_eventfd_register(rd, REMAP_INTX, fd);
	if (fd < 0 || ret)
		remap_eventfd_unregister(rd, REMAP_UNMASK);
	else
		remap_intx_set_mask(rd, false);
	return ret;
}

static long remap_unmask_register(struct remap_device *rd, s32 fd)
{
	if (fd >= 0)
		return remap_eventfd_register(rd, REMAP_UNMASK, fd);
	remap_eventfd_unregister(rd, REMAP_UNMASK);
	return 0;
}

long remap_set_intx(struct remap_device *rd, const struct vfio_irq_set *set,
		    const struct remap_irq_data *data)
{
	u32 action = set->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;

	if (action == VFIO_IRQ_SET_ACTION_TRIGGER) {
		if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD)
			return remap_intx_register(rd, data->fds[0]);
		if (!set->count)
			return (set->flags & VFIO_IRQ_SET_DATA_NONE) ? remap_intx_register(rd, -1) : -EINVAL;
	}
	if (!remap_intx_enabled(rd) || set->count != 1)
		return -EINVAL;
	if (hweight32(action) != 1)
		return -ENOTTY;
	if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD)
		return action == VFIO_IRQ_SET_ACTION_UNMASK ? remap_unmask_register(rd, data->fds[0]) :
							      -ENOTTY;
	if (!remap_chosen(set, data, 0))
		return 0;
	if (action != VFIO_IRQ_SET_ACTION_TRIGGER)
		remap_intx_set_mask(rd, action == VFIO_IRQ_SET_ACTION_MASK);
	else if (!READ_ONCE(rd->intx_masked))
		remap_eventfd_signal(rd, REMAP_INTX, REMAP_ONE);
	return 0;
}

static void remap_msi_disable(struct remap_device *rd)
{
	unsigned int i;

	for (i = 0; i < REMAP_MSI_VECTORS; i++)
		remap_eventfd_unregister(rd, REMAP_MSI + i);
	rd->msi_enabled = 0;
}

static long remap_msi_register(struct remap_device *rd, const struct vfio_irq_set *set,
			       const struct remap_irq_data *data)
{
	bool first = !rd->msi_enabled;
	long ret = 0;
	u32 i;

	if (remap_intx_enabled(rd))
		return -EINVAL;
	if (first)
		rd->msi_enabled = set->start + set->count;
	if (set->start + set->count > rd->msi_enabled)
		return -EINVAL;
	for (i = 0; i < set->count && !ret; i++) {
		enum remap_slot slot = REMAP_MSI + set->start + i;

		if (data->fds[i] >= 0)
			ret = remap_eventfd_register(rd, slot, data->fds[i]);
		else
			remap_eventfd_unregister(rd, slot);
	}
	if (!ret)
		return 0;
	if (first) {
		remap_msi_disable(rd);
		return ret;
	}
	for (i = 0; i < set->count; i++)
		remap_eventfd_unregister(rd, REMAP_MSI + set->start + i);
	return ret;
}

long remap_set_msi(struct remap_device *rd, const struct vfio_irq_set *set,
		   const struct remap_irq_data *data)
{
	u32 i;

	if ((set->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK) != VFIO_IRQ_SET_ACTION_TRIGGER)
		return -ENOTTY;
	if (!set->count) {
		if (set->flags & VFIO_IRQ_SET_DATA_NONE)
			remap_msi_disable(rd);
		return (set->flags & VFIO_IRQ_SET_DATA_NONE) ? 0 : -EINVAL;
	}
	if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD)
		return remap_msi_register(rd, set, data);
	if (set->start + set->count > rd->msi_enabled)
		return -EINVAL;
	for (i = 0; i < set->count; i++)
		if (remap_chosen(set, data, i))
			remap_eventfd_signal(rd, REMAP_MSI + set->start + i, REMAP_ONE);
	return 0;
}

int remap_raise_msi(struct remap_device *rd, u32 vectors)
{
	unsigned int i;
	int ret = -ENOENT;

	mutex_lock(&rd->reg_mutex);
	for (i = 0; i < REMAP_MSI_VECTORS; i++) {
		if (!(vectors & BIT(i)) || !rd->eventfd[REMAP_MSI + i].ctx)
			continue;
		remap_eventfd_signal(rd, REMAP_MSI + i, REMAP_ONE);
		ret = 0;
	}
	mutex_unlock(&rd->reg_mutex);
	return ret;
}
