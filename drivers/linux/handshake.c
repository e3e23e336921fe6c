// SPDX-License-Identifier: GPL-2.0
/*
 * Signal, value ack, and the wait of a device_state write.
 *
 * `sent`, the targets, the layout and the wait's start change in one critical
 * section, and the trigger's count grows only afterwards: no ack is judged
 * against a target that is not sent yet. reg_mutex is held until the count has
 * grown, so that the eventfd in question is still the registered one.
 */
#include <linux/jiffies.h>

#include "remap.h"

bool remap_irq_enabled(struct remap_device *rd)
{
	return rd->eventfd[REMAP_TRIGGER].live && rd->eventfd[REMAP_ACK].live;
}

void remap_sums_reset(struct remap_device *rd)
{
	rd->sent = 0;
	rd->acked = 0;
	rd->kept = false;
	/* What the old registration never acked, the next signal asks for again. */
	rd->untargeted |= rd->awaiting;
}

/*
 * Counts a signal as sent and gives the revocations that had none their target.
 * True: the caller rings, once it has left the spinlock. False: there is no room
 * below the limit (RR-17), and the work rings after the next ack.
 */
bool remap_account_signal(struct remap_device *rd)
{
	unsigned int reason;

	if (!remap_irq_enabled(rd))
		return false;
	if (rd->sent - rd->acked >= READ_ONCE(rd->count_limit) - 1) {
		rd->kept = true;
		return false;
	}
	rd->kept = false;
	rd->sent++;
	for (reason = 0; reason < REMAP_NUM_REASONS; reason++)
		if (rd->untargeted & BIT(reason))
			rd->target[reason] = rd->sent;
	remap_trace(rd, "signal add=1");
	if (rd->waiting && !rd->wait_done && (rd->untargeted & BIT(REMAP_REASON_SAVING)))
		remap_trace(rd, "wait target=%llu", rd->sent);
	rd->untargeted = 0;
	return true;
}

void remap_ring(struct remap_device *rd)
{
	remap_eventfd_add_one(rd->eventfd[REMAP_TRIGGER].ctx);
}

static void remap_end_wait(struct remap_device *rd, int ret)
{
	if (!rd->waiting || rd->wait_done)
		return;
	rd->wait_done = true;
	rd->wait_ret = ret;
	wake_up_all(&rd->waitq);
}

void remap_fail_wait(struct remap_device *rd, int ret)
{
	remap_end_wait(rd, ret);
}

/* An ack has covered these reasons: the areas are the user's no longer. */
static void remap_enforce(struct remap_device *rd, u32 reasons)
{
	rd->awaiting &= ~reasons;
	rd->enforced |= reasons;
	if (rd->enforced & remap_areas[0].reasons)
		remap_mailbox_switch(rd, true);
	if (remap_vma_overlaps(rd, reasons))
		rd->violations++;
	if (reasons & BIT(REMAP_REASON_SAVING))
		remap_end_wait(rd, 0);
}

void remap_judge_acks(struct remap_device *rd)
{
	unsigned int reason;
	u32 covered = 0;

	if (READ_ONCE(rd->ignore_acks))
		return;
	for (reason = 0; reason < REMAP_NUM_REASONS; reason++)
		if ((rd->awaiting & ~rd->untargeted & BIT(reason)) &&
		    rd->sent - rd->acked <= rd->sent - rd->target[reason])
			covered |= BIT(reason);
	if (covered)
		remap_enforce(rd, covered);
}

void remap_heard_ack(struct remap_device *rd, u64 n)
{
	remap_trace(rd, "ack value=%llu", n);
	if (n > rd->sent - rd->acked) {
		rd->violations++;
		remap_trace(rd, "violation kind=ack_not_sent value=%llu owed=%llu", n,
			    rd->sent - rd->acked);
		return;
	}
	rd->acked += n;
	remap_judge_acks(rd);
	if (n && rd->kept)
		schedule_work(&rd->work);	/* no add from inside a wait callback */
}

/* What wait callbacks leave for process context. */
void remap_work(struct work_struct *work)
{
	struct remap_device *rd = container_of(work, struct remap_device, work);
	unsigned int role;
	bool ring;

	mutex_lock(&rd->reg_mutex);
	for (role = REMAP_TRIGGER; role <= REMAP_ACK; role++)
		if (rd->eventfd[role].ctx && !rd->eventfd[role].live)
			remap_eventfd_unregister(rd, role);
	spin_lock_irq(&rd->lock);
	ring = rd->kept && remap_account_signal(rd);
	spin_unlock_irq(&rd->lock);
	if (ring)
		remap_ring(rd);
	mutex_unlock(&rd->reg_mutex);
}

static void remap_revoke_locked(struct remap_device *rd, enum remap_reason reason)
{
	remap_layout_change(rd, rd->revoked | BIT(reason));
	rd->awaiting |= BIT(reason);
	rd->untargeted |= BIT(reason);
}

/* Spontaneous: signalled, and not waited for. */
int remap_revoke(struct remap_device *rd, enum remap_reason reason)
{
	bool ring = false;
	int ret = 0;

	mutex_lock(&rd->reg_mutex);
	spin_lock_irq(&rd->lock);
	if (!remap_irq_enabled(rd)) {
		ret = -EPERM;	/* nobody could be told */
	} else if (!(rd->revoked & BIT(reason))) {
		remap_revoke_locked(rd, reason);
		ring = remap_account_signal(rd);
	}
	spin_unlock_irq(&rd->lock);
	if (ring)
		remap_ring(rd);
	mutex_unlock(&rd->reg_mutex);
	return ret;
}

/* True: ring after the spinlock. What was stored until now is still stale. */
bool remap_restore_locked(struct remap_device *rd, u32 reasons)
{
	if (!(rd->revoked & reasons))
		return false;
	rd->awaiting &= ~reasons;
	rd->untargeted &= ~reasons;
	rd->enforced &= ~reasons;
	if (!(rd->enforced & remap_areas[0].reasons))
		remap_mailbox_switch(rd, false);
	remap_layout_change(rd, rd->revoked & ~reasons);
	return remap_account_signal(rd);
}

void remap_restore(struct remap_device *rd, u32 reasons)
{
	bool ring;

	mutex_lock(&rd->reg_mutex);
	spin_lock_irq(&rd->lock);
	ring = remap_restore_locked(rd, reasons);
	spin_unlock_irq(&rd->lock);
	if (ring)
		remap_ring(rd);
	mutex_unlock(&rd->reg_mutex);
}

/* Layout, sum, target and wait in one step; then the signal. */
static int remap_begin_wait(struct remap_device *rd, u32 generation)
{
	bool ring = false;
	int ret = 0;

	mutex_lock(&rd->reg_mutex);
	spin_lock_irq(&rd->lock);
	if (!remap_irq_enabled(rd)) {
		ret = -EPERM;
	} else if (rd->generation != generation) {
		ret = -ECANCELED;
	} else {
		rd->waiting = true;
		rd->wait_done = false;
		remap_revoke_locked(rd, REMAP_REASON_SAVING);
		ring = remap_account_signal(rd);
	}
	spin_unlock_irq(&rd->lock);
	if (ring)
		remap_ring(rd);
	mutex_unlock(&rd->reg_mutex);
	return ret;
}

/*
 * Takes away what the saving group does not offer. 0: the user has acked, and
 * the layout stays. Else it is as before, and that too was signalled.
 */
int remap_revoke_and_wait(struct remap_device *rd, u32 generation)
{
	unsigned long timeout = msecs_to_jiffies(READ_ONCE(rd->ack_timeout_ms));
	long left;
	int ret;

	ret = remap_begin_wait(rd, generation);
	if (ret)
		return ret;
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
		remap_restore(rd, BIT(REMAP_REASON_SAVING));
	return ret;
}
