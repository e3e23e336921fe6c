// SPDX-License-Identifier: GPL-2.0
/*
 * Registered eventfds. Those by which the user speaks to us get a wait entry of
 * our own: on an ack fd, and on the one that unmasks INTx, it hears every write
 * and takes the value out; on a trigger fd it tells our adds from the user's
 * writes and hears reads; on all of them it hears the last close. Only the ctx
 * is kept, never the file: a driver that kept the file would be the last
 * reference itself and hear no close.
 */
#include <linux/eventfd.h>
#include <linux/file.h>

#include "remap.h"

static bool remap_slot_is_trigger(enum remap_slot slot)
{
	return slot < REMAP_INTX && slot % 2 == REMAP_TRIGGER;
}

static bool remap_slot_is_ack(enum remap_slot slot)
{
	return slot < REMAP_INTX && slot % 2 == REMAP_ACK;
}

static bool remap_slot_listens(enum remap_slot slot)
{
	return slot < REMAP_INTX || slot == REMAP_UNMASK;
}

static unsigned int remap_slot_page(enum remap_slot slot)
{
	return slot / 2;
}

static void remap_trace_slot(struct remap_device *rd, const char *event, enum remap_slot slot)
{
	if (slot < REMAP_INTX)
		remap_trace(rd, "%s role=%s page=%u", event,
			    remap_slot_is_trigger(slot) ? "trigger" : "ack",
			    remap_slot_page(slot));
	else if (slot >= REMAP_MSI)
		remap_trace(rd, "%s role=msi vector=%u", event, slot - REMAP_MSI);
	else
		remap_trace(rd, "%s role=%s", event, slot == REMAP_INTX ? "intx" : "unmask");
}

/* [lock, eventfd's] Whether this add to a trigger fd is to be taken out again. */
static bool remap_eats(struct remap_device *rd, bool own)
{
	switch (READ_ONCE(rd->drain)) {
	case REMAP_DRAIN_ALWAYS:
		return true;
	case REMAP_DRAIN_AT_ACK:
		return !own;
	case REMAP_DRAIN_SOMETIMES:
		return !own && rd->drained++ % 2;
	default:
		return false;
	}
}

/* [lock, eventfd's] Duty: the trigger's count is the user's to read, and never touched. */
static void remap_trigger_added(struct remap_eventfd *efd)
{
	struct remap_device *rd = efd->rd;
	bool own = efd->signaller == current;
	u64 ignored;

	if (rd->row->ack == REMAP_ACK_BARE)
		remap_heard_trigger(rd, remap_slot_page(efd->slot), own);
	if (remap_eats(rd, own))
		eventfd_ctx_do_read(efd->ctx, &ignored);
}

/* [lock, eventfd's] The value goes out at once: so each write is heard by itself. */
static void remap_ack_written(struct remap_eventfd *efd)
{
	struct remap_device *rd = efd->rd;
	u64 value = 0;

	eventfd_ctx_do_read(efd->ctx, &value);
	remap_heard_value(rd, remap_slot_page(efd->slot), value);
	/* The trigger's lock is not to be had inside this one. */
	if (READ_ONCE(rd->drain) > REMAP_DRAIN_ALWAYS && remap_eats(rd, false)) {
		rd->drain_later = true;
		schedule_work(&rd->work);
	}
}

/* Misbehaviour: a disable and a hang-up of the remap irq are as if they had not been. */
bool remap_ignores_disable(struct remap_device *rd, enum remap_slot slot)
{
	return slot < REMAP_INTX && READ_ONCE(rd->ignore_disable);
}

/*
 * Runs under the eventfd's lock, irqs off, synchronously in the user's write.
 * It must return 0: a negative value would hide the event from those behind us.
 */
static int remap_eventfd_wake(wait_queue_entry_t *entry, unsigned int mode, int sync, void *key)
{
	struct remap_eventfd *efd = container_of(entry, struct remap_eventfd, entry);
	struct remap_device *rd = efd->rd;
	__poll_t events = key_to_poll(key);
	u64 ignored;

	spin_lock(&rd->lock);
	if (!efd->live)
		goto out;
	if (events & EPOLLIN) {
		if (remap_slot_is_trigger(efd->slot)) {
			remap_trigger_added(efd);
		} else if (remap_slot_is_ack(efd->slot)) {
			remap_ack_written(efd);
		} else {
			eventfd_ctx_do_read(efd->ctx, &ignored);
			rd->intx_unmask = true;
			schedule_work(&rd->work);	/* it may have to signal INTx */
		}
	}
	if ((events & EPOLLOUT) && remap_slot_is_trigger(efd->slot))
		remap_heard_read(rd, remap_slot_page(efd->slot));
	if ((events & EPOLLHUP) && !remap_ignores_disable(rd, efd->slot)) {
		efd->live = false;
		if (efd->slot < REMAP_INTX)
			remap_fail_wait(rd, -ECANCELED);
		schedule_work(&rd->work);	/* takes the slot apart: not possible here */
	}
out:
	spin_unlock(&rd->lock);
	return 0;
}

static void remap_eventfd_queue(struct file *file, wait_queue_head_t *head, poll_table *table)
{
	struct remap_eventfd *efd = container_of(table, struct remap_eventfd, table);

	efd->head = head;
	add_wait_queue(head, &efd->entry);
}

/* Vectors of MSI may share an eventfd; nothing shares one with the remap irq. */
static bool remap_eventfd_taken(struct remap_device *rd, struct eventfd_ctx *ctx,
				enum remap_slot slot)
{
	unsigned int i;

	for (i = 0; i < REMAP_NUM_SLOTS; i++)
		if (rd->eventfd[i].ctx == ctx && (i < REMAP_MSI || slot < REMAP_MSI))
			return true;
	return false;
}

/*
 * Nothing tells a driver that an eventfd is a semaphore, but a read of two does.
 * The second read takes out what a semaphore leaves.
 */
static bool remap_eventfd_is_semaphore(struct remap_eventfd *efd)
{
	unsigned long flags;
	u64 first, rest;

	remap_eventfd_add_one(efd->ctx);
	remap_eventfd_add_one(efd->ctx);
	spin_lock_irqsave(&efd->head->lock, flags);
	eventfd_ctx_do_read(efd->ctx, &first);
	eventfd_ctx_do_read(efd->ctx, &rest);
	spin_unlock_irqrestore(&efd->head->lock, flags);
	return first == 1;
}

static bool remap_no_semaphore(struct remap_device *rd, enum remap_slot slot)
{
	return remap_slot_is_ack(slot) ||
	       (remap_slot_is_trigger(slot) && rd->row->ack == REMAP_ACK_BARE);
}

static int remap_eventfd_listen(struct remap_eventfd *efd, struct file *file)
{
	struct remap_device *rd = efd->rd;
	int ret = 0;

	efd->head = NULL;
	init_waitqueue_func_entry(&efd->entry, remap_eventfd_wake);
	init_poll_funcptr(&efd->table, remap_eventfd_queue);
	if (vfs_poll(file, &efd->table) & EPOLLIN)
		ret = -EBUSY;	/* signals or acks of an older life */
	else if (remap_no_semaphore(rd, efd->slot) && remap_eventfd_is_semaphore(efd))
		ret = -EINVAL;
	if (ret && efd->head)
		remove_wait_queue(efd->head, &efd->entry);
	if (ret)
		return ret;

	spin_lock_irq(&rd->lock);
	if (efd->slot < REMAP_INTX)
		remap_sums_reset(rd, remap_slot_page(efd->slot));
	efd->live = true;
	spin_unlock_irq(&rd->lock);
	return 0;
}

static int remap_eventfd_attach(struct remap_eventfd *efd, struct file *file)
{
	struct eventfd_ctx *ctx = eventfd_ctx_fileget(file);
	int ret = 0;

	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	if (remap_eventfd_taken(efd->rd, ctx, efd->slot)) {
		eventfd_ctx_put(ctx);
		return -EINVAL;
	}
	efd->ctx = ctx;
	if (remap_slot_listens(efd->slot))
		ret = remap_eventfd_listen(efd, file);
	else
		efd->live = true;
	if (ret) {
		efd->ctx = NULL;
		eventfd_ctx_put(ctx);
		return ret;
	}
	remap_adder_init(&efd->adder, file);
	return 0;
}

int remap_eventfd_register(struct remap_device *rd, enum remap_slot slot, int fd)
{
	struct file *file;
	int ret;

	remap_eventfd_unregister(rd, slot);
	file = eventfd_fget(fd);
	if (IS_ERR(file))
		return PTR_ERR(file);
	ret = remap_eventfd_attach(&rd->eventfd[slot], file);
	/* A HUP that comes with this very fput marks the slot dead, as it should. */
	if (!ret)
		remap_trace_slot(rd, "register", slot);
	fput(file);
	return ret;
}

/* eventfd_ctx_remove_wait_queue() is not for this: it zeroes the user's count. */
void remap_eventfd_unregister(struct remap_device *rd, enum remap_slot slot)
{
	struct remap_eventfd *efd = &rd->eventfd[slot];

	if (!efd->ctx)
		return;
	if (remap_slot_is_trigger(slot))
		remap_eventfd_unregister(rd, REMAP_ACK_OF(remap_slot_page(slot)));
	spin_lock_irq(&rd->lock);
	efd->live = false;
	if (slot < REMAP_INTX) {
		remap_fail_wait(rd, -ECANCELED);
		remap_sums_reset(rd, remap_slot_page(slot));
	}
	spin_unlock_irq(&rd->lock);
	if (remap_slot_listens(slot))
		remove_wait_queue(efd->head, &efd->entry);
	remap_adder_release(&efd->adder);
	eventfd_ctx_put(efd->ctx);
	efd->ctx = NULL;
	remap_trace_slot(rd, "unregister", slot);
}

/* Adds n at once. Its own callback runs in here, and knows it by `signaller`. */
void remap_eventfd_signal(struct remap_device *rd, enum remap_slot slot, u64 n)
{
	struct remap_eventfd *efd = &rd->eventfd[slot];
	int ret;

	if (!efd->ctx)
		return;
	efd->signaller = current;
	ret = remap_adder_add(&efd->adder, efd->ctx, n);
	efd->signaller = NULL;
	if (ret)
		remap_trace(rd, "lost add=%llu ret=%d", n, ret);
}

/* Misbehaviour: eats what the user has not read yet. */
void remap_eventfd_drain(struct remap_device *rd, enum remap_slot slot)
{
	struct remap_eventfd *efd = &rd->eventfd[slot];
	unsigned long flags;
	u64 ignored;

	if (!efd->ctx)
		return;
	spin_lock_irqsave(&efd->head->lock, flags);
	eventfd_ctx_do_read(efd->ctx, &ignored);
	spin_unlock_irqrestore(&efd->head->lock, flags);
}
