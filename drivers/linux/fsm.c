// SPDX-License-Identifier: GPL-2.0
/*
 * The arcs of device_state, as a function of values.
 *
 * The driver has its own instead of the core's vfio_mig_get_next_state(): 6.1's
 * does not know PRE_COPY, and later ones may loop without end on a blocked arc.
 *
 * RUNNING, RUNNING_P2P and STOP stand on a line. Every other state hangs on one
 * of them, its gate: it is left through its gate and entered through it. Only
 * the saving states have arcs among themselves.
 */
#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/string.h>

#include "remap.h"

bool remap_is_saving(u32 state)
{
	return state == VFIO_DEVICE_STATE_PRE_COPY ||
	       state == VFIO_DEVICE_STATE_PRE_COPY_P2P ||
	       state == VFIO_DEVICE_STATE_STOP_COPY;
}

bool remap_flags_valid(u64 flags)
{
	u64 all = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY;

	return !(flags & ~all) && (!flags || (flags & VFIO_MIGRATION_STOP_COPY));
}

static bool remap_state_exists(u64 flags, u32 state)
{
	bool p2p = flags & VFIO_MIGRATION_P2P;
	bool pre = flags & VFIO_MIGRATION_PRE_COPY;

	switch (state) {
	case VFIO_DEVICE_STATE_STOP:
	case VFIO_DEVICE_STATE_RUNNING:
	case VFIO_DEVICE_STATE_STOP_COPY:
	case VFIO_DEVICE_STATE_RESUMING:
		return true;
	case VFIO_DEVICE_STATE_RUNNING_P2P:
		return p2p;
	case VFIO_DEVICE_STATE_PRE_COPY:
		return pre;
	case VFIO_DEVICE_STATE_PRE_COPY_P2P:
		return pre && p2p;
	default:
		return false;	/* ERROR is nobody's target */
	}
}

static u32 remap_gate(u32 state)
{
	switch (state) {
	case VFIO_DEVICE_STATE_PRE_COPY:
		return VFIO_DEVICE_STATE_RUNNING;
	case VFIO_DEVICE_STATE_PRE_COPY_P2P:
		return VFIO_DEVICE_STATE_RUNNING_P2P;
	case VFIO_DEVICE_STATE_STOP_COPY:
	case VFIO_DEVICE_STATE_RESUMING:
		return VFIO_DEVICE_STATE_STOP;
	default:
		return state;	/* on the line */
	}
}

/* One step on the line towards `to`, which is on it too. */
static int remap_step(u64 flags, u32 from, u32 to)
{
	if (from != VFIO_DEVICE_STATE_RUNNING_P2P && (flags & VFIO_MIGRATION_P2P))
		return VFIO_DEVICE_STATE_RUNNING_P2P;
	return to;
}

static int remap_step_saving(u64 flags, u32 from, u32 to)
{
	if (from == VFIO_DEVICE_STATE_STOP_COPY)
		return -EINVAL;	/* the blocked arcs: a final copy is final */
	if (from == VFIO_DEVICE_STATE_PRE_COPY && (flags & VFIO_MIGRATION_P2P))
		return VFIO_DEVICE_STATE_PRE_COPY_P2P;
	return to;
}

/* The first state on the way, or -EINVAL where there is no way. */
int remap_next_state(u64 flags, u32 from, u32 to)
{
	if (!remap_state_exists(flags, from) || !remap_state_exists(flags, to))
		return -EINVAL;
	if (from == to)
		return to;
	if (remap_is_saving(from) && remap_is_saving(to))
		return remap_step_saving(flags, from, to);
	if (remap_gate(from) != from)
		return remap_gate(from);
	if (remap_gate(to) != from)
		return remap_step(flags, from, remap_gate(to));
	return to;
}

/* Whole ways are judged before the first arc: nothing may stop half way. */
int remap_check_path(u64 flags, u32 from, u32 to)
{
	unsigned int arcs;

	for (arcs = 0; arcs < 8; arcs++) {
		int next = remap_next_state(flags, from, to);

		if (next < 0 || next == to)
			return next < 0 ? next : 0;
		from = next;
	}
	return -EINVAL;
}

static const char * const remap_state_names[] = {
	[VFIO_DEVICE_STATE_ERROR] = "ERROR",
	[VFIO_DEVICE_STATE_STOP] = "STOP",
	[VFIO_DEVICE_STATE_RUNNING] = "RUNNING",
	[VFIO_DEVICE_STATE_STOP_COPY] = "STOP_COPY",
	[VFIO_DEVICE_STATE_RESUMING] = "RESUMING",
	[VFIO_DEVICE_STATE_RUNNING_P2P] = "RUNNING_P2P",
	[VFIO_DEVICE_STATE_PRE_COPY] = "PRE_COPY",
	[VFIO_DEVICE_STATE_PRE_COPY_P2P] = "PRE_COPY_P2P",
};

const char *remap_state_name(u32 state)
{
	return state < ARRAY_SIZE(remap_state_names) ? remap_state_names[state] : "none";
}

u32 remap_state_named(const char *name)
{
	int state = sysfs_match_string(remap_state_names, name);

	return state < 0 ? U32_MAX : state;
}
