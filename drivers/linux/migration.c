// SPDX-License-Identifier: GPL-2.0
/*
 * device_state: one write at a time, judged whole, waited for before its first
 * arc, then carried out arc by arc. A reset may come between any two steps; it
 * raises `generation`, and a step that finds it raised gives up.
 */
#include <linux/delay.h>
#include <linux/file.h>

#include "remap.h"

/* One write of device_state on its way. */
struct remap_move {
	struct remap_device *rd;
	u32 from, to;
	u32 generation;
	struct remap_stream *stream;	/* made beforehand for an arc that opens one */
	struct file *filp;
};

/* State, session and layout of an arc change in one step, or not at all. */
static int remap_commit(struct remap_move *move, u32 next, bool leave_saving)
{
	struct remap_device *rd = move->rd;
	struct remap_stream *ended = NULL;
	struct remap_adds adds = {};
	bool opens = false;
	int ret = 0;

	mutex_lock(&rd->reg_mutex);
	spin_lock_irq(&rd->lock);
	if (rd->generation != move->generation) {
		ret = -ECANCELED;
	} else if (leave_saving) {
		ret = remap_leave_saving_locked(rd, remap_saving_reasons(rd), &adds);
	}
	if (!ret) {
		opens = move->stream && next == move->to;
		if (opens || leave_saving || rd->state == VFIO_DEVICE_STATE_RESUMING)
			swap(ended, rd->stream);
		if (opens)
			swap(rd->stream, move->stream);
		WRITE_ONCE(rd->state, next);
		if (remap_is_saving(next))
			remap_entered_saving_locked(rd);
	}
	spin_unlock_irq(&rd->lock);
	remap_ring(rd, &adds);
	mutex_unlock(&rd->reg_mutex);
	if (ended) {
		remap_stream_end(ended);
		remap_stream_put(ended);
	}
	return ret;
}

/* With a reference; NULL where no session goes on. */
struct remap_stream *remap_session(struct remap_device *rd)
{
	struct remap_stream *stream;

	spin_lock_irq(&rd->lock);
	stream = rd->stream;
	if (stream)
		remap_stream_get(stream);
	spin_unlock_irq(&rd->lock);
	return stream;
}

/* What an arc does with data, before it is committed. */
static int remap_arc_data(struct remap_move *move, u32 cur, u32 next)
{
	struct remap_device *rd = move->rd;
	struct remap_stream *session;
	int ret;

	if (remap_is_saving(next) && !remap_is_saving(cur))
		return remap_stream_append(move->stream, rd, next == VFIO_DEVICE_STATE_STOP_COPY);
	if (next != VFIO_DEVICE_STATE_STOP_COPY && cur != VFIO_DEVICE_STATE_RESUMING)
		return 0;
	session = remap_session(rd);
	if (!session)
		return -ECANCELED;	/* a reset took it */
	if (cur == VFIO_DEVICE_STATE_RESUMING)
		ret = remap_stream_load(session, rd);
	else
		ret = remap_stream_append(session, rd, true);
	remap_stream_put(session);
	return ret;
}

static int remap_run_arcs(struct remap_move *move)
{
	u64 flags = move->rd->vdev.migration_flags;
	u32 cur = move->from;
	int ret = 0;

	while (!ret && cur != move->to) {
		u32 next = remap_next_state(flags, cur, move->to);

		ret = next == READ_ONCE(move->rd->fail_arc) ? -EIO : remap_arc_data(move, cur, next);
		if (!ret)
			ret = remap_commit(move, next, remap_is_saving(cur) && !remap_is_saving(next));
		cur = next;
	}
	return ret;
}

/* Misbehaviour: sits on a write of device_state, between its wait and its first arc. */
void remap_stall(struct remap_device *rd)
{
	u32 ms = READ_ONCE(rd->stall_ms);

	if (ms)
		msleep(ms);
}

static int remap_make_stream(struct remap_move *move, bool save)
{
	move->stream = save ? remap_stream_open_save(&move->filp) :
			      remap_stream_open_load(&move->filp);
	if (!IS_ERR(move->stream))
		return 0;
	return PTR_ERR(xchg(&move->stream, NULL));
}

static int remap_move(struct remap_move *move)
{
	struct remap_device *rd = move->rd;
	bool enters = remap_is_saving(move->to) && !remap_is_saving(move->from);
	int ret;

	/* Before anything is signalled: an impossible target changes nothing. */
	ret = remap_check_path(rd->vdev.migration_flags, move->from, move->to);
	if (ret || move->from == move->to)
		return ret;
	if (enters || move->to == VFIO_DEVICE_STATE_RESUMING)
		ret = remap_make_stream(move, enters);
	if (!ret && enters)
		ret = remap_enter_saving(rd, move->generation);
	if (ret)
		return ret;
	remap_stall(rd);
	ret = remap_run_arcs(move);
	/* The last arc is the only one into the saving group: it was not reached. */
	if (ret && enters)
		remap_roll_back(rd);
	return ret;
}

static int remap_claim(struct remap_move *move)
{
	struct remap_device *rd = move->rd;
	int ret = 0;

	spin_lock_irq(&rd->lock);
	if (rd->setting)
		ret = -EBUSY;
	rd->setting = true;
	move->from = rd->state;
	move->generation = rd->generation;
	spin_unlock_irq(&rd->lock);
	return ret;
}

struct file *remap_set_state(struct vfio_device *vdev, enum vfio_device_mig_state to)
{
	struct remap_move move = { .rd = to_remap(vdev), .to = to };
	struct remap_device *rd = move.rd;
	int ret = remap_claim(&move);

	if (!ret) {
		ret = remap_move(&move);
		spin_lock_irq(&rd->lock);
		rd->setting = false;
		remap_trace(rd, "state from=%s to=%s ret=%d", remap_state_name(move.from),
			    remap_state_name(to), ret);
		spin_unlock_irq(&rd->lock);
	} else {
		remap_trace(rd, "state from=%s to=%s ret=%d", remap_state_name(move.from),
			    remap_state_name(to), ret);
	}
	if (move.stream) {	/* not handed over */
		remap_stream_end(move.stream);
		remap_stream_put(move.stream);
	}
	if (!ret)
		return move.filp;
	if (move.filp)
		fput(move.filp);
	return ERR_PTR(ret);
}

/* Lock-free: it must answer, with the old state, while a write waits. */
static int remap_get_state(struct vfio_device *vdev, enum vfio_device_mig_state *state)
{
	*state = READ_ONCE(to_remap(vdev)->state);
	return 0;
}

#ifdef REMAP_ASKS_DATA_SIZE
static int remap_get_data_size(struct vfio_device *vdev, unsigned long *stop_copy_length)
{
	*stop_copy_length = remap_stream_final_size();
	return 0;
}
#endif

const struct vfio_migration_ops remap_migration_ops = {
	.migration_set_state = remap_set_state,
	.migration_get_state = remap_get_state,
#ifdef REMAP_ASKS_DATA_SIZE
	.migration_get_data_size = remap_get_data_size,
#endif
};

/*
 * Back to RUNNING with everything offered; memory and registrations stay. Only
 * a saving-layout device may refuse it, as it may refuse RUNNING itself.
 */
int remap_reset(struct remap_device *rd)
{
	struct remap_stream *ended = NULL;
	struct remap_adds adds = {};
	int ret;

	mutex_lock(&rd->reg_mutex);
	spin_lock_irq(&rd->lock);
	ret = remap_leave_saving_locked(rd, BIT(REMAP_NUM_REASONS) - 1, &adds);
	if (!ret) {
		rd->generation++;
		remap_fail_wait(rd, -ECANCELED);
		WRITE_ONCE(rd->state, VFIO_DEVICE_STATE_RUNNING);
		swap(ended, rd->stream);
	}
	spin_unlock_irq(&rd->lock);
	remap_ring(rd, &adds);
	mutex_unlock(&rd->reg_mutex);
	if (ended) {
		remap_stream_end(ended);
		remap_stream_put(ended);
	}
	return ret;
}
