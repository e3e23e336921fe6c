// SPDX-License-Identifier: GPL-2.0
/*
 * The first generation of device_state: a region that begins with struct
 * vfio_device_migration_info and carries data behind it. Its states are those
 * of the second generation without the P2P ones, and its sessions are the same
 * streams, moved through the region instead of a fd.
 *
 * The data section has two halves that are used in turn. The first can be
 * mapped, the second cannot, so that a user meets both.
 */
#include <linux/file.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "remap.h"

#define REMAP_V1_RUNNING	BIT(0)
#define REMAP_V1_SAVING		BIT(1)
#define REMAP_V1_RESUMING	BIT(2)
#define REMAP_V1_STATES		8

/* The state that each value of the three bits names; -1: none, or the error. */
static const int remap_v1_states[REMAP_V1_STATES] = {
	[0] = VFIO_DEVICE_STATE_STOP,
	[REMAP_V1_RUNNING] = VFIO_DEVICE_STATE_RUNNING,
	[REMAP_V1_SAVING] = VFIO_DEVICE_STATE_STOP_COPY,
	[REMAP_V1_SAVING | REMAP_V1_RUNNING] = VFIO_DEVICE_STATE_PRE_COPY,
	[REMAP_V1_RESUMING] = VFIO_DEVICE_STATE_RESUMING,
	[REMAP_V1_RESUMING | REMAP_V1_RUNNING] = -1,
	[REMAP_V1_RESUMING | REMAP_V1_SAVING] = -1,
	[REMAP_V1_RESUMING | REMAP_V1_SAVING | REMAP_V1_RUNNING] = -1,
};

/* Where a device in a state may be told to go: BIT(bits of the state). */
static const u8 remap_v1_arcs[REMAP_V1_STATES] = {
	[0] = BIT(REMAP_V1_RUNNING) | BIT(REMAP_V1_SAVING) | BIT(REMAP_V1_RESUMING),
	[REMAP_V1_RUNNING] = BIT(0) | BIT(REMAP_V1_SAVING) | BIT(REMAP_V1_RESUMING) |
			     BIT(REMAP_V1_SAVING | REMAP_V1_RUNNING),
	[REMAP_V1_SAVING] = BIT(0) | BIT(REMAP_V1_RUNNING),
	[REMAP_V1_SAVING | REMAP_V1_RUNNING] = BIT(0) | BIT(REMAP_V1_RUNNING) |
					       BIT(REMAP_V1_SAVING),
	[REMAP_V1_RESUMING] = BIT(0) | BIT(REMAP_V1_RUNNING),
};

static u32 remap_v1_bits(u32 state)
{
	u32 bits;

	for (bits = 0; bits < REMAP_V1_STATES; bits++)
		if (remap_v1_states[bits] == state)
			return bits;
	return REMAP_V1_RESUMING | REMAP_V1_SAVING;	/* the error */
}

int remap_v1_init(struct remap_device *rd)
{
	mutex_init(&rd->v1.mutex);
	rd->v1.memory = vmalloc_user(REMAP_MIGRATION_SIZE);
	return rd->v1.memory ? 0 : -ENOMEM;
}

void remap_v1_free(struct remap_device *rd)
{
	vfree(rd->v1.memory);
}

/* Which generation the device speaks, while nobody has it open. */
int remap_choose_migration(struct remap_device *rd, u32 version)
{
	u64 flags = version == 1 ? VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_PRE_COPY :
				   rd->feature_flags;
	int ret = 0;

	if (!rd->feature_flags)
		return -EOPNOTSUPP;	/* loaded as a device that cannot migrate */
	spin_lock_irq(&rd->lock);
	if (rd->opens) {
		ret = -EBUSY;
	} else {
		rd->v1.on = version == 1;
		rd->vdev.migration_flags = flags;
		/* Without ops the core answers that there is no such feature. */
		rd->vdev.mig_ops = rd->v1.on ? NULL : &remap_migration_ops;
		rd->revoked &= ~BIT(REMAP_REASON_NOT_V1);
		if (!rd->v1.on)
			rd->revoked |= BIT(REMAP_REASON_NOT_V1);
	}
	spin_unlock_irq(&rd->lock);
	return ret;
}

/* [v1.mutex] A session that is new finds the data section empty. */
static void remap_v1_follow(struct remap_device *rd)
{
	struct remap_stream *session = remap_session(rd);

	if (rd->v1.session != session) {
		rd->v1.staged = 0;
		swap(rd->v1.session, session);
	}
	if (session)
		remap_stream_put(session);
}

/* The device is closed: what its last session left is of no use to anybody. */
void remap_v1_close(struct remap_device *rd)
{
	mutex_lock(&rd->v1.mutex);
	remap_v1_follow(rd);
	mutex_unlock(&rd->v1.mutex);
}

static u64 remap_v1_half(struct remap_device *rd)
{
	return REMAP_MIGRATION_HEADER + (rd->v1.half % 2) * REMAP_MIGRATION_HALF;
}

static bool remap_v1_saving(struct remap_device *rd)
{
	return rd->v1.session && remap_is_saving(READ_ONCE(rd->state));
}

/* [v1.mutex] Where the next chunk lies, or where one may be put. */
static u64 remap_v1_stage(struct remap_device *rd)
{
	u64 offset = remap_v1_half(rd);

	if (!remap_v1_saving(rd))
		return offset;
	if (!rd->v1.staged) {
		rd->v1.staged = remap_stream_take(rd->v1.session, rd->v1.memory + offset,
						  REMAP_MIGRATION_HALF);
		rd->v1.staged_at = offset;
		rd->v1.half++;
	}
	return rd->v1.staged_at;
}

static u64 remap_v1_field(struct remap_device *rd, u64 offset)
{
	u64 value = 0;

	mutex_lock(&rd->v1.mutex);
	remap_v1_follow(rd);
	switch (offset) {
	case offsetof(struct vfio_device_migration_info, pending_bytes):
		rd->v1.staged = 0;	/* so the last chunk has been read */
		if (remap_v1_saving(rd))
			value = remap_stream_pending(rd->v1.session);
		break;
	case offsetof(struct vfio_device_migration_info, data_offset):
		value = remap_v1_stage(rd);
		break;
	case offsetof(struct vfio_device_migration_info, data_size):
		value = rd->v1.staged;
		break;
	}
	mutex_unlock(&rd->v1.mutex);
	return value;
}

/* A field is read whole or not at all. */
static ssize_t remap_v1_read_field(struct remap_device *rd, char __user *buf, size_t count,
				   u64 offset)
{
	u64 value;

	switch (offset) {
	case offsetof(struct vfio_device_migration_info, device_state):
		value = remap_v1_bits(READ_ONCE(rd->state));
		break;
	case offsetof(struct vfio_device_migration_info, reserved):
		value = 0;
		break;
	case offsetof(struct vfio_device_migration_info, pending_bytes):
	case offsetof(struct vfio_device_migration_info, data_offset):
	case offsetof(struct vfio_device_migration_info, data_size):
		if (count != sizeof(u64))
			return -EINVAL;
		value = remap_v1_field(rd, offset);
		return copy_to_user(buf, &value, sizeof(value)) ? -EFAULT : sizeof(value);
	default:
		return -EINVAL;
	}
	if (count != sizeof(u32))
		return -EINVAL;
	return copy_to_user(buf, &value, sizeof(u32)) ? -EFAULT : sizeof(u32);
}

ssize_t remap_v1_read(struct remap_device *rd, char __user *buf, size_t count, u64 offset)
{
	if (offset < REMAP_MIGRATION_HEADER)
		return remap_v1_read_field(rd, buf, count, offset);
	return copy_to_user(buf, rd->v1.memory + offset, count) ? -EFAULT : count;
}

/* Blocks where the second generation does: until the user has acked, or not. */
static int remap_v1_write_state(struct remap_device *rd, u32 bits)
{
	u32 from = remap_v1_bits(READ_ONCE(rd->state));
	int to = remap_v1_states[bits % REMAP_V1_STATES];
	struct file *filp;

	bits %= REMAP_V1_STATES;	/* the other bits are reserved */
	if (to < 0 || (bits != from && !(remap_v1_arcs[from] & BIT(bits))))
		return -EINVAL;
	filp = remap_set_state(&rd->vdev, to);
	if (IS_ERR(filp))
		return PTR_ERR(filp);
	if (filp)
		fput(filp);	/* the session lives on without its fd */
	return 0;
}

static int remap_v1_hand_over(struct remap_device *rd, u64 size)
{
	int ret = -EINVAL;
	u64 at;

	mutex_lock(&rd->v1.mutex);
	remap_v1_follow(rd);
	at = remap_v1_half(rd);
	/* A user may fill the data section to its end. */
	if (size <= REMAP_MIGRATION_SIZE - at && rd->v1.session &&
	    READ_ONCE(rd->state) == VFIO_DEVICE_STATE_RESUMING) {
		ret = remap_stream_give(rd->v1.session, rd->v1.memory + at, size);
		if (!ret)
			rd->v1.half++;
	}
	mutex_unlock(&rd->v1.mutex);
	return ret;
}

static ssize_t remap_v1_write_field(struct remap_device *rd, const char __user *buf,
				    size_t count, u64 offset)
{
	u64 value = 0;
	int ret = -EINVAL;

	if (count > sizeof(value))
		return -EINVAL;
	if (copy_from_user(&value, buf, count))
		return -EFAULT;
	if (offset == offsetof(struct vfio_device_migration_info, device_state) &&
	    count == sizeof(u32))
		ret = remap_v1_write_state(rd, value);
	else if (offset == offsetof(struct vfio_device_migration_info, data_size) &&
		 count == sizeof(u64))
		ret = remap_v1_hand_over(rd, value);
	return ret ?: count;
}

ssize_t remap_v1_write(struct remap_device *rd, const char __user *buf, size_t count, u64 offset)
{
	if (offset < REMAP_MIGRATION_HEADER)
		return remap_v1_write_field(rd, buf, count, offset);
	return copy_from_user(rd->v1.memory + offset, buf, count) ? -EFAULT : count;
}
