// SPDX-License-Identifier: GPL-2.0
/*
 * Region 0 as a device that counts: what proves that no write of a guest is
 * lost, doubled, or comes by a path that was revoked.
 *
 * The region is an array of u64 slots. A word guest << 32 | seq, stored in any
 * slot, is a delivery; the device takes it out and leaves 0. Mapped stores are
 * found by looking, about every millisecond and at each moment that matters;
 * trapped ones are taken as they come and never reach the memory.
 */
#include <linux/bitmap.h>
#include <linux/sysfs.h>
#include <linux/vmalloc.h>

#include "remap.h"

#define REMAP_SLOTS	(REMAP_MAILBOX_SIZE / sizeof(u64))

enum remap_path { REMAP_BY_MAP, REMAP_BY_TRAP };

/* [mailbox.lock] */
static void remap_deliver(struct remap_mailbox *box, u64 word, enum remap_path path)
{
	u32 seq = lower_32_bits(word);
	struct remap_guest *guest;

	if (upper_32_bits(word) >= REMAP_GUESTS || !seq) {
		box->invalid++;
		return;
	}
	guest = &box->guest[upper_32_bits(word)];
	guest->received++;
	guest->highest = max_t(u64, guest->highest, seq);
	if (path == REMAP_BY_MAP)
		guest->by_map++;
	else
		guest->by_trap++;
	if (seq <= REMAP_SEEN_SEQS && __test_and_set_bit(seq - 1, guest->seen))
		guest->duplicates++;
}

/* [mailbox.lock] Stale words are evidence and never deliveries. */
static void remap_scan_locked(struct remap_device *rd)
{
	struct remap_mailbox *box = &rd->mailbox;
	u64 *slots = rd->mem[REMAP_REGION_MAILBOX];
	unsigned int i;

	for (i = 0; i < REMAP_SLOTS; i++) {
		u64 word;

		if (!READ_ONCE(slots[i]))
			continue;
		word = xchg(&slots[i], 0);
		if (!word)
			continue;
		if (box->revoked)
			box->stale++;
		else
			remap_deliver(box, word, REMAP_BY_MAP);
	}
}

void remap_mailbox_scan(struct remap_device *rd)
{
	unsigned long flags;

	spin_lock_irqsave(&rd->mailbox.lock, flags);
	remap_scan_locked(rd);
	spin_unlock_irqrestore(&rd->mailbox.lock, flags);
}

/* Whatever lies there came before the switch and is judged by the old rule. */
void remap_mailbox_switch(struct remap_device *rd, bool revoked)
{
	unsigned long flags;

	spin_lock_irqsave(&rd->mailbox.lock, flags);
	if (rd->mailbox.revoked != revoked) {
		remap_scan_locked(rd);
		rd->mailbox.revoked = revoked;
	}
	spin_unlock_irqrestore(&rd->mailbox.lock, flags);
}

void remap_mailbox_trapped(struct remap_device *rd, u64 word)
{
	unsigned long flags;

	spin_lock_irqsave(&rd->mailbox.lock, flags);
	remap_deliver(&rd->mailbox, word, REMAP_BY_TRAP);
	spin_unlock_irqrestore(&rd->mailbox.lock, flags);
}

static void remap_mailbox_work(struct work_struct *work)
{
	struct remap_device *rd = container_of(work, struct remap_device, mailbox.scan.work);

	remap_mailbox_scan(rd);
	schedule_delayed_work(&rd->mailbox.scan, msecs_to_jiffies(1));
}

void remap_mailbox_start(struct remap_device *rd)
{
	schedule_delayed_work(&rd->mailbox.scan, msecs_to_jiffies(1));
}

void remap_mailbox_stop(struct remap_device *rd)
{
	cancel_delayed_work_sync(&rd->mailbox.scan);
	remap_mailbox_scan(rd);
}

int remap_mailbox_init(struct remap_device *rd)
{
	struct remap_mailbox *box = &rd->mailbox;
	unsigned int i;

	spin_lock_init(&box->lock);
	INIT_DELAYED_WORK(&box->scan, remap_mailbox_work);
	for (i = 0; i < REMAP_GUESTS; i++) {
		box->guest[i].seen = vzalloc(BITS_TO_LONGS(REMAP_SEEN_SEQS) * sizeof(long));
		if (!box->guest[i].seen)
			return -ENOMEM;
	}
	return 0;
}

void remap_mailbox_free(struct remap_device *rd)
{
	unsigned int i;

	for (i = 0; i < REMAP_GUESTS; i++)
		vfree(rd->mailbox.guest[i].seen);
}

void remap_mailbox_clear(struct remap_device *rd)
{
	struct remap_mailbox *box = &rd->mailbox;
	unsigned long flags;
	unsigned int i;

	spin_lock_irqsave(&box->lock, flags);
	box->stale = 0;
	box->invalid = 0;
	for (i = 0; i < REMAP_GUESTS; i++) {
		unsigned long *seen = box->guest[i].seen;

		bitmap_zero(seen, REMAP_SEEN_SEQS);
		box->guest[i] = (struct remap_guest){ .seen = seen };
	}
	spin_unlock_irqrestore(&box->lock, flags);
}

ssize_t remap_mailbox_show(struct remap_device *rd, char *buf)
{
	struct remap_mailbox *box = &rd->mailbox;
	unsigned long flags;
	unsigned int i;
	int len = 0;

	spin_lock_irqsave(&box->lock, flags);
	remap_scan_locked(rd);
	for (i = 0; i < REMAP_GUESTS; i++) {
		struct remap_guest *guest = &box->guest[i];

		len += sysfs_emit_at(buf, len,
				     "guest=%u received=%llu duplicates=%llu highest=%llu by_map=%llu by_trap=%llu\n",
				     i, guest->received, guest->duplicates, guest->highest,
				     guest->by_map, guest->by_trap);
	}
	len += sysfs_emit_at(buf, len, "stale=%llu\ninvalid=%llu\n", box->stale, box->invalid);
	spin_unlock_irqrestore(&box->lock, flags);
	return len;
}
