// SPDX-License-Identifier: MIT
/*
 * A vendor driver in C that demands remaps, and a user in C that serves them.
 *
 *   remap-peer vendor COUNT                        fd 3 is the shared file, fd 4 the trigger, fd 5 the ack
 *   remap-peer user FILE REGIONS PAGES COUNT CPU   C user, with its own vendor on the same CPU
 *
 * The vendor takes all regions away, signals once (doorbell) and waits until the count has come back as a value ack;
 * then it offers them again in the same way. It prints the times from the signal to the ack, of both kinds.
 *
 * The shared file stands for the device: one page of layout, then the memory of the regions. Reading the layout there
 * takes the place of VFIO_DEVICE_GET_REGION_INFO on both sides; eventfds, epoll, mmap and munmap are the kernel's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

enum { FILE_FD = 3, TRIGGER_FD = 4, ACK_FD = 5, MAX_REGIONS = 64, PAGE = 4096, WARM_UP = 500 };

/* Page 0 of the file; remap-device.ts reads the same words. */
struct layout {
	uint32_t regions;
	uint32_t pages;			/* of each region */
	uint32_t offered[MAX_REGIONS];
};

static struct layout *map_layout(int file)
{
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

	if (page == MAP_FAILED)
		die("mmap of the layout");
	return page;
}

/* ── the vendor driver ─────────────────────────────────────────────────────────────────────────────────────── */

/* How much of the shared file the user has mapped, the page of the layout left out. */
static uint64_t user_maps(pid_t user)
{
	char path[64], line[512];
	uint64_t from, to, sum = 0;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)user);
	maps = fopen(path, "r");
	if (!maps)
		die(path);
	while (fgets(line, sizeof(line), maps))
		if (strstr(line, "vfio-rx-bench") && sscanf(line, "%" SCNx64 "-%" SCNx64, &from, &to) == 2)
			sum += to - from;
	fclose(maps);
	return sum - PAGE;
}

static uint64_t demand(struct layout *layout, uint32_t offered)
{
	uint64_t one = 1, got, start;

	for (uint32_t i = 0; i < layout->regions; i++)
		__atomic_store_n(&layout->offered[i], offered, __ATOMIC_RELEASE);
	start = now_ns();
	if (write(TRIGGER_FD, &one, 8) != 8 || read(ACK_FD, &got, 8) != 8)
		die("demand");
	if (got != 1) {
		fprintf(stderr, "vendor: an ack of %" PRIu64 " for a signal of 1\n", got);
		exit(1);
	}
	return now_ns() - start;
}

static void vendor(int count)
{
	struct layout *layout = map_layout(FILE_FD);
	uint64_t all = (uint64_t)layout->regions * layout->pages * PAGE;
	uint64_t *revoked = calloc((size_t)count, sizeof(*revoked)), *restored = calloc((size_t)count, sizeof(*restored));

	if (!revoked || !restored)
		die("calloc");
	set_blocking(ACK_FD);
	for (int i = -WARM_UP; i < count; i++) {
		uint64_t taken = demand(layout, 0), given;

		/* An ack is believed, but not before it was seen to be true. */
		if (i == -1 && user_maps(getppid()) != 0) {
			fprintf(stderr, "vendor: acked, yet mapped\n");
			exit(1);
		}
		given = demand(layout, 1);
		if (i == -1 && user_maps(getppid()) != all) {
			fprintf(stderr, "vendor: acked, yet not mapped again\n");
			exit(1);
		}
		if (i >= 0) {
			revoked[i] = taken;
			restored[i] = given;
		}
	}
	printf("{\"p50Ns\":%" PRIu64 ",\"p99Ns\":%" PRIu64 ",\"restoredP50Ns\":%" PRIu64 ",\"restoredP99Ns\":%" PRIu64 "}\n",
	       percentile(revoked, count, 50), percentile(revoked, count, 99), percentile(restored, count, 50),
	       percentile(restored, count, 99));
	fflush(stdout);
}

/* ── the user ──────────────────────────────────────────────────────────────────────────────────────────────── */

struct region_info {
	uint64_t offset, size;
	bool mmappable;
};

struct user {
	int file;
	struct layout *layout;
	void *mapped[MAX_REGIONS];
};

/* volatile: a query is a real call on the other side, too. */
static void (*volatile query)(const struct layout *, uint32_t, struct region_info *);
static void query_layout(const struct layout *layout, uint32_t index, struct region_info *info)
{
	info->size = (uint64_t)layout->pages * PAGE;
	info->offset = PAGE + index * info->size;
	info->mmappable = __atomic_load_n(&layout->offered[index], __ATOMIC_ACQUIRE);
}

/* As the protocol has it: everything is asked, then all that is revoked goes, then what is offered comes. */
static void remap(struct user *user)
{
	struct region_info info[MAX_REGIONS];
	uint32_t regions = user->layout->regions;

	for (uint32_t i = 0; i < regions; i++)
		query(user->layout, i, &info[i]);
	for (uint32_t i = 0; i < regions; i++)
		if (user->mapped[i] && !info[i].mmappable) {
			if (munmap(user->mapped[i], info[i].size))
				die("munmap");
			user->mapped[i] = NULL;
		}
	for (uint32_t i = 0; i < regions; i++)
		if (!user->mapped[i] && info[i].mmappable) {
			void *at = mmap(NULL, info[i].size, PROT_READ | PROT_WRITE, MAP_SHARED, user->file, (off_t)info[i].offset);

			if (at == MAP_FAILED || madvise(at, info[i].size, MADV_DONTFORK))
				die("mmap");
			user->mapped[i] = at;
		}
}

static void serve(const char *path, uint32_t regions, uint32_t pages, int count, int cpu)
{
	int trigger = eventfd(0, EFD_NONBLOCK), ack = eventfd(0, 0), epoll = epoll_create1(0);
	struct epoll_event armed = { .events = EPOLLIN | EPOLLONESHOT };
	struct user user = { .file = open(path, O_RDWR) };
	char counted[16];
	pid_t partner;

	if (user.file < 0)
		die(path);
	pin(cpu);
	query = query_layout;
	user.layout = map_layout(user.file);
	user.layout->regions = regions;
	user.layout->pages = pages;
	for (uint32_t i = 0; i < regions; i++)
		user.layout->offered[i] = 1;
	remap(&user);
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, trigger, &armed))
		die("epoll_ctl");
	snprintf(counted, sizeof(counted), "%d", count);
	partner = fork();
	if (partner == 0) {
		/* Out of the way first: the numbers may be each other's. */
		int file = fcntl(user.file, F_DUPFD, 10), signal = fcntl(trigger, F_DUPFD, 10), heard = fcntl(ack, F_DUPFD, 10);

		if (dup2(file, FILE_FD) < 0 || dup2(signal, TRIGGER_FD) < 0 || dup2(heard, ACK_FD) < 0)
			die("dup2");
		execl("/proc/self/exe", "remap-peer", "vendor", counted, NULL);
		die("exec");
	}
	for (int left = 2 * (WARM_UP + count); left > 0;) {
		struct epoll_event ready[16];
		int n = epoll_wait(epoll, ready, 16, -1);

		for (int i = 0; i < n; i++, left--) {
			uint64_t got;

			if (read(trigger, &got, 8) != 8)
				die("read");
			remap(&user);
			if (write(ack, &got, 8) != 8)
				die("write");
			if (epoll_ctl(epoll, EPOLL_CTL_MOD, trigger, &armed))
				die("epoll_ctl");
		}
	}
	waitpid(partner, NULL, 0);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (!strcmp(mode, "vendor")) {
		vendor(number(argv, argc, 2));
	} else if (!strcmp(mode, "user") && argc > 2) {
		serve(argv[2], (uint32_t)number(argv, argc, 3), (uint32_t)number(argv, argc, 4), number(argv, argc, 5),
		      number(argv, argc, 6));
	} else {
		fprintf(stderr, "remap-peer: unknown mode '%s'\n", mode);
		return 2;
	}
	return 0;
}
