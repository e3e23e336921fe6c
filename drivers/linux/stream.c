// SPDX-License-Identifier: GPL-2.0
/*
 * The data fds of migration.
 *
 * A stream is a row of records: at most one written in PRE_COPY, then the final
 * one. Each is a header and the contents of all regions with memory, of both
 * pages, so that a state fits whatever sysfs chose. Bytes below
 * `len` never change again, so that copies to and from users need no lock that
 * a device_state write would wait for: `io` orders only the users of the fd.
 * A stream outlives its session, and even the device, by its own references.
 */
#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/poll.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "remap.h"

#define REMAP_RECORD_MAGIC	0x7061726d65725f78ULL
#define REMAP_RECORD_VERSION	1
#define REMAP_PAYLOAD_SIZE	(REMAP_MAILBOX_SIZE + REMAP_SPARSE_SIZE + REMAP_REGISTERS_SIZE + \
				 REMAP_FAR_SIZE + REMAP_FARTHER_SIZE)

enum { REMAP_RECORD_PRE = 1, REMAP_RECORD_FINAL = 2 };

struct remap_record {
	__le64 magic;
	__le32 version;
	__le32 kind;
	__le64 payload_size;
	__le64 reserved;
};

#define REMAP_RECORD_SIZE	(sizeof(struct remap_record) + REMAP_PAYLOAD_SIZE)
#define REMAP_STREAM_SIZE	(2 * REMAP_RECORD_SIZE)

struct remap_stream {
	refcount_t refs;
	struct mutex io;
	spinlock_t lock;
	wait_queue_head_t waitq;
	size_t len;		/* [lock] bytes that are there */
	size_t pos;		/* [io] the reader's place */
	bool final;		/* [lock] nothing more will come */
	bool ended;		/* [lock] the session is over */
	u8 *data;
};

void remap_stream_get(struct remap_stream *stream)
{
	refcount_inc(&stream->refs);
}

void remap_stream_put(struct remap_stream *stream)
{
	if (!refcount_dec_and_test(&stream->refs))
		return;
	vfree(stream->data);
	kfree(stream);
}

static int remap_stream_release(struct inode *inode, struct file *filp)
{
	remap_stream_put(filp->private_data);
	return 0;
}

static ssize_t remap_stream_read(struct file *filp, char __user *buf, size_t count, loff_t *pos)
{
	struct remap_stream *stream = filp->private_data;
	ssize_t ret;

	mutex_lock(&stream->io);
	spin_lock(&stream->lock);
	count = min(count, stream->len - stream->pos);
	ret = count;
	if (stream->ended)
		ret = -ENODEV;
	else if (!count && stream->pos == stream->len && !stream->final)
		ret = -ENOMSG;	/* the end for now: more comes with STOP_COPY */
	spin_unlock(&stream->lock);
	if (ret > 0) {
		if (copy_to_user(buf, stream->data + stream->pos, ret))
			ret = -EFAULT;
		else
			stream->pos += ret;
	}
	mutex_unlock(&stream->io);
	return ret;
}

static __poll_t remap_stream_poll(struct file *filp, poll_table *table)
{
	struct remap_stream *stream = filp->private_data;
	__poll_t events = 0;

	poll_wait(filp, &stream->waitq, table);
	spin_lock(&stream->lock);
	if (stream->ended)
		events = EPOLLIN | EPOLLRDNORM | EPOLLHUP;
	else if (stream->final || READ_ONCE(stream->pos) < stream->len)
		events = EPOLLIN | EPOLLRDNORM;
	spin_unlock(&stream->lock);
	return events;
}

static long remap_stream_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	struct remap_stream *stream = filp->private_data;
	size_t minsz = offsetofend(struct vfio_precopy_info, dirty_bytes);
	struct vfio_precopy_info info;
	long ret = 0;

	if (cmd != VFIO_MIG_GET_PRECOPY_INFO)
		return -ENOTTY;
	if (copy_from_user(&info, (void __user *)arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz)
		return -EINVAL;
	info.flags = 0;
	info.dirty_bytes = 0;	/* what changes later is in the final record */
	spin_lock(&stream->lock);
	if (stream->ended)
		ret = -ENODEV;
	else if (stream->final)
		ret = -EINVAL;
	info.initial_bytes = stream->len - READ_ONCE(stream->pos);
	spin_unlock(&stream->lock);
	if (ret)
		return ret;
	return copy_to_user((void __user *)arg, &info, minsz) ? -EFAULT : 0;
}

static ssize_t remap_stream_write(struct file *filp, const char __user *buf, size_t count,
				  loff_t *pos)
{
	struct remap_stream *stream = filp->private_data;
	ssize_t ret = count;
	size_t len;
	bool ended;

	mutex_lock(&stream->io);
	spin_lock(&stream->lock);
	len = stream->len;
	ended = stream->ended;
	spin_unlock(&stream->lock);
	if (ended)
		ret = -ENODEV;
	else if (count > REMAP_STREAM_SIZE - len)
		ret = -EFBIG;
	else if (copy_from_user(stream->data + len, buf, count))
		ret = -EFAULT;
	if (ret > 0) {
		spin_lock(&stream->lock);
		stream->len = len + ret;
		spin_unlock(&stream->lock);
	}
	mutex_unlock(&stream->io);
	return ret;
}

static const struct file_operations remap_save_fops = {
	.owner = THIS_MODULE,
	.release = remap_stream_release,
	.read = remap_stream_read,
	.poll = remap_stream_poll,
	.unlocked_ioctl = remap_stream_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static const struct file_operations remap_load_fops = {
	.owner = THIS_MODULE,
	.release = remap_stream_release,
	.write = remap_stream_write,
};

static struct remap_stream *remap_stream_open(const char *name, int flags,
					      const struct file_operations *fops,
					      struct file **filp)
{
	struct remap_stream *stream = kzalloc(sizeof(*stream), GFP_KERNEL_ACCOUNT);
	struct file *file;

	if (!stream)
		return ERR_PTR(-ENOMEM);
	refcount_set(&stream->refs, 1);
	mutex_init(&stream->io);
	spin_lock_init(&stream->lock);
	init_waitqueue_head(&stream->waitq);
	stream->data = vzalloc(REMAP_STREAM_SIZE);
	if (!stream->data) {
		remap_stream_put(stream);
		return ERR_PTR(-ENOMEM);
	}
	file = anon_inode_getfile(name, fops, stream, flags);
	if (IS_ERR(file)) {
		remap_stream_put(stream);
		return ERR_CAST(file);
	}
	remap_stream_get(stream);	/* the file's own */
	stream_open(file->f_inode, file);
	*filp = file;
	return stream;
}

struct remap_stream *remap_stream_open_save(struct file **filp)
{
	return remap_stream_open("vfio-region-remap-save", O_RDONLY, &remap_save_fops, filp);
}

struct remap_stream *remap_stream_open_load(struct file **filp)
{
	return remap_stream_open("vfio-region-remap-load", O_WRONLY, &remap_load_fops, filp);
}

/* The session is over: readers and writers are told, and get nothing more. */
void remap_stream_end(struct remap_stream *stream)
{
	spin_lock(&stream->lock);
	stream->ended = true;
	spin_unlock(&stream->lock);
	wake_up_all(&stream->waitq);
}

/* The same streams without their fds, for the region of v1. */
size_t remap_stream_pending(struct remap_stream *stream)
{
	size_t pending;

	mutex_lock(&stream->io);
	spin_lock(&stream->lock);
	pending = stream->ended ? 0 : stream->len - stream->pos;
	spin_unlock(&stream->lock);
	mutex_unlock(&stream->io);
	return pending;
}

/* How much it was: 0 at the end, for now or for good. */
size_t remap_stream_take(struct remap_stream *stream, void *to, size_t count)
{
	mutex_lock(&stream->io);
	spin_lock(&stream->lock);
	count = stream->ended ? 0 : min(count, stream->len - stream->pos);
	spin_unlock(&stream->lock);
	memcpy(to, stream->data + stream->pos, count);
	stream->pos += count;
	mutex_unlock(&stream->io);
	return count;
}

int remap_stream_give(struct remap_stream *stream, const void *from, size_t count)
{
	int ret = 0;

	mutex_lock(&stream->io);
	spin_lock(&stream->lock);
	if (stream->ended)
		ret = -ENODEV;
	else if (count > REMAP_STREAM_SIZE - stream->len)
		ret = -EFBIG;
	spin_unlock(&stream->lock);
	if (!ret) {
		memcpy(stream->data + stream->len, from, count);
		spin_lock(&stream->lock);
		stream->len += count;
		spin_unlock(&stream->lock);
	}
	mutex_unlock(&stream->io);
	return ret;
}

size_t remap_stream_final_size(void)
{
	return REMAP_RECORD_SIZE;
}

/* Adds a record of the regions as they are now; by device_state writes only. */
int remap_stream_append(struct remap_stream *stream, struct remap_device *rd, bool final)
{
	struct remap_record record = {
		.magic = cpu_to_le64(REMAP_RECORD_MAGIC),
		.version = cpu_to_le32(REMAP_RECORD_VERSION),
		.kind = cpu_to_le32(final ? REMAP_RECORD_FINAL : REMAP_RECORD_PRE),
		.payload_size = cpu_to_le64(REMAP_PAYLOAD_SIZE),
	};
	size_t at = stream->len;
	unsigned int i;

	if (at + REMAP_RECORD_SIZE > REMAP_STREAM_SIZE)
		return -ENOSPC;
	remap_mailbox_scan(rd);	/* a delivery is taken here, not carried along */
	memcpy(stream->data + at, &record, sizeof(record));
	at += sizeof(record);
	for (i = 0; i < REMAP_MEM_REGIONS; i++) {
		memcpy(stream->data + at, rd->mem[i], remap_memories[i].size);
		at += remap_memories[i].size;
	}
	spin_lock(&stream->lock);
	stream->len = at;
	stream->final = final;
	spin_unlock(&stream->lock);
	wake_up_all(&stream->waitq);
	return 0;
}

static bool remap_record_valid(const u8 *data, u32 kind)
{
	struct remap_record record;

	memcpy(&record, data, sizeof(record));
	return record.magic == cpu_to_le64(REMAP_RECORD_MAGIC) &&
	       record.version == cpu_to_le32(REMAP_RECORD_VERSION) &&
	       record.kind == cpu_to_le32(kind) &&
	       record.payload_size == cpu_to_le64(REMAP_PAYLOAD_SIZE) && !record.reserved;
}

/*
 * Judges what was written, and only if all of it is right takes over the last
 * record. A user may still be writing beyond `len`; nothing reads that.
 */
int remap_stream_load(struct remap_stream *stream, struct remap_device *rd)
{
	const u8 *data = stream->data;
	unsigned int i;
	size_t len;

	spin_lock(&stream->lock);
	len = stream->len;
	spin_unlock(&stream->lock);
	if (len == 2 * REMAP_RECORD_SIZE) {
		if (!remap_record_valid(data, REMAP_RECORD_PRE))
			return -EINVAL;
		data += REMAP_RECORD_SIZE;
	} else if (len != REMAP_RECORD_SIZE) {
		return -EINVAL;
	}
	if (!remap_record_valid(data, REMAP_RECORD_FINAL))
		return -EINVAL;
	data += sizeof(struct remap_record);
	for (i = 0; i < REMAP_MEM_REGIONS; i++) {
		memcpy(rd->mem[i], data, remap_memories[i].size);
		data += remap_memories[i].size;
	}
	return 0;
}
