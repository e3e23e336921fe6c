// SPDX-License-Identifier: GPL-2.0
/* The VFIO face of one device: life, ioctls, and trapped access to regions. */
#include <linux/pci_regs.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "remap.h"

/* Of no vendor: the PCI SIG assigned neither number. */
#define REMAP_VENDOR_ID	0xfeed
#define REMAP_DEVICE_ID	0x7e3a

static void remap_memory_free(struct remap_device *rd)
{
	unsigned int i;

	for (i = 0; i < REMAP_MEM_REGIONS; i++)
		vfree(rd->mem[i]);
}

static int remap_memory_init(struct remap_device *rd)
{
	unsigned int i;

	for (i = 0; i < REMAP_MEM_REGIONS; i++) {
		rd->mem[i] = vmalloc_user(remap_memories[i].size);
		if (!rd->mem[i]) {
			remap_memory_free(rd);
			return -ENOMEM;
		}
	}
	rd->config[0] = REMAP_VENDOR_ID & 0xff;
	rd->config[1] = REMAP_VENDOR_ID >> 8;
	rd->config[2] = REMAP_DEVICE_ID & 0xff;
	rd->config[3] = REMAP_DEVICE_ID >> 8;
	rd->config[11] = 0xff;	/* class: unassigned */
	rd->config[PCI_INTERRUPT_PIN] = 1;
	return 0;
}

static int remap_init(struct vfio_device *vdev)
{
	struct remap_device *rd = to_remap(vdev);
	unsigned int i;
	int ret;

	mutex_init(&rd->reg_mutex);
	spin_lock_init(&rd->lock);
	init_waitqueue_head(&rd->waitq);
	INIT_LIST_HEAD(&rd->vmas);
	INIT_WORK(&rd->work, remap_work);
	for (i = 0; i < REMAP_NUM_SLOTS; i++) {
		rd->eventfd[i].rd = rd;
		rd->eventfd[i].slot = i;
	}
	rd->row = remap_default_row();
	rd->pages = 1;
	rd->revoked = BIT(REMAP_REASON_NOT_SAVING) | BIT(REMAP_REASON_NOT_V1);
	rd->fail_arc = U32_MAX;
	rd->state = VFIO_DEVICE_STATE_RUNNING;
	rd->ack_timeout_ms = 2000;
	rd->max_waits = 1;
	rd->count_limit = U64_MAX;
	ret = remap_trace_init(rd);
	if (!ret)
		ret = remap_mailbox_init(rd);
	if (!ret)
		ret = remap_memory_init(rd);
	if (!ret) {
		ret = remap_v1_init(rd);
		if (ret)
			remap_memory_free(rd);
	}
	if (ret) {
		remap_mailbox_free(rd);
		remap_trace_free(rd);
	}
	return ret;
}

static void remap_release(struct vfio_device *vdev)
{
	struct remap_device *rd = to_remap(vdev);

	remap_v1_free(rd);
	remap_memory_free(rd);
	remap_mailbox_free(rd);
	remap_trace_free(rd);
	remap_free_vfio_device(vdev);
}

/* The core calls this for the first fd of a device, and close for the last. */
static int remap_open_device(struct vfio_device *vdev)
{
	struct remap_device *rd = to_remap(vdev);

	spin_lock_irq(&rd->lock);
	rd->opens++;
	spin_unlock_irq(&rd->lock);
	remap_trace(rd, "open");
	remap_mailbox_clear(rd);
	remap_mailbox_start(rd);
	return 0;
}

static void remap_close_device(struct vfio_device *vdev)
{
	struct remap_device *rd = to_remap(vdev);

	remap_disable_irqs(rd);
	cancel_work_sync(&rd->work);
	remap_reset(rd);
	remap_v1_close(rd);
	remap_mailbox_stop(rd);
	spin_lock_irq(&rd->lock);
	rd->opens--;
	spin_unlock_irq(&rd->lock);
	remap_trace(rd, "close");
}

/* Somebody wants the device gone: let go of a blocked writer at once. */
static void remap_request(struct vfio_device *vdev, unsigned int count)
{
	struct remap_device *rd = to_remap(vdev);

	spin_lock_irq(&rd->lock);
	remap_fail_wait(rd, -ECANCELED);
	spin_unlock_irq(&rd->lock);
}

u32 remap_num_regions(struct remap_device *rd)
{
	if (rd->pages > 1)
		return REMAP_REGION_FARTHER + 1;
	return rd->v1.on ? REMAP_REGION_MIGRATION + 1 : VFIO_PCI_NUM_REGIONS;
}

static long remap_get_info(struct remap_device *rd, void __user *arg)
{
	struct vfio_device_info info;
	size_t minsz = offsetofend(struct vfio_device_info, num_irqs);

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz)
		return -EINVAL;
	info.flags = VFIO_DEVICE_FLAGS_RESET | (rd->non_pci ? 0 : VFIO_DEVICE_FLAGS_PCI);
	info.num_regions = remap_num_regions(rd);
	info.num_irqs = remap_num_irqs(rd);
	return copy_to_user(arg, &info, minsz) ? -EFAULT : 0;
}

static long remap_ioctl(struct vfio_device *vdev, unsigned int cmd, unsigned long arg)
{
	struct remap_device *rd = to_remap(vdev);
	void __user *uarg = (void __user *)arg;

	switch (cmd) {
	case VFIO_DEVICE_GET_INFO:
		return remap_get_info(rd, uarg);
	case VFIO_DEVICE_GET_REGION_INFO:
		return remap_get_region_info(rd, uarg);
	case VFIO_DEVICE_GET_IRQ_INFO:
		return remap_get_irq_info(rd, uarg);
	case VFIO_DEVICE_SET_IRQS:
		return remap_set_irqs(rd, uarg);
	case VFIO_DEVICE_RESET:
		remap_trace(rd, "reset");
		return remap_reset(rd);
	default:
		return -ENOTTY;
	}
}

/* The core answers the migration features itself; there are no others. */
static int remap_feature(struct vfio_device *vdev, u32 flags, void __user *arg, size_t argsz)
{
	return -ENOTTY;
}

static u32 remap_region_of(loff_t pos)
{
	return (u64)pos >> REMAP_OFFSET_SHIFT;
}

static u64 remap_offset_of(loff_t pos)
{
	return pos & (BIT_ULL(REMAP_OFFSET_SHIFT) - 1);
}

/* The memory behind a file offset, with `count` cut to the region's end. */
static void *remap_locate(struct remap_device *rd, loff_t pos, size_t *count)
{
	u32 region = remap_region_of(pos);
	u64 offset = remap_offset_of(pos);
	u64 size = pos < 0 ? 0 : remap_region_size(rd, region);

	if (offset >= size)
		return ERR_PTR(-EINVAL);
	*count = min_t(u64, *count, size - offset);
	return remap_region_memory(rd, region) + offset;
}

static ssize_t remap_read(struct vfio_device *vdev, char __user *buf, size_t count, loff_t *pos)
{
	struct remap_device *rd = to_remap(vdev);
	void *from = remap_locate(rd, *pos, &count);
	ssize_t ret = count;

	if (IS_ERR(from))
		return PTR_ERR(from);
	if (remap_region_of(*pos) == REMAP_REGION_MIGRATION)
		ret = remap_v1_read(rd, buf, count, remap_offset_of(*pos));
	else if (copy_to_user(buf, from, count))
		ret = -EFAULT;
	if (ret > 0)
		*pos += ret;
	return ret;
}

/* Deliveries are whole words; half a one could not be told from another. */
static ssize_t remap_write_mailbox(struct remap_device *rd, const char __user *buf, size_t count)
{
	size_t done;
	u64 word;

	if (count % sizeof(word))
		return -EINVAL;
	for (done = 0; done < count; done += sizeof(word)) {
		if (copy_from_user(&word, buf + done, sizeof(word)))
			return done ? done : -EFAULT;
		if (word)
			remap_mailbox_trapped(rd, word);
	}
	return count;
}

static ssize_t remap_write(struct vfio_device *vdev, const char __user *buf, size_t count,
			   loff_t *pos)
{
	struct remap_device *rd = to_remap(vdev);
	void *to = remap_locate(rd, *pos, &count);
	ssize_t ret = count;

	if (IS_ERR(to))
		return PTR_ERR(to);
	switch (remap_region_of(*pos)) {
	case REMAP_REGION_MIGRATION:
		ret = remap_v1_write(rd, buf, count, remap_offset_of(*pos));
		break;
	case REMAP_REGION_MAILBOX:
		ret = *pos % sizeof(u64) ? -EINVAL : remap_write_mailbox(rd, buf, count);
		break;
	case REMAP_REGION_CONFIG:
		break;		/* read-only: accepted and without effect */
	default:
		if (copy_from_user(to, buf, count))
			ret = -EFAULT;
	}
	if (ret > 0)
		*pos += ret;
	return ret;
}

const struct vfio_device_ops remap_vfio_ops = {
	.name = "vfio-region-remap",
	.init = remap_init,
	.release = remap_release,
	.open_device = remap_open_device,
	.close_device = remap_close_device,
	.request = remap_request,
	.ioctl = remap_ioctl,
	.device_feature = remap_feature,
	.read = remap_read,
	.write = remap_write,
	.mmap = remap_mmap,
	REMAP_IOMMUFD_OPS
};
