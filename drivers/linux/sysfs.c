// SPDX-License-Identifier: GPL-2.0
/*
 * The group remap/ of each mdev: what tests see of the driver's side, and what
 * makes it act. The switches are in switches.c; README.md documents each file.
 */
#include <linux/device.h>
#include <linux/sysfs.h>

#include "remap.h"

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
REMAP_SHOW(violations, rd->violations);

/* One number a page that the device has. */
#define REMAP_SHOW_PAGES(_name)							\
static ssize_t _name##_show(struct device *dev, struct device_attribute *attr,	\
			    char *buf)						\
{										\
	struct remap_device *rd = remap_of(dev);				\
	u64 values[REMAP_MAX_PAGES];						\
	unsigned int page;							\
										\
	spin_lock_irq(&rd->lock);						\
	for (page = 0; page < REMAP_MAX_PAGES; page++)				\
		values[page] = rd->page[page]._name;				\
	spin_unlock_irq(&rd->lock);						\
	if (rd->pages == 1)							\
		return sysfs_emit(buf, "%llu\n", values[0]);			\
	return sysfs_emit(buf, "%llu\n%llu\n", values[0], values[1]);		\
}										\
static DEVICE_ATTR_RO(_name)

REMAP_SHOW_PAGES(sent);
REMAP_SHOW_PAGES(acked);

static ssize_t irqs_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct remap_device *rd = remap_of(dev);
	unsigned int slot, n = 0;

	mutex_lock(&rd->reg_mutex);
	for (slot = 0; slot < REMAP_NUM_SLOTS; slot++)
		n += !!rd->eventfd[slot].ctx;
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
	u32 revoked = READ_ONCE(rd->revoked);
	unsigned int nth, i;
	int len = 0;

	for (nth = 0; nth < REMAP_MEM_REGIONS; nth++) {
		u32 region = remap_memories[nth].region;
		const char *separator = "";

		if (!remap_region_size(rd, region))
			continue;
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

static int remap_parse_reason(struct remap_device *rd, const char *buf,
			      enum remap_reason *reason)
{
	u32 region;
	int ret = kstrtou32(buf, 0, &region);

	if (ret)
		return ret;
	return remap_reason_of_region(rd, region, reason) ? 0 : -EINVAL;
}

static ssize_t revoke_store(struct device *dev, struct device_attribute *attr,
			    const char *buf, size_t count)
{
	enum remap_reason reason;
	int ret = remap_parse_reason(remap_of(dev), buf, &reason);

	if (!ret)
		ret = remap_revoke(remap_of(dev), reason);
	return ret ?: count;
}
static DEVICE_ATTR_WO(revoke);

static ssize_t restore_store(struct device *dev, struct device_attribute *attr,
			     const char *buf, size_t count)
{
	enum remap_reason reason;
	int ret = remap_parse_reason(remap_of(dev), buf, &reason);

	if (!ret)
		remap_restore(remap_of(dev), BIT(reason));
	return ret ?: count;
}
static DEVICE_ATTR_WO(restore);

/* A mask of vectors: 1 is the first. */
static ssize_t raise_msi_store(struct device *dev, struct device_attribute *attr,
			       const char *buf, size_t count)
{
	u32 vectors;
	int ret = kstrtou32(buf, 0, &vectors);

	if (!ret)
		ret = remap_raise_msi(remap_of(dev), vectors);
	return ret ?: count;
}
static DEVICE_ATTR_WO(raise_msi);

static ssize_t intx_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct remap_device *rd = remap_of(dev);

	return sysfs_emit(buf, "level=%d masked=%d\n", READ_ONCE(rd->intx_level),
			  READ_ONCE(rd->intx_masked));
}

static ssize_t intx_store(struct device *dev, struct device_attribute *attr,
			  const char *buf, size_t count)
{
	bool level;
	int ret = kstrtobool(buf, &level);

	if (!ret)
		remap_set_level(remap_of(dev), level);
	return ret ?: count;
}
static DEVICE_ATTR_RW(intx);

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

#define REMAP_LIST_FILE(_name) &dev_attr_##_name.attr,

static struct attribute *remap_attrs[] = {
	&dev_attr_opens.attr, &dev_attr_vmas.attr, &dev_attr_irqs.attr,
	&dev_attr_waiters.attr, &dev_attr_sent.attr, &dev_attr_acked.attr,
	&dev_attr_violations.attr, &dev_attr_layout.attr, &dev_attr_state.attr,
	&dev_attr_mailbox.attr, &dev_attr_raise_msi.attr, &dev_attr_intx.attr,
	&dev_attr_revoke.attr, &dev_attr_restore.attr,
	REMAP_SWITCH_FILES(REMAP_LIST_FILE)
	NULL,
};

static struct bin_attribute *remap_bin_attrs[] = { &bin_attr_trace, NULL };

static const struct attribute_group remap_group = {
	.name = "remap",
	.attrs = remap_attrs,
	.bin_attrs = remap_bin_attrs,
};

const struct attribute_group *remap_sysfs_groups[] = { &remap_group, NULL };
