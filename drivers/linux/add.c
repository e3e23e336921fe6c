// SPDX-License-Identifier: GPL-2.0
/*
 * Adding n to an eventfd at once: signals of a bitmap.
 *
 * n calls that add 1 are no substitute, as a reader may see a part of them, and
 * a part of region 1's bit is region 0's. Where eventfd_signal() adds 1 only,
 * what is left is the eventfd's own write. It takes its number from user memory,
 * so a page of the caller's address space is borrowed for it; a worker borrows
 * the address space of whoever registered the eventfd.
 *
 * The file itself is not kept: that would be a reference, and the last close
 * would never be heard (RR-20). A copy of the struct does, since the write uses
 * its private data, the context that we hold, and its flags. Those are ours, as
 * a user may take O_NONBLOCK away from the real one and let us sleep for ever.
 */
#include <linux/fcntl.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/sched/mm.h>
#include <linux/uaccess.h>

#include "remap.h"

#ifdef REMAP_SIGNAL_ADDS_N

void remap_adder_init(struct remap_adder *adder, struct file *file)
{
}

void remap_adder_release(struct remap_adder *adder)
{
}

int remap_adder_add(struct remap_adder *adder, struct eventfd_ctx *ctx, u64 n)
{
	return eventfd_signal(ctx, n) == n ? 0 : -EAGAIN;
}

#else

void remap_adder_init(struct remap_adder *adder, struct file *file)
{
	adder->shadow = *file;
	adder->shadow.f_flags |= O_NONBLOCK;
	adder->mm = current->mm;
	mmgrab(adder->mm);
}

void remap_adder_release(struct remap_adder *adder)
{
	if (adder->mm)
		mmdrop(adder->mm);
	adder->mm = NULL;
}

static int remap_adder_write(struct remap_adder *adder, u64 n)
{
	unsigned long page = vm_mmap(NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, 0);
	ssize_t ret = -EFAULT;
	loff_t pos = 0;

	if (IS_ERR_VALUE(page))
		return page;
	if (!copy_to_user((void __user *)page, &n, sizeof(n)))
		ret = adder->shadow.f_op->write(&adder->shadow, (void __user *)page,
						sizeof(n), &pos);
	vm_munmap(page, PAGE_SIZE);
	return ret < 0 ? ret : 0;
}

int remap_adder_add(struct remap_adder *adder, struct eventfd_ctx *ctx, u64 n)
{
	int ret;

	if (n == 1) {
		remap_eventfd_add_one(ctx);
		return 0;
	}
	if (current->mm)
		return remap_adder_write(adder, n);
	if (!mmget_not_zero(adder->mm))
		return -ESRCH;
	kthread_use_mm(adder->mm);
	ret = remap_adder_write(adder, n);
	kthread_unuse_mm(adder->mm);
	mmput(adder->mm);
	return ret;
}

#endif
