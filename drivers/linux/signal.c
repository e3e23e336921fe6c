// SPDX-License-Identifier: GPL-2.0
/*
 * What goes out: signals, their sums and the targets of what waits for them.
 *
 * A signal is first a set of bits that a page is yet to be told (`pending`).
 * remap_account() turns them into numbers, under the spinlock and together with
 * the layout, the sums and the targets: no ack is judged against a target that
 * is not sent yet. remap_ring() then adds the numbers, without the spinlock, as
 * the eventfd's lock stands above it. reg_mutex is held from the one to the
 * other, so that the eventfd is still the registered one.
 */
#include "remap.h"

bool remap_page_enabled(struct remap_device *rd, unsigned int page)
{
	return rd->row->irq && rd->eventfd[REMAP_TRIGGER_OF(page)].live &&
	       (rd->row->ack != REMAP_ACK_VALUE || rd->eventfd[REMAP_ACK_OF(page)].live);
}

bool remap_irqs_enabled(struct remap_device *rd)
{
	unsigned int page;

	for (page = 0; page < rd->pages; page++)
		if (!remap_page_enabled(rd, page))
			return false;
	return true;
}

void remap_sums_reset(struct remap_device *rd, unsigned int page)
{
	rd->page[page] = (struct remap_page){};
	/* What the old registration never acked, the next signal asks for again. */
	rd->untargeted |= rd->awaiting & remap_page_reasons(page);
}

/* How much may still be sent: sent - acked stays below the limit (RR-17). */
static u64 remap_room(struct remap_device *rd, struct remap_page *page)
{
	if (rd->row->ack != REMAP_ACK_VALUE)
		return U64_MAX;
	return READ_ONCE(rd->count_limit) - 1 - (page->sent - page->acked);
}

/* The bits that fit, from the lowest: all 64 at once are a number that nobody can write. */
static u64 remap_bits_that_fit(u64 bits, u64 room)
{
	u64 sum = 0;
	unsigned int bit;

	for (bit = 0; bit < 64; bit++)
		if ((bits & BIT_ULL(bit)) && BIT_ULL(bit) <= room - sum)
			sum |= BIT_ULL(bit);
	return sum;
}

/* What to add now for what is pending; 0: nothing, or no room for any of it. */
static u64 remap_take_pending(struct remap_device *rd, unsigned int nr, unsigned int times)
{
	struct remap_page *page = &rd->page[nr];
	u64 room = remap_room(rd, page), n = 1;

	if (!page->pending || room < times)
		return 0;
	if (!rd->row->bitmap || READ_ONCE(rd->add_one)) {
		page->pending = 0;
		return n;
	}
	n = remap_bits_that_fit(page->pending, min_t(u64, room / times, U64_MAX - 1));
	page->pending &= ~n;
	if (READ_ONCE(rd->signal_undeclared))	/* the lowest such bit of the page */
		n |= BIT_ULL(ffz(remap_reason_bits(remap_page_reasons(nr), nr)));
	return n;
}

static void remap_target(struct remap_device *rd, unsigned int page)
{
	u32 reasons = rd->untargeted & remap_page_reasons(page);
	u64 sent = rd->page[page].sent;
	unsigned int reason;

	for (reason = 0; reason < REMAP_NUM_REASONS; reason++)
		if (reasons & BIT(reason))
			rd->target[reason] = sent;
	if (rd->waiting && !rd->wait_done && (reasons & REMAP_SAVING))
		remap_trace(rd, "wait target=%llu page=%u", sent, page);
	/* A bare ack is for what was signalled before it: armed in the add itself. */
	if (rd->row->ack != REMAP_ACK_BARE)
		rd->untargeted &= ~reasons;
}

/* What finds no room stays pending; the work makes it after the next ack. */
void remap_account(struct remap_device *rd, struct remap_adds *adds)
{
	unsigned int i;

	adds->times = READ_ONCE(rd->signal_twice) ? 2 : 1;
	for (i = 0; i < rd->pages; i++) {
		struct remap_page *page = &rd->page[i];
		u64 n = 0;

		if (remap_page_enabled(rd, i))
			n = remap_take_pending(rd, i, adds->times);
		adds->page[i] = n;
		if (!n)
			continue;
		page->sent += n * adds->times;
		remap_trace(rd, "signal add=%llu page=%u", n, i);
		if (adds->times > 1)
			remap_trace(rd, "signal add=%llu page=%u", n, i);
		if (!page->pending)
			remap_target(rd, i);
	}
	/* Nobody may have mapped what is revoked: then there is nothing to wait for. */
	if (rd->row->ack == REMAP_ACK_NONE)
		remap_judge_acks(rd);
}

void remap_ring(struct remap_device *rd, const struct remap_adds *adds)
{
	unsigned int page, nth;

	for (page = 0; page < rd->pages; page++)
		for (nth = 0; adds->page[page] && nth < adds->times; nth++)
			remap_eventfd_signal(rd, REMAP_TRIGGER_OF(page), adds->page[page]);
}
