/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The sample device, and what its files know of each other.
 *
 * Locks, outermost first:
 *   reg_mutex     who is registered, and every change that is signalled
 *   eventfd's own (taken by the kernel around our wait callbacks)
 *   lock          spinlock, irqsave: everything marked [lock]
 *   mailbox.lock, trace.lock: spinlocks, leaves
 * A vma callback runs under mmap_lock and takes `lock` only. No lock is held
 * while a device_state write waits, and none of these over a user access.
 */
#ifndef REMAP_H
#define REMAP_H

#include <linux/bits.h>
#include <linux/list.h>
#include <linux/mdev.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/vfio.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "vfio_region_remap.h"

#define REMAP_OFFSET_SHIFT	40

enum {
	REMAP_REGION_MAILBOX,		/* plain mmap */
	REMAP_REGION_SPARSE,		/* mmap by sparse areas */
	REMAP_REGION_REGISTERS,		/* never mmap */
	REMAP_MEM_REGIONS,		/* the regions above have memory */
	REMAP_REGION_CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
	REMAP_NUM_REGIONS = VFIO_PCI_NUM_REGIONS,
};

enum {
	REMAP_IRQ_MSI = VFIO_PCI_MSI_IRQ_INDEX,
	REMAP_IRQ_REMAP = VFIO_PCI_NUM_IRQS,	/* behind the PCI ones */
	REMAP_NUM_IRQS,
};

#define REMAP_MAILBOX_SIZE	SZ_64K
#define REMAP_SPARSE_SIZE	SZ_128K
#define REMAP_REGISTERS_SIZE	SZ_4K
#define REMAP_CONFIG_SIZE	256

/*
 * A reason not to offer an area. Several may hold at once: the saving group of
 * states, and a spontaneous revocation of either mmappable region.
 */
enum remap_reason {
	REMAP_REASON_SAVING,
	REMAP_REASON_REGION0,
	REMAP_REASON_REGION1,
	REMAP_NUM_REASONS,
};

struct remap_area {
	u32 region;
	u64 offset;
	u64 size;
	u32 reasons;	/* BIT(enum remap_reason) that take this area away */
};

extern const struct remap_area remap_areas[];
extern const unsigned int remap_num_areas;

enum remap_role { REMAP_TRIGGER, REMAP_ACK, REMAP_MSI, REMAP_NUM_ROLES };

struct remap_device;

/* One registered eventfd. Changed under reg_mutex; `live` is [lock]. */
struct remap_eventfd {
	struct remap_device *rd;
	enum remap_role role;
	struct eventfd_ctx *ctx;
	wait_queue_head_t *head;	/* the eventfd's, learnt from its poll */
	wait_queue_entry_t entry;
	poll_table table;
	bool live;			/* callbacks count; false from HUP on */
};

#define REMAP_GUESTS		4
#define REMAP_SEEN_SEQS		(1u << 20)

struct remap_guest {
	u64 received, duplicates, highest, by_map, by_trap;
	unsigned long *seen;
};

struct remap_mailbox {
	spinlock_t lock;
	bool revoked;		/* mapped stores are stale from here on */
	u64 stale, invalid;
	struct remap_guest guest[REMAP_GUESTS];
	struct delayed_work scan;
};

/*
 * Ranges mapped of one device, by all processes. The list of them is walked
 * under the spinlock, so its length is what the system's latency hangs on.
 */
#define REMAP_MAX_MAPPINGS	1024

#define REMAP_TRACE_LINES	1024
#define REMAP_TRACE_WIDTH	112

struct remap_trace {
	spinlock_t lock;
	u64 seq;		/* of the next line; never set back */
	u64 first;		/* of the oldest line still there */
	char (*lines)[REMAP_TRACE_WIDTH];
	struct mutex snapshot_mutex;
	char *snapshot;		/* what a reader that began at 0 goes on reading */
	size_t snapshot_len;
};

struct remap_stream;

struct remap_device {
	struct vfio_device vdev;
	struct mutex reg_mutex;
	spinlock_t lock;

	void *mem[REMAP_MEM_REGIONS];
	u8 config[REMAP_CONFIG_SIZE];
	unsigned int opens;				/* [lock] */

	struct remap_eventfd eventfd[REMAP_NUM_ROLES];
	struct work_struct work;	/* reaps closed fds, makes a kept signal */

	/* The layout: masks of BIT(enum remap_reason), all [lock]. */
	u32 revoked;		/* not offered to queries and mmap */
	u32 awaiting;		/* no ack has covered it yet */
	u32 untargeted;		/* ... and its signal is still kept back */
	u32 enforced;		/* not served to page faults either */
	u64 target[REMAP_NUM_REASONS];
	struct list_head vmas;				/* [lock] */
	unsigned int num_vmas;				/* [lock] */

	/* The sums of the value ack, all [lock]. */
	u64 sent, acked;
	bool kept;		/* a signal is kept back for want of room */

	/* The one wait of a device_state write, all [lock]. */
	wait_queue_head_t waitq;
	bool waiting, wait_done;
	int wait_ret;

	/* Migration, all [lock]; state is also read without it. */
	u32 state;
	bool setting;		/* a device_state write is under way */
	u32 generation;		/* a reset in between makes it stale */
	struct remap_stream *stream;

	u64 violations;					/* [lock] */

	/* Switches of sysfs; plain words, read once where used. */
	u32 ack_timeout_ms, max_waits;
	bool ignore_acks;
	u32 fail_region_info, fail_query_count;
	u64 count_limit;	/* sent - acked stays below; 2^64 - 1 */

	struct remap_mailbox mailbox;
	struct remap_trace trace;
};

static inline struct remap_device *to_remap(struct vfio_device *vdev)
{
	return container_of(vdev, struct remap_device, vdev);
}

/* device.c */
extern const struct vfio_device_ops remap_vfio_ops;

/* layout.c: callers hold `lock` unless said otherwise */
u64 remap_region_size(u32 region);
bool remap_area_offered(struct remap_device *rd, const struct remap_area *area);
const struct remap_area *remap_find_area(u32 region, u64 offset, u64 size);
void remap_layout_change(struct remap_device *rd, u32 revoked);
long remap_get_region_info(struct remap_device *rd, void __user *arg); /* no lock */

/* vma.c */
int remap_mmap(struct vfio_device *vdev, struct vm_area_struct *vma);
bool remap_vma_overlaps(struct remap_device *rd, u32 reasons); /* [lock] */

/* eventfd.c: all under reg_mutex */
int remap_eventfd_register(struct remap_device *rd, enum remap_role role, int fd);
void remap_eventfd_unregister(struct remap_device *rd, enum remap_role role);
const char *remap_role_name(enum remap_role role);

/* irq.c */
long remap_get_irq_info(struct remap_device *rd, void __user *arg);
long remap_set_irqs(struct remap_device *rd, void __user *arg);
int remap_raise_msi(struct remap_device *rd);
void remap_disable_irqs(struct remap_device *rd);

/* handshake.c */
bool remap_irq_enabled(struct remap_device *rd);		/* [lock] */
void remap_sums_reset(struct remap_device *rd);			/* [lock] */
void remap_heard_ack(struct remap_device *rd, u64 n);		/* [lock] */
void remap_judge_acks(struct remap_device *rd);			/* [lock] */
void remap_fail_wait(struct remap_device *rd, int ret);		/* [lock] */
bool remap_account_signal(struct remap_device *rd);		/* reg_mutex, [lock] */
void remap_ring(struct remap_device *rd);			/* reg_mutex only */
int remap_revoke(struct remap_device *rd, enum remap_reason reason);
bool remap_restore_locked(struct remap_device *rd, u32 reasons); /* reg_mutex, [lock] */
void remap_restore(struct remap_device *rd, u32 reasons);
int remap_revoke_and_wait(struct remap_device *rd, u32 generation);
void remap_work(struct work_struct *work);

/* fsm.c: pure */
bool remap_is_saving(u32 state);
bool remap_flags_valid(u64 flags);
int remap_next_state(u64 flags, u32 from, u32 to);
int remap_check_path(u64 flags, u32 from, u32 to);
const char *remap_state_name(u32 state);

/* migration.c */
extern const struct vfio_migration_ops remap_migration_ops;
void remap_reset(struct remap_device *rd);

/* stream.c */
struct remap_stream *remap_stream_open_save(struct file **filp);
struct remap_stream *remap_stream_open_load(struct file **filp);
void remap_stream_get(struct remap_stream *stream);
void remap_stream_put(struct remap_stream *stream);
int remap_stream_append(struct remap_stream *stream, struct remap_device *rd, bool final);
int remap_stream_load(struct remap_stream *stream, struct remap_device *rd);
void remap_stream_end(struct remap_stream *stream);

/* mailbox.c */
int remap_mailbox_init(struct remap_device *rd);
void remap_mailbox_free(struct remap_device *rd);
void remap_mailbox_start(struct remap_device *rd);
void remap_mailbox_stop(struct remap_device *rd);
void remap_mailbox_scan(struct remap_device *rd);
void remap_mailbox_switch(struct remap_device *rd, bool revoked);
void remap_mailbox_trapped(struct remap_device *rd, u64 word);
ssize_t remap_mailbox_show(struct remap_device *rd, char *buf);
void remap_mailbox_clear(struct remap_device *rd);

/* trace.c: callable under any lock */
int remap_trace_init(struct remap_device *rd);
void remap_trace_free(struct remap_device *rd);
__printf(2, 3) void remap_trace(struct remap_device *rd, const char *fmt, ...);
void remap_trace_clear(struct remap_device *rd);
ssize_t remap_trace_read(struct remap_device *rd, char *buf, loff_t off, size_t count);

/* sysfs.c */
extern const struct attribute_group *remap_sysfs_groups[];

#endif
