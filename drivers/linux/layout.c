// SPDX-License-Identifier: GPL-2.0
/*
 * Which areas of which regions may be mapped now. An area is offered while no
 * reason to withhold it holds; nothing else decides, for queries or for mmap.
 */
#include <linux/uaccess.h>

#include "remap.h"

const struct remap_area remap_areas[] = {
	{ REMAP_REGION_MAILBOX, 0, REMAP_MAILBOX_SIZE,
	  BIT(REMAP_REASON_SAVING0) | BIT(REMAP_REASON_REGION0) },
	{ REMAP_REGION_SPARSE, 0, 0x8000, BIT(REMAP_REASON_REGION1) },
	{ REMAP_REGION_SPARSE, 0x10000, 0x8000,
	  BIT(REMAP_REASON_SAVING0) | BIT(REMAP_REASON_REGION1) },
	/* Only a saving-layout device offers more while it saves. */
	{ REMAP_REGION_SPARSE, 0x18000, 0x8000, BIT(REMAP_REASON_NOT_SAVING) },
	{ REMAP_REGION_FAR, 0, REMAP_FAR_SIZE,
	  BIT(REMAP_REASON_SAVING1) | BIT(REMAP_REASON_REGION64) },
	{ REMAP_REGION_FARTHER, 0, REMAP_FARTHER_SIZE, BIT(REMAP_REASON_REGION65) },
	/* Half of the data section of v1. */
	{ REMAP_REGION_MIGRATION, REMAP_MIGRATION_HEADER, REMAP_MIGRATION_HALF,
	  BIT(REMAP_REASON_NOT_V1) },
};

const unsigned int remap_num_areas = ARRAY_SIZE(remap_areas);

const struct remap_memory remap_memories[REMAP_MEM_REGIONS] = {
	{ REMAP_REGION_MAILBOX, REMAP_MAILBOX_SIZE },
	{ REMAP_REGION_SPARSE, REMAP_SPARSE_SIZE },
	{ REMAP_REGION_REGISTERS, REMAP_REGISTERS_SIZE },
	{ REMAP_REGION_FAR, REMAP_FAR_SIZE },
	{ REMAP_REGION_FARTHER, REMAP_FARTHER_SIZE },
};

/* Which of them a region is; -1 where the device has no such memory. */
static int remap_memory_of(struct remap_device *rd, u32 region)
{
	int i;

	for (i = 0; i < REMAP_MEM_REGIONS; i++)
		if (remap_memories[i].region == region && region / 64 < rd->pages)
			return i;
	return -1;
}

u64 remap_region_size(struct remap_device *rd, u32 region)
{
	int i = remap_memory_of(rd, region);

	if (region == REMAP_REGION_CONFIG && !rd->non_pci)
		return REMAP_CONFIG_SIZE;
	if (region == REMAP_REGION_MIGRATION)
		return rd->v1.on ? REMAP_MIGRATION_SIZE : 0;
	return i < 0 ? 0 : remap_memories[i].size;
}

/* Of a region whose size is not 0. */
void *remap_region_memory(struct remap_device *rd, u32 region)
{
	if (region == REMAP_REGION_MIGRATION)
		return rd->v1.memory;
	return region == REMAP_REGION_CONFIG ? rd->config : rd->mem[remap_memory_of(rd, region)];
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

/* A bit for each area of the region that is offered while these reasons hold. */
static u32 remap_offered_mask(u32 revoked, u32 region)
{
	unsigned int i;
	u32 mask = 0;

	for (i = 0; i < remap_num_areas; i++)
		if (remap_areas[i].region == region && !(revoked & remap_areas[i].reasons))
			mask |= BIT(i);
	return mask;
}

void remap_layout_change(struct remap_device *rd, u32 revoked)
{
	unsigned int i;

	for (i = 0; i < REMAP_MEM_REGIONS; i++) {
		u32 region = remap_memories[i].region;
		u32 now = remap_offered_mask(revoked, region);

		if (now != remap_offered_mask(rd->revoked, region))
			remap_trace(rd, "layout region=%u mmap=%d areas=%u", region, !!now,
				    hweight32(now));
	}
	rd->revoked = revoked;
}

/* A capability with areas; the sparse one and the saving layout have the same form. */
struct remap_areas_cap {
	struct vfio_region_info_cap_sparse_mmap sparse;
	struct vfio_region_sparse_mmap_area areas[REMAP_MAX_AREAS];
};

/* GET_REGION_INFO's answer at its largest. */
struct remap_region_answer {
	struct vfio_region_info info;
	u8 chain[2 * sizeof(struct remap_areas_cap)];
};

/* Adds a capability to an answer of `size` bytes; the new size. */
static size_t remap_add_areas(struct remap_region_answer *answer, size_t size, u16 id, u32 mask)
{
	struct remap_areas_cap cap = {};
	size_t length;
	unsigned int i;

	for (i = 0; i < remap_num_areas; i++) {
		struct vfio_region_sparse_mmap_area *area = &cap.areas[cap.sparse.nr_areas];

		if (!(mask & BIT(i)))
			continue;
		area->offset = remap_areas[i].offset;
		area->size = remap_areas[i].size;
		cap.sparse.nr_areas++;
	}
	length = sizeof(cap.sparse) + cap.sparse.nr_areas * sizeof(cap.areas[0]);
	cap.sparse.header.id = id;
	cap.sparse.header.version = 1;
	/* In the order in which they are added: each names the place behind it. */
	cap.sparse.header.next = size + length;
	memcpy((u8 *)answer + size, &cap, length);
	answer->info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
	return size + length;
}

static size_t remap_add_type(struct remap_region_answer *answer, size_t size)
{
	struct vfio_region_info_cap_type cap = {
		.header.id = VFIO_REGION_INFO_CAP_TYPE,
		.header.version = 1,
		.header.next = size + sizeof(cap),
		.type = VFIO_REGION_TYPE_MIGRATION_DEPRECATED,
		.subtype = VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED,
	};

	memcpy((u8 *)answer + size, &cap, sizeof(cap));
	answer->info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
	return size + sizeof(cap);
}

static size_t remap_end_chain(struct remap_region_answer *answer, size_t last, size_t size)
{
	((struct vfio_info_cap_header *)((u8 *)answer + last))->next = 0;
	return size;
}

static size_t remap_fill_region(struct remap_device *rd, struct remap_region_answer *answer)
{
	u32 region = answer->info.index;
	u32 saving = (rd->revoked | REMAP_SAVING) & ~BIT(REMAP_REASON_NOT_SAVING);
	u32 running = (rd->revoked & ~REMAP_SAVING) | BIT(REMAP_REASON_NOT_SAVING);
	u32 mask = remap_offered_mask(rd->revoked, region);
	u32 while_saving = remap_offered_mask(saving, region);
	size_t size = sizeof(answer->info), last = 0;

	if (mask)
		answer->info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
	if (region == REMAP_REGION_MIGRATION) {
		last = size;
		size = remap_add_type(answer, size);
	}
	if (mask && (region == REMAP_REGION_SPARSE || region == REMAP_REGION_MIGRATION)) {
		last = size;
		size = remap_add_areas(answer, size, VFIO_REGION_INFO_CAP_SPARSE_MMAP, mask);
	}
	if (rd->row->saving_layout && while_saving != remap_offered_mask(running, region)) {
		last = size;
		size = remap_add_areas(answer, size, VFIO_REGION_SAVING_LAYOUT_CAP, while_saving);
	}
	return last ? remap_end_chain(answer, last, size) : size;
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
	if (argsz < minsz || region >= remap_num_regions(rd))
		return -EINVAL;
	answer.info.flags = 0;
	answer.info.cap_offset = 0;
	answer.info.size = remap_region_size(rd, region);
	answer.info.offset = (u64)region << REMAP_OFFSET_SHIFT;
	if (answer.info.size)
		answer.info.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;

	spin_lock_irq(&rd->lock);
	error = remap_query_error(rd, region);
	size = answer.info.size ? remap_fill_region(rd, &answer) : sizeof(answer.info);
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
		answer.info.cap_offset = offsetof(struct remap_region_answer, chain);
	return copy_to_user(arg, &answer, argsz >= size ? size : minsz) ? -EFAULT : 0;
}
