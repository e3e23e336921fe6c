// SPDX-License-Identifier: GPL-2.0
/*
 * Taking areas away and giving them back: the layout, its signal, and the wait
 * of a device_state write. signal.c and ack.c are the two directions of it.
 */
#include <linux/delay.h>
#include <linux/jiffies.h>

#include "remap.h"

/* By so much a signal comes early where `signal_before_layout` is set, ms. */
#define REMAP_EARLY_MS	200

/* What wait callbacks leave for process context. */
void remap_work(struct work_struct *work)
{
	struct remap_device *rd = container_of(work, struct remap_device, work);
	struct remap_adds adds;
	bool drain;
	unsigned int i;

	mutex_lock(&rd->reg_mutex);
	for (i = 0; i < REMAP_NUM_SLOTS; i++)
		if (rd->eventfd[i].ctx && !rd->eventfd[i].live)
			remap_eventfd_unregister(rd, i);
	spin_lock_irq(&rd->lock);
	drain = xchg(&rd->drain_later, false);
	remap_account(rd, &adds);
	spin_unlock_irq(&rd->lock);
	for (i = 0; drain && i < rd->pages; i++)
		remap_eventfd_drain(rd, REMAP_TRIGGER_OF(i));
	remap_ring(rd, &adds);
	remap_intx_work(rd);
	mutex_unlock(&rd->reg_mutex);
}

static void remap_pend(struct remap_device *rd, u32 reasons)
{
	unsigned int page;

	for (page = 0; page < rd->pages; page++)
		rd->page[page].pending |= remap_reason_bits(reasons, page);
}

static void remap_revoke_locked(struct remap_device *rd, u32 reasons, struct remap_adds *adds)
{
	if (!READ_ONCE(rd->signal_before_layout))
		remap_layout_change(rd, rd->revoked | reasons);
	rd->awaiting |= reasons;
	rd->untargeted |= reasons;
	remap_pend(rd, reasons);
	remap_account(rd, adds);
}

/* The layout of a revocation whose signal came first; it may be over by now. */
static void remap_late_layout(struct remap_device *rd, u32 reasons)
{
	if (!READ_ONCE(rd->signal_before_layout))
		return;
	msleep(REMAP_EARLY_MS);
	spin_lock_irq(&rd->lock);
	remap_layout_change(rd, rd->revoked | (reasons & (rd->awaiting | rd->enforced)));
	spin_unlock_irq(&rd->lock);
}

/* Spontaneous: signalled, and not waited for. */
int remap_revoke(struct remap_device *rd, enum remap_reason reason)
{
	struct remap_adds adds = {};
	int ret = 0;

	mutex_lock(&rd->reg_mutex);
	spin_lock_irq(&rd->lock);
	if (!rd->row->irq || !remap_irqs_enabled(rd))
		ret = -EPERM;	/* nobody could be told */
	else if (!((rd->revoked | rd->awaiting) & BIT(reason)))
		remap_revoke_locked(rd, BIT(reason), &adds);
	spin_unlock_irq(&rd->lock);
	remap_ring(rd, &adds);
	mutex_unlock(&rd->reg_mutex);
	if (!ret)
		remap_late_layout(rd, BIT(reason));
	return ret;
}

/* What was stored until now is still stale. */
void remap_restore_locked(struct remap_device *rd, u32 reasons, struct remap_adds *adds)
{
	reasons &= rd->revoked | rd->awaiting | rd->enforced;
	if (!reasons)
		return;
	rd->awaiting &= ~reasons;
	rd->untargeted &= ~reasons;
	rd->enforced &= ~reasons;
	if (!(rd->enforced & remap_areas[0].reasons))
		remap_mailbox_switch(rd, false);
	remap_layout_change(rd, rd->revoked & ~reasons);
	if (!adds || !rd->row->irq)
		return;
	remap_pend(rd, reasons);
	remap_account(rd, adds);
}

static void remap_restore_signalled(struct remap_device *rd, u32 reasons, bool silent)
{
	struct remap_adds adds = {};

	mutex_lock(&rd->reg_mutex);
	spin_lock_irq(&rd->lock);
	remap_restore_locked(rd, reasons, silent ? NULL : &adds);
	spin_unlock_irq(&rd->lock);
	remap_ring(rd, &adds);
	mutex_unlock(&rd->reg_mutex);
}

void remap_restore(struct remap_device *rd, u32 reasons)
{
	remap_restore_signalled(rd, reasons, false);
}

/* A transition into the saving group has failed: all is as it was (RR-21). */
void remap_roll_back(struct remap_device *rd)
{
	remap_restore_signalled(rd, remap_saving_reasons(rd), READ_ONCE(rd->silent_roll_back));
}

/* Layout, sums, targets and wait in one step; then the signals. */
static int remap_begin_wait(struct remap_device *rd, u32 generation)
{
	struct remap_adds adds = {};
	int ret = 0;

	mutex_lock(&rd->reg_mutex);
	spin_lock_irq(&rd->lock);
	if (!remap_irqs_enabled(rd)) {
		ret = rd->row->ack == REMAP_ACK_BARE ? -ENODEV : -EPERM;
	} else if (rd->generation != generation) {
		ret = -ECANCELED;
	} else {
		rd->waiting = true;
		rd->wait_done = false;
		remap_revoke_locked(rd, remap_saving_reasons(rd), &adds);
	}
	spin_unlock_irq(&rd->lock);
	remap_ring(rd, &adds);
	mutex_unlock(&rd->reg_mutex);
	return ret;
}

static int remap_revoke_and_wait(struct remap_device *rd, u32 generation)
{
	unsigned long timeout = msecs_to_jiffies(READ_ONCE(rd->ack_timeout_ms));
	long left;
	int ret;

	ret = remap_begin_wait(rd, generation);
	if (ret)
		return ret;
	remap_late_layout(rd, remap_saving_reasons(rd));
	left = wait_event_killable_timeout(rd->waitq, READ_ONCE(rd->wait_done), timeout);

	/* An ack or a cancel may have come since: what counts is seen under lock. */
	spin_lock_irq(&rd->lock);
	if (rd->wait_done)
		ret = rd->wait_ret;
	else
		ret = left < 0 ? -EINTR : -ETIMEDOUT;
	rd->waiting = false;
	remap_trace(rd, "release ret=%d", ret);
	spin_unlock_irq(&rd->lock);
	if (ret)
		remap_roll_back(rd);
	return ret;
}

/*
 * Without an irq the user is to have unmapped already. The check and the change
 * are one step under the lock that mmap takes (RR-41).
 */
static int remap_revoke_unmapped(struct remap_device *rd, u32 generation)
{
	u32 reasons = remap_saving_reasons(rd);
	int ret = 0;

	spin_lock_irq(&rd->lock);
	if (rd->generation != generation) {
		ret = -ECANCELED;
	} else if (remap_vma_overlaps(rd, reasons, "refuse")) {
		ret = -EBUSY;
	} else {
		remap_layout_change(rd, rd->revoked | reasons);
		rd->enforced |= reasons;
		remap_mailbox_switch(rd, true);
	}
	spin_unlock_irq(&rd->lock);
	return ret;
}

/*
 * Before the first arc into the saving group: takes away what that does not
 * offer. 0: the areas are the user's no longer, and the layout stays; whoever
 * fails after this calls remap_roll_back(). Else all is as it was.
 */
int remap_enter_saving(struct remap_device *rd, u32 generation)
{
	if (rd->row->irq)
		return remap_revoke_and_wait(rd, generation);
	return rd->row->saving_layout ? remap_revoke_unmapped(rd, generation) : 0;
}

/* With the arc that ends in the saving group. */
void remap_entered_saving_locked(struct remap_device *rd)
{
	if (rd->row->saving_layout)
		remap_layout_change(rd, rd->revoked & ~BIT(REMAP_REASON_NOT_SAVING));
}

/*
 * With the arc that leaves it, or a reset; what fails here has changed nothing.
 * `reasons` are over.
 */
int remap_leave_saving_locked(struct remap_device *rd, u32 reasons, struct remap_adds *adds)
{
	u32 only_saving = BIT(REMAP_REASON_NOT_SAVING) & ~rd->revoked;

	if (remap_vma_overlaps(rd, only_saving, "refuse"))
		return -EBUSY;
	if (only_saving)
		remap_layout_change(rd, rd->revoked | only_saving);
	remap_restore_locked(rd, reasons, adds);
	return 0;
}
