// SPDX-License-Identifier: GPL-2.0
/*
 * The files of remap/ that change what the device is and how it behaves: what is
 * chosen while nobody has it open, and the switches by which tests make it
 * misbehave. README.md documents each.
 */
#include <linux/device.h>
#include <linux/sysfs.h>

#include "remap.h"

/* A choice holds from one open to the last close: who has it open would be misled. */
#define REMAP_CHOOSE(_rd, _field, _value)				\
({									\
	int _ret = 0;							\
									\
	spin_lock_irq(&(_rd)->lock);					\
	if ((_rd)->opens)						\
		_ret = -EBUSY;						\
	else								\
		(_rd)->_field = (_value);				\
	spin_unlock_irq(&(_rd)->lock);					\
	_ret;								\
})

static ssize_t profile_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", READ_ONCE(remap_of(dev)->row)->name);
}

static ssize_t profile_store(struct device *dev, struct device_attribute *attr,
			     const char *buf, size_t count)
{
	struct remap_device *rd = remap_of(dev);
	unsigned int i;

	for (i = 0; i < remap_num_rows; i++)
		if (sysfs_streq(buf, remap_rows[i].name))
			return REMAP_CHOOSE(rd, row, &remap_rows[i]) ?: count;
	return -EINVAL;
}
DEVICE_ATTR_RW(profile);

static const char * const remap_faces[] = { "pci", "non-pci" };

static ssize_t face_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", remap_faces[READ_ONCE(remap_of(dev)->non_pci)]);
}

static ssize_t face_store(struct device *dev, struct device_attribute *attr,
			  const char *buf, size_t count)
{
	struct remap_device *rd = remap_of(dev);
	int face = sysfs_match_string(remap_faces, buf);

	return face < 0 ? face : REMAP_CHOOSE(rd, non_pci, face) ?: count;
}
DEVICE_ATTR_RW(face);

static ssize_t pages_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", READ_ONCE(remap_of(dev)->pages));
}

static ssize_t pages_store(struct device *dev, struct device_attribute *attr,
			   const char *buf, size_t count)
{
	struct remap_device *rd = remap_of(dev);
	u32 pages;
	int ret = kstrtou32(buf, 0, &pages);

	if (ret)
		return ret;
	if (pages < 1 || pages > REMAP_MAX_PAGES)
		return -EINVAL;
	return REMAP_CHOOSE(rd, pages, pages) ?: count;
}
DEVICE_ATTR_RW(pages);

static ssize_t migration_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", READ_ONCE(remap_of(dev)->v1.on) ? 1 : 2);
}

static ssize_t migration_store(struct device *dev, struct device_attribute *attr,
			       const char *buf, size_t count)
{
	u32 version;
	int ret = kstrtou32(buf, 0, &version);

	if (ret)
		return ret;
	if (version != 1 && version != 2)
		return -EINVAL;
	return remap_choose_migration(remap_of(dev), version) ?: count;
}
DEVICE_ATTR_RW(migration);

/* A number to read and write, within bounds. */
#define REMAP_SWITCH(_name, _min, _max)						\
static ssize_t _name##_show(struct device *dev, struct device_attribute *attr,	\
			    char *buf)						\
{										\
	return sysfs_emit(buf, "%llu\n", (u64)READ_ONCE(remap_of(dev)->_name));	\
}										\
static ssize_t _name##_store(struct device *dev, struct device_attribute *attr,	\
			     const char *buf, size_t count)			\
{										\
	struct remap_device *rd = remap_of(dev);				\
	u64 value;								\
	int ret = kstrtou64(buf, 0, &value);					\
										\
	if (ret)								\
		return ret;							\
	if (value < (_min) || value > (_max))					\
		return -EINVAL;							\
	spin_lock_irq(&rd->lock);						\
	rd->_name = value;							\
	remap_judge_acks(rd);	/* acks that were ignored count now */		\
	spin_unlock_irq(&rd->lock);						\
	return count;								\
}										\
DEVICE_ATTR_RW(_name)

REMAP_SWITCH(ack_timeout_ms, 1, 3600 * 1000);
REMAP_SWITCH(max_waits, 1, 1000);
REMAP_SWITCH(fail_region_info, 0, 4095);
REMAP_SWITCH(fail_query_count, 0, U32_MAX);
REMAP_SWITCH(count_limit, 2, U64_MAX);
REMAP_SWITCH(ignore_acks, 0, 1);
REMAP_SWITCH(take_any_ack, 0, 1);
REMAP_SWITCH(ignore_disable, 0, 1);
REMAP_SWITCH(silent_roll_back, 0, 1);
REMAP_SWITCH(signal_twice, 0, 1);
REMAP_SWITCH(add_one, 0, 1);
REMAP_SWITCH(signal_undeclared, 0, 1);
REMAP_SWITCH(signal_before_layout, 0, 1);
REMAP_SWITCH(stall_ms, 0, 60 * 1000);

static ssize_t fail_arc_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", remap_state_name(READ_ONCE(remap_of(dev)->fail_arc)));
}

static ssize_t fail_arc_store(struct device *dev, struct device_attribute *attr,
			      const char *buf, size_t count)
{
	u32 state = remap_state_named(buf);

	if (state == U32_MAX && !sysfs_streq(buf, "none"))
		return -EINVAL;
	WRITE_ONCE(remap_of(dev)->fail_arc, state);
	return count;
}
DEVICE_ATTR_RW(fail_arc);

static const char * const remap_drains[] = {
	[REMAP_DRAIN_NEVER] = "never",
	[REMAP_DRAIN_ALWAYS] = "always",
	[REMAP_DRAIN_SOMETIMES] = "sometimes",
	[REMAP_DRAIN_AT_ACK] = "at-ack",
};

static ssize_t drain_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", remap_drains[READ_ONCE(remap_of(dev)->drain)]);
}

static ssize_t drain_store(struct device *dev, struct device_attribute *attr,
			   const char *buf, size_t count)
{
	int drain = sysfs_match_string(remap_drains, buf);

	if (drain < 0)
		return drain;
	WRITE_ONCE(remap_of(dev)->drain, drain);
	return count;
}
DEVICE_ATTR_RW(drain);
