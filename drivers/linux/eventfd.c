// SPDX-License-Identifier: GPL-2.0
/*
 * Registered eventfds. The two fds of the remap irq get a wait entry of our
 * own: on the ack fd it hears every write and takes its value out, on both it
 * hears the last close. Only the ctx is kept, never the file: a driver that
 * kept the file would be the last reference itself and hear no close.
 */
#include <linux/eventfd.h>
#include <linux/file.h>

#include "remap.h"

const char *remap_role_name(enum remap_role role)
{
	static const char * const names[] = {
		[REMAP_TRIGGER] = "trigger", [REMAP_ACK] = "ack", [REMAP_MSI] = "msi",
	};

	return names[role];
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
	u64 value = 0;

	spin_lock(&rd->lock);
	if (!efd->live)
		goto out;
	/* The trigger is the user's to read: its count is never touched here. */
	if (efd->role == REMAP_ACK && (events & EPOLLIN)) {
		eventfd_ctx_do_read(efd->ctx, &value);
		remap_heard_ack(rd, value);
	}
	if (events & EPOLLHUP) {
		efd->live = false;
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

static bool remap_eventfd_taken(struct remap_device *rd, struct eventfd_ctx *ctx)
{
	unsigned int i;

	for (i = 0; i < REMAP_NUM_ROLES; i++)
		if (rd->eventfd[i].ctx == ctx)
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

static int remap_eventfd_listen(struct remap_eventfd *efd, struct file *file)
{
	struct remap_device *rd = efd->rd;
	int ret = 0;

	efd->head = NULL;
	init_waitqueue_func_entry(&efd->entry, remap_eventfd_wake);
	init_poll_funcptr(&efd->table, remap_eventfd_queue);
	if (vfs_poll(file, &efd->table) & EPOLLIN)
		ret = -EBUSY;	/* signals or acks of an older life */
	else if (efd->role == REMAP_ACK && remap_eventfd_is_semaphore(efd))
		ret = -EINVAL;
	if (ret && efd->head)
		remove_wait_queue(efd->head, &efd->entry);
	if (ret)
		return ret;

	spin_lock_irq(&rd->lock);
	remap_sums_reset(rd);
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
	if (remap_eventfd_taken(efd->rd, ctx)) {
		eventfd_ctx_put(ctx);
		return -EINVAL;
	}
	efd->ctx = ctx;
	if (efd->role != REMAP_MSI)
		ret = remap_eventfd_listen(efd, file);
	else
		efd->live = true;
	if (ret) {
		efd->ctx = NULL;
		eventfd_ctx_put(ctx);
	}
	return ret;
}

int remap_eventfd_register(struct remap_device *rd, enum remap_role role, int fd)
{
	struct file *file;
	int ret;

	remap_eventfd_unregister(rd, role);
	file = eventfd_fget(fd);
	if (IS_ERR(file))
		return PTR_ERR(file);
	ret = remap_eventfd_attach(&rd->eventfd[role], file);
	/* A HUP that comes with this very fput marks the slot dead, as it should. */
	if (!ret)
		remap_trace(rd, "register role=%s", remap_role_name(role));
	fput(file);
	return ret;
}

/* eventfd_ctx_remove_wait_queue() is not for this: it zeroes the user's count. */
void remap_eventfd_unregister(struct remap_device *rd, enum remap_role role)
{
	struct remap_eventfd *efd = &rd->eventfd[role];

	if (!efd->ctx)
		return;
	if (role == REMAP_TRIGGER)
		remap_eventfd_unregister(rd, REMAP_ACK);
	if (role != REMAP_MSI) {
		spin_lock_irq(&rd->lock);
		remap_fail_wait(rd, -ECANCELED);
		efd->live = false;
		remap_sums_reset(rd);
		spin_unlock_irq(&rd->lock);
		remove_wait_queue(efd->head, &efd->entry);
	}
	eventfd_ctx_put(efd->ctx);
	efd->ctx = NULL;
	efd->live = false;
	remap_trace(rd, "unregister role=%s", remap_role_name(role));
}
