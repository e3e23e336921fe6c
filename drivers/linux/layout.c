// SPDX-License-Identifier: GPL-2.0
/*
 * Which areas of which regions may be mapped now. An area is offered while no
 * reason to withhold it holds; nothing else decides, for queries or for mmap.
 */
#include <linux/uaccess.h>

#include "remap.h"

const struct remap_area remap_areas[] = {
	{ REMAP_REGION_MAILBOX, 0, REMAP_MAILBOX_SIZE,
	  BIT(REMAP_REASON_SAVING) | BIT(REMAP_REASON_REGION0) },
	{ REMAP_REGION_SPARSE, 0, 0x8000, BIT(REMAP_REASON_REGION1) },
	{ REMAP_REGION_SPARSE, 0x10000, 0x8000,
	  BIT(REMAP_REASON_SAVING) | BIT(REMAP_REASON_REGION1) },
};

const unsigned int remap_num_areas = ARRAY_SIZE(remap_areas);

u64 remap_region_size(u32 region)
{
	switch (region) {
	case REMAP_REGION_MAILBOX:
		return REMAP_MAILBOX_SIZE;
	case REMAP_REGION_SPARSE:
		return REMAP_SPARSE_SIZE;
	case REMAP_REGION_REGISTERS:
		return REMAP_REGISTERS_SIZE;
	case REMAP_REGION_CONFIG:
		return REMAP_CONFIG_SIZE;
	default:
		return 0;
	}
}

bool remap_area_offered(struct remap_device *rd, const struct remap_area *area)
{
	return !(rd->revoked & area->reasons);
}

/* The area, offered or not, that contains the whole range. */
const struct remap_area *remap_find_area(u32 region, u64 offset, u64 size)
{
	unsigned int i;

	for (i = 0; i < remap_num_areas; i++) {
		const struct remap_area *area = &remap_areas[i];

		if (area->region == region && offset >= area->offset && size <= area->size &&
		    offset - area->offset <= area->size - size)
			return area;
	}
	return NULL;
}

/* A bit for each area of the region that is offered. */
static u32 remap_offered_mask(struct remap_device *rd, u32 region)
{
	unsigned int i;
	u32 mask = 0;

	for (i = 0; i < remap_num_areas; i++)
		if (remap_areas[i].region == region && remap_area_offered(rd, &remap_areas[i]))
			mask |= BIT(i);
	return mask;
}

void remap_layout_change(struct remap_device *rd, u32 revoked)
{
	u32 before[2], region;

	for (region = 0; region < 2; region++)
		before[region] = remap_offered_mask(rd, region);
	rd->revoked = revoked;
	for (region = 0; region < 2; region++) {
		u32 now = remap_offered_mask(rd, region);

		if (now != before[region])
			remap_trace(rd, "layout region=%u mmap=%d areas=%u", region, !!now,
				    hweight32(now));
	}
}

/* GET_REGION_INFO's answer at its largest. */
struct remap_region_answer {
	struct vfio_region_info info;
	struct vfio_region_info_cap_sparse_mmap sparse;
	struct vfio_region_sparse_mmap_area areas[2];
};

static size_t remap_fill_region(struct remap_device *rd, struct remap_region_answer *answer)
{
	u32 region = answer->info.index;
	u32 mask = remap_offered_mask(rd, region);
	u32 n = 0;
	unsigned int i;

	if (mask)
		answer->info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
	if (!mask || region != REMAP_REGION_SPARSE)
		return sizeof(answer->info);
	for (i = 0; i < remap_num_areas; i++) {
		if (!(mask & BIT(i)))
			continue;
		answer->areas[n].offset = remap_areas[i].offset;
		answer->areas[n++].size = remap_areas[i].size;
	}
	answer->sparse.header.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP;
	answer->sparse.header.version = 1;
	answer->sparse.nr_areas = n;
	answer->info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
	return offsetof(struct remap_region_answer, areas) + n * sizeof(answer->areas[0]);
}

/* A switch of sysfs: the error to answer, for so many queries or for ever. */
static int remap_query_error(struct remap_device *rd, u32 region)
{
	u32 error = rd->fail_region_info;

	if (region != REMAP_REGION_MAILBOX || !error)
		return 0;
	if (rd->fail_query_count && !--rd->fail_query_count)
		rd->fail_region_info = 0;
	return -(int)error;
}

long remap_get_region_info(struct remap_device *rd, void __user *arg)
{
	struct remap_region_answer answer = {};
	size_t minsz = offsetofend(struct vfio_region_info, offset);
	u32 argsz, region;
	size_t size;
	int error;

	if (copy_from_user(&answer.info, arg, minsz))
		return -EFAULT;
	argsz = answer.info.argsz;
	region = answer.info.index;
	if (argsz < minsz || region >= REMAP_NUM_REGIONS)
		return -EINVAL;
	answer.info.flags = 0;
	answer.info.cap_offset = 0;
	answer.info.size = remap_region_size(region);
	answer.info.offset = (u64)region << REMAP_OFFSET_SHIFT;
	if (answer.info.size)
		answer.info.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;

	spin_lock_irq(&rd->lock);
	error = remap_query_error(rd, region);
	size = remap_fill_region(rd, &answer);
	if (error)
		remap_trace(rd, "query region=%u ret=%d", region, error);
	else
		remap_trace(rd, "query region=%u mmap=%d", region,
			    !!(answer.info.flags & VFIO_REGION_INFO_FLAG_MMAP));
	spin_unlock_irq(&rd->lock);
	if (error)
		return error;

	answer.info.argsz = size;
	if (size > minsz && argsz >= size)
		answer.info.cap_offset = offsetof(struct remap_region_answer, sparse);
	return copy_to_user(arg, &answer, argsz >= size ? size : minsz) ? -EFAULT : 0;
}
