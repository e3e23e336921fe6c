// SPDX-License-Identifier: GPL-2.0
/*
 * What comes back: acks of each kind, and the wait that they end. All of it
 * runs under the spinlock, most of it in wait callbacks of eventfds.
 */
#include "remap.h"

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
	if (remap_vma_overlaps(rd, reasons & rd->revoked, "violation kind=acked_while_mapped"))
		rd->violations++;
	if ((reasons & REMAP_SAVING) && !(rd->awaiting & REMAP_SAVING))
		remap_end_wait(rd, 0);
}

static bool remap_covered(struct remap_device *rd, unsigned int page, unsigned int reason)
{
	struct remap_page *p = &rd->page[page];

	switch (rd->row->ack) {
	case REMAP_ACK_VALUE:
		return p->sent - p->acked <= p->sent - rd->target[reason];
	case REMAP_ACK_BARE:
		return p->heard;
	default:
		return !remap_vma_overlaps(rd, BIT(reason), NULL);
	}
}

void remap_judge_acks(struct remap_device *rd)
{
	unsigned int page, reason;
	u32 covered = 0;

	if (READ_ONCE(rd->ignore_acks))
		return;
	for (page = 0; page < rd->pages; page++) {
		u32 signalled = rd->awaiting & ~rd->untargeted & remap_page_reasons(page);

		for (reason = 0; reason < REMAP_NUM_REASONS; reason++)
			if ((signalled & BIT(reason)) && remap_covered(rd, page, reason))
				covered |= BIT(reason);
	}
	if (covered)
		remap_enforce(rd, covered);
}

/* A value ack (RR-14 to RR-17). */
void remap_heard_value(struct remap_device *rd, unsigned int page, u64 n)
{
	struct remap_page *p = &rd->page[page];

	remap_trace(rd, "ack value=%llu page=%u", n, page);
	if (READ_ONCE(rd->take_any_ack)) {
		n = p->sent - p->acked;
	} else if (n > p->sent - p->acked) {
		rd->violations++;
		remap_trace(rd, "violation kind=ack_not_sent value=%llu owed=%llu", n,
			    p->sent - p->acked);
		return;
	}
	p->acked += n;
	remap_judge_acks(rd);
	if (n && p->pending)
		schedule_work(&rd->work);	/* no add from inside a wait callback */
}

/*
 * Something was added to the trigger fd of a row with bare acks: by us, or it is
 * an ack. While our own add is unread, an ack cannot be for it (RR-53).
 */
void remap_heard_trigger(struct remap_device *rd, unsigned int page, bool own)
{
	struct remap_page *p = &rd->page[page];

	if (own) {
		p->adds++;
		p->unread = true;
		p->heard = false;
		rd->untargeted &= ~remap_page_reasons(page);
		return;
	}
	if (p->unread && !READ_ONCE(rd->take_any_ack)) {
		remap_trace(rd, "ack read=0 adds=%u page=%u", p->adds, page);
		return;
	}
	remap_trace(rd, "ack read=%d adds=%u page=%u", !p->unread, p->adds, page);
	p->acked++;
	p->heard = true;
	remap_judge_acks(rd);
}

void remap_heard_read(struct remap_device *rd, unsigned int page)
{
	rd->page[page].unread = false;
}
