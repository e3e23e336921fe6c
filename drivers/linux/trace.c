// SPDX-License-Identifier: GPL-2.0
/*
 * What the driver saw, in the order in which it saw it: the witness of tests.
 * A ring of fixed lines, written under a leaf lock from any context.
 */
#include <linux/ktime.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "remap.h"

int remap_trace_init(struct remap_device *rd)
{
	struct remap_trace *trace = &rd->trace;

	spin_lock_init(&trace->lock);
	mutex_init(&trace->snapshot_mutex);
	trace->lines = vzalloc(REMAP_TRACE_LINES * REMAP_TRACE_WIDTH);
	trace->snapshot = vzalloc(REMAP_TRACE_LINES * REMAP_TRACE_WIDTH);
	return trace->lines && trace->snapshot ? 0 : -ENOMEM;
}

void remap_trace_free(struct remap_device *rd)
{
	vfree(rd->trace.lines);
	vfree(rd->trace.snapshot);
}

void remap_trace(struct remap_device *rd, const char *fmt, ...)
{
	struct remap_trace *trace = &rd->trace;
	unsigned long flags;
	va_list args;
	char *line;
	int len;

	spin_lock_irqsave(&trace->lock, flags);
	line = trace->lines[trace->seq % REMAP_TRACE_LINES];
	/* The clock is read under the lock, so that lines are sorted by both. */
	len = scnprintf(line, REMAP_TRACE_WIDTH - 1, "%llu %llu ", trace->seq, ktime_get_ns());
	va_start(args, fmt);
	len += vscnprintf(line + len, REMAP_TRACE_WIDTH - 1 - len, fmt, args);
	va_end(args);
	line[len] = '\n';
	line[len + 1] = '\0';
	trace->seq++;
	if (trace->seq - trace->first > REMAP_TRACE_LINES)
		trace->first = trace->seq - REMAP_TRACE_LINES;
	spin_unlock_irqrestore(&trace->lock, flags);
}

void remap_trace_clear(struct remap_device *rd)
{
	unsigned long flags;

	spin_lock_irqsave(&rd->trace.lock, flags);
	rd->trace.first = rd->trace.seq;
	spin_unlock_irqrestore(&rd->trace.lock, flags);
}

static void remap_trace_snapshot(struct remap_trace *trace)
{
	unsigned long flags;
	size_t len = 0;
	u64 seq;

	spin_lock_irqsave(&trace->lock, flags);
	for (seq = trace->first; seq != trace->seq; seq++) {
		const char *line = trace->lines[seq % REMAP_TRACE_LINES];
		size_t width = strnlen(line, REMAP_TRACE_WIDTH);

		memcpy(trace->snapshot + len, line, width);
		len += width;
	}
	spin_unlock_irqrestore(&trace->lock, flags);
	trace->snapshot_len = len;
}

/*
 * A reader comes in pieces of a page while the ring moves on: a read from the
 * start takes a copy, and later pieces are cut from that copy. Two readers at
 * once may therefore see each other's copies; one at a time sees a whole one.
 */
ssize_t remap_trace_read(struct remap_device *rd, char *buf, loff_t off, size_t count)
{
	struct remap_trace *trace = &rd->trace;
	ssize_t ret;

	mutex_lock(&trace->snapshot_mutex);
	if (!off)
		remap_trace_snapshot(trace);
	ret = memory_read_from_buffer(buf, count, &off, trace->snapshot, trace->snapshot_len);
	mutex_unlock(&trace->snapshot_mutex);
	return ret;
}
