// SPDX-License-Identifier: GPL-2.0
/*
 * The group remap/ of each mdev: what tests see of the driver's side, and the
 * switches by which they make it act or misbehave. README.md documents each.
 */
#include <linux/device.h>
#include <linux/sysfs.h>

#include "remap.h"

static struct remap_device *remap_of(struct device *dev)
{
	return dev_get_drvdata(dev);
}

/* A read-only number: the expression is evaluated under the spinlock. */
#define REMAP_SHOW(_name, _expr)						\
static ssize_t _name##_show(struct device *dev, struct device_attribute *attr,	\
			    char *buf)						\
{										\
	struct remap_device *rd = remap_of(dev);				\
	u64 value;								\
										\
	spin_lock_irq(&rd->lock);						\
	value = (_expr);							\
	spin_unlock_irq(&rd->lock);						\
	return sysfs_emit(buf, "%llu\n", value);				\
}										\
static DEVICE_ATTR_RO(_name)

REMAP_SHOW(opens, rd->opens);
REMAP_SHOW(vmas, rd->num_vmas);
REMAP_SHOW(waiters, rd->waiting);
REMAP_SHOW(sent, rd->sent);
REMAP_SHOW(acked, rd->acked);
REMAP_SHOW(violations, rd->violations);

static ssize_t irqs_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct remap_device *rd = remap_of(dev);
	unsigned int role, n = 0;

	mutex_lock(&rd->reg_mutex);
	for (role = 0; role < REMAP_NUM_ROLES; role++)
		n += !!rd->eventfd[role].ctx;
	mutex_unlock(&rd->reg_mutex);
	return sysfs_emit(buf, "%u\n", n);
}
static DEVICE_ATTR_RO(irqs);

static ssize_t state_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", remap_state_name(READ_ONCE(remap_of(dev)->state)));
}
static DEVICE_ATTR_RO(state);

static ssize_t layout_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct remap_device *rd = remap_of(dev);
	u32 revoked = READ_ONCE(rd->revoked), region;
	unsigned int i;
	int len = 0;

	for (region = 0; region < REMAP_MEM_REGIONS; region++) {
		const char *separator = "";

		len += sysfs_emit_at(buf, len, "region=%u areas=", region);
		for (i = 0; i < remap_num_areas; i++) {
			const struct remap_area *area = &remap_areas[i];

			if (area->region != region || (revoked & area->reasons))
				continue;
			len += sysfs_emit_at(buf, len, "%s0x%llx+0x%llx", separator,
					     area->offset, area->size);
			separator = ",";
		}
		len += sysfs_emit_at(buf, len, "\n");
	}
	return len;
}
static DEVICE_ATTR_RO(layout);

static ssize_t mailbox_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return remap_mailbox_show(remap_of(dev), buf);
}

static ssize_t mailbox_store(struct device *dev, struct device_attribute *attr,
			     const char *buf, size_t count)
{
	remap_mailbox_clear(remap_of(dev));
	return count;
}
static DEVICE_ATTR_RW(mailbox);

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
static DEVICE_ATTR_RW(_name)

REMAP_SWITCH(ack_timeout_ms, 1, 3600 * 1000);
REMAP_SWITCH(max_waits, 1, 1000);
REMAP_SWITCH(ignore_acks, 0, 1);
REMAP_SWITCH(fail_region_info, 0, 4095);
REMAP_SWITCH(fail_query_count, 0, U32_MAX);
REMAP_SWITCH(count_limit, 2, U64_MAX);

static int remap_parse_reason(const char *buf, enum remap_reason *reason)
{
	u32 region;
	int ret = kstrtou32(buf, 0, &region);

	if (ret)
		return ret;
	if (region > REMAP_REGION_SPARSE)
		return -EINVAL;
	*reason = REMAP_REASON_REGION0 + region;
	return 0;
}

static ssize_t revoke_store(struct device *dev, struct device_attribute *attr,
			    const char *buf, size_t count)
{
	enum remap_reason reason;
	int ret = remap_parse_reason(buf, &reason);

	if (!ret)
		ret = remap_revoke(remap_of(dev), reason);
	return ret ?: count;
}
static DEVICE_ATTR_WO(revoke);

static ssize_t restore_store(struct device *dev, struct device_attribute *attr,
			     const char *buf, size_t count)
{
	enum remap_reason reason;
	int ret = remap_parse_reason(buf, &reason);

	if (!ret)
		remap_restore(remap_of(dev), BIT(reason));
	return ret ?: count;
}
static DEVICE_ATTR_WO(restore);

static ssize_t raise_msi_store(struct device *dev, struct device_attribute *attr,
			       const char *buf, size_t count)
{
	return remap_raise_msi(remap_of(dev)) ?: count;
}
static DEVICE_ATTR_WO(raise_msi);

static ssize_t trace_read(struct file *filp, struct kobject *kobj, struct bin_attribute *attr,
			  char *buf, loff_t off, size_t count)
{
	return remap_trace_read(remap_of(kobj_to_dev(kobj)), buf, off, count);
}

static ssize_t trace_write(struct file *filp, struct kobject *kobj, struct bin_attribute *attr,
			   char *buf, loff_t off, size_t count)
{
	remap_trace_clear(remap_of(kobj_to_dev(kobj)));
	return count;
}
/* Binary only because a text attribute ends at one page. */
static BIN_ATTR_RW(trace, 0);

static struct attribute *remap_attrs[] = {
	&dev_attr_opens.attr, &dev_attr_vmas.attr, &dev_attr_irqs.attr,
	&dev_attr_waiters.attr, &dev_attr_sent.attr, &dev_attr_acked.attr,
	&dev_attr_violations.attr, &dev_attr_layout.attr, &dev_attr_state.attr,
	&dev_attr_mailbox.attr, &dev_attr_ack_timeout_ms.attr,
	&dev_attr_max_waits.attr, &dev_attr_ignore_acks.attr,
	&dev_attr_fail_region_info.attr, &dev_attr_fail_query_count.attr,
	&dev_attr_count_limit.attr, &dev_attr_raise_msi.attr,
	&dev_attr_revoke.attr, &dev_attr_restore.attr,
	NULL,
};

static struct bin_attribute *remap_bin_attrs[] = { &bin_attr_trace, NULL };

static const struct attribute_group remap_group = {
	.name = "remap",
	.attrs = remap_attrs,
	.bin_attrs = remap_bin_attrs,
};

const struct attribute_group *remap_sysfs_groups[] = { &remap_group, NULL };
