// SPDX-License-Identifier: GPL-2.0
/*
 * mmap of regions, and the record of every range that is mapped.
 *
 * The record is by range, not by count of calls, because munmap, mprotect and
 * mremap split and move vmas. A vma's own fields may be read only where its
 * mmap_lock is held, which is so in each callback for all vmas of that mm; a
 * split announces the new half before the old one shrinks, and never mentions
 * the old one again. So each callback reads all of its mm's ranges anew, and
 * everybody else uses what was read last.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "remap.h"

struct remap_mapping {
	struct list_head entry;
	struct vm_area_struct *vma;
	struct mm_struct *mm;
	u64 pos;	/* file offset: region and offset in it */
	u64 size;
};

static u32 remap_pos_region(u64 pos)
{
	return pos >> REMAP_OFFSET_SHIFT;
}

static u64 remap_pos_offset(u64 pos)
{
	return pos & (BIT_ULL(REMAP_OFFSET_SHIFT) - 1);
}

static void remap_mapping_read(struct remap_mapping *mapping)
{
	mapping->pos = (u64)mapping->vma->vm_pgoff << PAGE_SHIFT;
	mapping->size = mapping->vma->vm_end - mapping->vma->vm_start;
}

static void remap_mappings_reread(struct remap_device *rd, struct mm_struct *mm)
{
	struct remap_mapping *mapping;

	list_for_each_entry(mapping, &rd->vmas, entry)
		if (mapping->mm == mm)
			remap_mapping_read(mapping);
}

static struct remap_mapping *remap_mapping_new(struct vm_area_struct *vma, gfp_t gfp)
{
	struct remap_mapping *mapping = kzalloc(sizeof(*mapping), gfp);

	if (mapping) {
		mapping->vma = vma;
		mapping->mm = vma->vm_mm;
		remap_mapping_read(mapping);
	}
	return mapping;
}

static void remap_mapping_add(struct remap_device *rd, struct remap_mapping *mapping)
{
	list_add_tail(&mapping->entry, &rd->vmas);
	rd->num_vmas++;
	remap_mappings_reread(rd, mapping->mm);
}

/*
 * The cap again: a mapping may be split at every page. A move needs no room, as
 * the old vma goes; a fork or a duplicate is prevented by the flags.
 */
static int remap_vma_may_split(struct vm_area_struct *vma, unsigned long addr)
{
	struct remap_device *rd = vma->vm_private_data;

	return READ_ONCE(rd->num_vmas) < REMAP_MAX_MAPPINGS ? 0 : -ENOMEM;
}

/* A split or a move of a vma that exists. It cannot fail, hence NOFAIL. */
static void remap_vma_open(struct vm_area_struct *vma)
{
	struct remap_device *rd = vma->vm_private_data;
	struct remap_mapping *mapping = remap_mapping_new(vma, GFP_KERNEL | __GFP_NOFAIL);

	spin_lock_irq(&rd->lock);
	remap_mapping_add(rd, mapping);
	spin_unlock_irq(&rd->lock);
}

static void remap_vma_close(struct vm_area_struct *vma)
{
	struct remap_device *rd = vma->vm_private_data;
	struct remap_mapping *mapping, *gone = NULL;

	spin_lock_irq(&rd->lock);
	remap_mappings_reread(rd, vma->vm_mm);
	list_for_each_entry(mapping, &rd->vmas, entry)
		if (mapping->vma == vma)
			gone = mapping;
	if (gone) {
		list_del(&gone->entry);
		rd->num_vmas--;
		remap_trace(rd, "munmap region=%u offset=0x%llx size=0x%llx",
			    remap_pos_region(gone->pos), remap_pos_offset(gone->pos), gone->size);
	}
	if (rd->row->ack == REMAP_ACK_NONE)
		remap_judge_acks(rd);	/* this close may be what a wait is for (RR-29) */
	spin_unlock_irq(&rd->lock);
	kfree(gone);
}

/*
 * A mapping older than a revocation is served until an ack has covered that:
 * its user must first learn of the change. After a false ack, pages that were
 * touched before stay accessible, since nothing is zapped; the mailbox counts
 * what arrives that way.
 */
static vm_fault_t remap_vma_fault(struct vm_fault *vmf)
{
	struct remap_device *rd = vmf->vma->vm_private_data;
	u64 pos = (u64)vmf->pgoff << PAGE_SHIFT;
	u32 region = remap_pos_region(pos);
	const struct remap_area *area;
	bool served;

	area = remap_find_area(region, remap_pos_offset(pos), PAGE_SIZE);
	if (!area)
		return VM_FAULT_SIGBUS;
	spin_lock_irq(&rd->lock);
	served = !(rd->enforced & area->reasons);
	spin_unlock_irq(&rd->lock);
	if (!served)
		return VM_FAULT_SIGBUS;
	return vmf_insert_pfn(vmf->vma, vmf->address,
			      vmalloc_to_pfn(remap_region_memory(rd, region) + remap_pos_offset(pos)));
}

static const struct vm_operations_struct remap_vm_ops = {
	.open = remap_vma_open,
	.may_split = remap_vma_may_split,
	.close = remap_vma_close,
	.fault = remap_vma_fault,
};

int remap_mmap(struct vfio_device *vdev, struct vm_area_struct *vma)
{
	struct remap_device *rd = to_remap(vdev);
	struct remap_mapping *mapping;
	const struct remap_area *area;
	int ret = 0;

	/* A private copy would outlive every revocation. */
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	mapping = remap_mapping_new(vma, GFP_KERNEL);
	if (!mapping)
		return -ENOMEM;
	area = remap_find_area(remap_pos_region(mapping->pos), remap_pos_offset(mapping->pos),
			       mapping->size);

	/*
	 * Without VM_IO, MADV_DOFORK could undo VM_DONTCOPY. The flags come
	 * before the spinlock, as setting them sleeps on newer kernels.
	 */
	remap_set_vm_flags(vma, VM_IO | VM_PFNMAP | VM_DONTCOPY | VM_DONTEXPAND);
	spin_lock_irq(&rd->lock);
	if (!area || (rd->revoked & area->reasons)) {
		ret = -EINVAL;
	} else if (rd->num_vmas >= REMAP_MAX_MAPPINGS) {
		ret = -ENOMEM;
	} else {
		remap_mapping_add(rd, mapping);	/* the core calls no open() for this one */
		remap_trace(rd, "mmap region=%u offset=0x%llx size=0x%llx", area->region,
			    remap_pos_offset(mapping->pos), mapping->size);
	}
	spin_unlock_irq(&rd->lock);
	if (ret) {
		kfree(mapping);
		return ret;
	}
	vma->vm_private_data = rd;
	vma->vm_ops = &remap_vm_ops;
	return 0;
}

/*
 * Whether a mapping, of any process, lies in an area that these reasons revoke.
 * Only the first is traced, as `what`: a thousand lines would push out all others.
 */
bool remap_vma_overlaps(struct remap_device *rd, u32 reasons, const char *what)
{
	struct remap_mapping *mapping, *first = NULL;
	unsigned int found = 0;

	list_for_each_entry(mapping, &rd->vmas, entry) {
		const struct remap_area *area;

		area = remap_find_area(remap_pos_region(mapping->pos),
				       remap_pos_offset(mapping->pos), mapping->size);
		if (!area || !(area->reasons & reasons))
			continue;
		if (!first)
			first = mapping;
		found++;
	}
	if (first && what)
		remap_trace(rd, "%s region=%u offset=0x%llx size=0x%llx more=%u", what,
			    remap_pos_region(first->pos), remap_pos_offset(first->pos),
			    first->size, found - 1);
	return found;
}
