/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The sample device, and what its files know of each other.
 *
 * Locks, outermost first:
 *   v1.mutex      the data section of the migration region
 *   reg_mutex     who is registered, and every change that is signalled
 *   eventfd's own (taken by the kernel around our wait callbacks)
 *   lock          spinlock, irqsave: everything marked [lock]
 *   mailbox.lock, trace.lock: spinlocks, leaves
 * A vma callback runs under mmap_lock and takes `lock` only; so reg_mutex may be
 * held over a user access, as add.c does, and nothing else is. No lock is held
 * while a device_state write waits.
 *
 * Over 400 lines: one struct that all files share, and what they lend each other.
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
#define REMAP_MAX_PAGES		2
#define REMAP_MAX_AREAS		2	/* offered of one region at a time */
#define REMAP_MSI_VECTORS	4

enum {
	REMAP_REGION_MAILBOX,		/* plain mmap */
	REMAP_REGION_SPARSE,		/* mmap by sparse areas */
	REMAP_REGION_REGISTERS,		/* never mmap */
	REMAP_REGION_CONFIG = VFIO_PCI_CONFIG_REGION_INDEX,
	REMAP_REGION_MIGRATION = VFIO_PCI_NUM_REGIONS,	/* of v1 only */
	/* With two pages only. */
	REMAP_REGION_FAR = 64,		/* plain mmap */
	REMAP_REGION_FARTHER,		/* plain mmap, in every state */
};

/* Where the contents of regions lie; what is saved, in this order. */
#define REMAP_MEM_REGIONS	5

#define REMAP_MAILBOX_SIZE	SZ_64K
#define REMAP_SPARSE_SIZE	SZ_128K
#define REMAP_REGISTERS_SIZE	SZ_4K
#define REMAP_FAR_SIZE		SZ_8K
#define REMAP_FARTHER_SIZE	SZ_4K
#define REMAP_CONFIG_SIZE	256
/* The struct of v1 has a page; two halves of the data section follow. */
#define REMAP_MIGRATION_HEADER	SZ_4K
#define REMAP_MIGRATION_HALF	SZ_32K
#define REMAP_MIGRATION_SIZE	(REMAP_MIGRATION_HEADER + 2 * REMAP_MIGRATION_HALF)

struct remap_memory {
	u32 region;
	u64 size;
};

extern const struct remap_memory remap_memories[REMAP_MEM_REGIONS];

enum remap_ack {
	REMAP_ACK_NONE,		/* the mappings themselves tell (RR-29) */
	REMAP_ACK_VALUE,	/* the sum that was read, on a second fd (RR-14) */
	REMAP_ACK_BARE,		/* any write to the trigger fd (RR-52) */
};

/* A row of the protocol. `irq`: layouts are signalled; else they are not. */
struct remap_row {
	const char *name;
	bool irq, bitmap, saving_layout;
	enum remap_ack ack;
};

/*
 * A reason not to offer an area. Several may hold at once: the saving group of
 * states, for each page of regions, and a spontaneous revocation of a region.
 * NOT_SAVING always holds, but while a saving-layout device saves. NOT_V1 holds
 * where there is no migration region.
 */
enum remap_reason {
	REMAP_REASON_SAVING0,
	REMAP_REASON_SAVING1,
	REMAP_REASON_REGION0,
	REMAP_REASON_REGION1,
	REMAP_REASON_REGION64,
	REMAP_REASON_REGION65,
	REMAP_NUM_REASONS,	/* above: may be signalled, and acked */
	REMAP_REASON_NOT_SAVING = REMAP_NUM_REASONS,
	REMAP_REASON_NOT_V1,
};

#define REMAP_SAVING	(BIT(REMAP_REASON_SAVING0) | BIT(REMAP_REASON_SAVING1))

struct remap_area {
	u32 region;
	u64 offset;
	u64 size;
	u32 reasons;	/* BIT(enum remap_reason) that take this area away */
};

extern const struct remap_area remap_areas[];
extern const unsigned int remap_num_areas;

/* Slots of eventfds. A page's two roles stand side by side. */
enum remap_slot {
	REMAP_TRIGGER,
	REMAP_ACK,
	REMAP_INTX = 2 * REMAP_MAX_PAGES,
	REMAP_UNMASK,			/* of INTx, by the user */
	REMAP_MSI,
	REMAP_NUM_SLOTS = REMAP_MSI + REMAP_MSI_VECTORS,
};

#define REMAP_TRIGGER_OF(page)	(REMAP_TRIGGER + 2 * (page))
#define REMAP_ACK_OF(page)	(REMAP_ACK + 2 * (page))

struct remap_device;

/* One registered eventfd. Changed under reg_mutex; `live` is [lock]. */
struct remap_eventfd {
	struct remap_device *rd;
	enum remap_slot slot;
	struct eventfd_ctx *ctx;
	wait_queue_head_t *head;	/* the eventfd's, learnt from its poll */
	wait_queue_entry_t entry;
	poll_table table;
	bool live;			/* callbacks count; false from HUP on */
	struct task_struct *signaller;	/* the task in our own add, if any */
	struct remap_adder adder;	/* compat.h: how more than 1 is added */
};

/* What one page's irq has said and heard; all [lock]. */
struct remap_page {
	u64 sent, acked;
	u64 pending;		/* bits of regions that are yet to be signalled */
	unsigned int adds;	/* bare acks: our adds that were made, one after each signal that was accounted for */
	bool unread;		/* bare acks: our last add has not been read */
	bool heard;		/* bare acks: one has come since that read */
};

/* Adds that were accounted for and are to be made, once the spinlock is left. */
struct remap_adds {
	u64 page[REMAP_MAX_PAGES];
	unsigned int times;
};

enum remap_drain {
	REMAP_DRAIN_NEVER, REMAP_DRAIN_ALWAYS, REMAP_DRAIN_SOMETIMES, REMAP_DRAIN_AT_ACK,
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

/* The migration region of v1. */
struct remap_v1 {
	bool on;		/* changes only while nobody has the device open */
	void *memory;
	struct mutex mutex;	/* everything below */
	struct remap_stream *session;	/* which `staged` belongs to; with a reference */
	u64 staged, staged_at;	/* the chunk that lies in the data section: size, offset */
	u32 half;		/* counts on; the next chunk's place is its lowest bit */
};

struct remap_device {
	struct vfio_device vdev;
	struct mutex reg_mutex;
	spinlock_t lock;

	/* What sysfs chose; changes only while nobody has the device open. */
	const struct remap_row *row;
	bool non_pci;
	u32 pages;
	u64 feature_flags;	/* VFIO_MIGRATION_*; 0: it cannot migrate */

	void *mem[REMAP_MEM_REGIONS];
	u8 config[REMAP_CONFIG_SIZE];
	unsigned int opens;				/* [lock] */

	struct remap_eventfd eventfd[REMAP_NUM_SLOTS];
	struct work_struct work;	/* what wait callbacks leave to others */
	u32 msi_enabled;		/* vectors; reg_mutex */
	bool intx_level, intx_masked, intx_unmask;	/* [lock] */

	/* The layout: masks of BIT(enum remap_reason), all [lock]. */
	u32 revoked;		/* not offered to queries and mmap */
	u32 awaiting;		/* no ack has covered it yet */
	u32 untargeted;		/* ... and its signal is still kept back */
	u32 enforced;		/* not served to page faults either */
	u64 target[REMAP_NUM_REASONS];
	struct list_head vmas;				/* [lock] */
	unsigned int num_vmas;				/* [lock] */

	struct remap_page page[REMAP_MAX_PAGES];	/* [lock] */

	/* The one wait of a device_state write, all [lock]. */
	wait_queue_head_t waitq;
	bool waiting, wait_done;
	int wait_ret;

	/* Migration, all [lock]; state is also read without it. */
	u32 state;
	bool setting;		/* a device_state write is under way */
	u32 generation;		/* a reset in between makes it stale */
	struct remap_stream *stream;
	struct remap_v1 v1;

	u64 violations;					/* [lock] */

	/* Switches of sysfs; plain words, read once where used. */
	u32 ack_timeout_ms, max_waits;
	u32 fail_region_info, fail_query_count;
	u64 count_limit;	/* sent - acked stays below; 2^64 - 1 */

	/* How it misbehaves. */
	bool ignore_acks, take_any_ack, ignore_disable, silent_roll_back;
	bool signal_twice, add_one, signal_undeclared, signal_before_layout;
	u32 stall_ms, fail_arc;
	enum remap_drain drain;
	u32 drained;		/* "sometimes" counts here; [lock] */
	bool drain_later;	/* an ack came: the work drains; [lock] */

	struct remap_mailbox mailbox;
	struct remap_trace trace;
};

static inline struct remap_device *to_remap(struct vfio_device *vdev)
{
	return container_of(vdev, struct remap_device, vdev);
}

/* device.c */
extern const struct vfio_device_ops remap_vfio_ops;
u32 remap_num_regions(struct remap_device *rd);

/* profile.c */
extern const struct remap_row remap_rows[];
extern const unsigned int remap_num_rows;
const struct remap_row *remap_default_row(void);
u64 remap_reason_bits(u32 reasons, unsigned int page);
u32 remap_page_reasons(unsigned int page);
u32 remap_saving_reasons(struct remap_device *rd);
bool remap_reason_of_region(struct remap_device *rd, u32 region, enum remap_reason *reason);

/* layout.c: callers hold `lock` unless said otherwise */
u64 remap_region_size(struct remap_device *rd, u32 region);	/* no lock */
void *remap_region_memory(struct remap_device *rd, u32 region);	/* no lock */
const struct remap_area *remap_find_area(u32 region, u64 offset, u64 size);
void remap_layout_change(struct remap_device *rd, u32 revoked);
long remap_get_region_info(struct remap_device *rd, void __user *arg); /* no lock */

/* vma.c */
int remap_mmap(struct vfio_device *vdev, struct vm_area_struct *vma);
bool remap_vma_overlaps(struct remap_device *rd, u32 reasons, const char *what); /* [lock] */

/* eventfd.c: all under reg_mutex */
int remap_eventfd_register(struct remap_device *rd, enum remap_slot slot, int fd);
void remap_eventfd_unregister(struct remap_device *rd, enum remap_slot slot);
void remap_eventfd_signal(struct remap_device *rd, enum remap_slot slot, u64 n);
bool remap_ignores_disable(struct remap_device *rd, enum remap_slot slot);	/* any */
void remap_eventfd_drain(struct remap_device *rd, enum remap_slot slot);

/* add.c */
void remap_adder_init(struct remap_adder *adder, struct file *file);
void remap_adder_release(struct remap_adder *adder);
int remap_adder_add(struct remap_adder *adder, struct eventfd_ctx *ctx, u64 n);

/* irq.c */
u32 remap_num_irqs(struct remap_device *rd);
long remap_get_irq_info(struct remap_device *rd, void __user *arg);
long remap_set_irqs(struct remap_device *rd, void __user *arg);
void remap_disable_irqs(struct remap_device *rd);

/* device_irqs.c: INTx and MSI. `fds` or `bools` by the data type, under reg_mutex */
struct remap_irq_data {
	s32 fds[REMAP_MSI_VECTORS];
	u8 bools[REMAP_MSI_VECTORS];
};

long remap_set_intx(struct remap_device *rd, const struct vfio_irq_set *set,
		    const struct remap_irq_data *data);
long remap_set_msi(struct remap_device *rd, const struct vfio_irq_set *set,
		   const struct remap_irq_data *data);
void remap_intx_work(struct remap_device *rd);
void remap_set_level(struct remap_device *rd, bool level);	/* takes reg_mutex */
int remap_raise_msi(struct remap_device *rd, u32 vectors);	/* takes reg_mutex */

/* signal.c: what goes out */
bool remap_page_enabled(struct remap_device *rd, unsigned int page);	/* [lock] */
bool remap_irqs_enabled(struct remap_device *rd);			/* [lock] */
void remap_sums_reset(struct remap_device *rd, unsigned int page);	/* [lock] */
void remap_account(struct remap_device *rd, struct remap_adds *adds);	/* reg_mutex, [lock] */
void remap_ring(struct remap_device *rd, const struct remap_adds *adds); /* reg_mutex only */

/* ack.c: what comes back; all [lock] */
void remap_heard_value(struct remap_device *rd, unsigned int page, u64 n);
void remap_heard_trigger(struct remap_device *rd, unsigned int page, bool own);
void remap_heard_read(struct remap_device *rd, unsigned int page);
void remap_judge_acks(struct remap_device *rd);
void remap_fail_wait(struct remap_device *rd, int ret);

/* handshake.c */
int remap_revoke(struct remap_device *rd, enum remap_reason reason);
void remap_restore_locked(struct remap_device *rd, u32 reasons,
			  struct remap_adds *adds);	/* reg_mutex, [lock] */
void remap_restore(struct remap_device *rd, u32 reasons);
void remap_roll_back(struct remap_device *rd);
int remap_enter_saving(struct remap_device *rd, u32 generation);
int remap_leave_saving_locked(struct remap_device *rd, u32 reasons,
			      struct remap_adds *adds);		/* reg_mutex, [lock] */
void remap_entered_saving_locked(struct remap_device *rd);	/* [lock] */
void remap_work(struct work_struct *work);

/* fsm.c: pure */
bool remap_is_saving(u32 state);
bool remap_flags_valid(u64 flags);
int remap_next_state(u64 flags, u32 from, u32 to);
int remap_check_path(u64 flags, u32 from, u32 to);
const char *remap_state_name(u32 state);
u32 remap_state_named(const char *name);	/* U32_MAX: there is none */

/* migration.c */
extern const struct vfio_migration_ops remap_migration_ops;
struct file *remap_set_state(struct vfio_device *vdev, enum vfio_device_mig_state to);
struct remap_stream *remap_session(struct remap_device *rd);
int remap_reset(struct remap_device *rd);
void remap_stall(struct remap_device *rd);

/* migration_v1.c */
int remap_v1_init(struct remap_device *rd);
void remap_v1_free(struct remap_device *rd);
void remap_v1_close(struct remap_device *rd);
int remap_choose_migration(struct remap_device *rd, u32 version);
ssize_t remap_v1_read(struct remap_device *rd, char __user *buf, size_t count, u64 offset);
ssize_t remap_v1_write(struct remap_device *rd, const char __user *buf, size_t count, u64 offset);

/* stream.c */
struct remap_stream *remap_stream_open_save(struct file **filp);
struct remap_stream *remap_stream_open_load(struct file **filp);
void remap_stream_get(struct remap_stream *stream);
void remap_stream_put(struct remap_stream *stream);
size_t remap_stream_final_size(void);
int remap_stream_append(struct remap_stream *stream, struct remap_device *rd, bool final);
int remap_stream_load(struct remap_stream *stream, struct remap_device *rd);
void remap_stream_end(struct remap_stream *stream);
size_t remap_stream_pending(struct remap_stream *stream);
size_t remap_stream_take(struct remap_stream *stream, void *to, size_t count);
int remap_stream_give(struct remap_stream *stream, const void *from, size_t count);

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

/* sysfs.c, and switches.c, whose files are listed here for it */
extern const struct attribute_group *remap_sysfs_groups[];

#define REMAP_SWITCH_FILES(X)							\
	X(profile) X(face) X(pages) X(migration)				\
	X(ack_timeout_ms) X(max_waits) X(fail_region_info) X(fail_query_count)	\
	X(count_limit) X(ignore_acks) X(take_any_ack) X(ignore_disable)		\
	X(silent_roll_back) X(signal_twice) X(add_one) X(signal_undeclared)	\
	X(signal_before_layout) X(stall_ms) X(fail_arc) X(drain)

#define REMAP_DECLARE_FILE(_name) extern struct device_attribute dev_attr_##_name;
REMAP_SWITCH_FILES(REMAP_DECLARE_FILE)

static inline struct remap_device *remap_of(struct device *dev)
{
	return dev_get_drvdata(dev);
}

#endif
