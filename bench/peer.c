// SPDX-License-Identifier: MIT
/*
 * The C side of the benchmark.
 *
 *   peer pin CPU PROGRAM ARGS...         run a program on one CPU
 *   peer pulse GAP_NS COUNT              partner: fd 3 is the trigger, fd 4 the answer; prints the round trips' times
 *   peer flood FDS                       partner: writes 1 to fds 3..3+FDS-1 in turn until killed
 *   peer serve-pulse GAP_NS COUNT CPU    C server with its own partner on the same CPU
 *   peer serve-flood FDS COUNT CPU       C server with its own partner on CPU; prints deliveries per second
 *
 * Servers obey the one-shot contract of the library's reactor: EPOLLONESHOT, read the count, hand it on, arm again.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

enum { FIRST_FD = 3, BATCH = 512, WARM_UP = 5000 };

static void pulse(int trigger, int answer, uint64_t gap_ns, int count)
{
	uint64_t one = 1, got, *times = calloc((size_t)count, sizeof(*times));
	int warm_up = gap_ns ? count / 10 : WARM_UP;

	if (!times)
		die("calloc");
	for (int i = -warm_up; i < count; i++) {
		uint64_t start;

		if (gap_ns) {
			struct timespec gap = { 0, (long)gap_ns };
			nanosleep(&gap, NULL);
		}
		start = now_ns();
		if (write(trigger, &one, 8) != 8 || read(answer, &got, 8) != 8)
			die("round trip");
		if (i >= 0)
			times[i] = now_ns() - start;
	}
	printf("{\"p50Ns\":%llu,\"p99Ns\":%llu}\n", (unsigned long long)percentile(times, count, 50),
	       (unsigned long long)percentile(times, count, 99));
	fflush(stdout);
}

static void flood(int first, int fds)
{
	uint64_t one = 1;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		for (int i = 0; i < fds; i++)
			if (write(first + i, &one, 8) != 8 && errno != EAGAIN)
				exit(0);
}

static void arm(int epoll, int operation, int fd, int index)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT, .data.u32 = (uint32_t)index };

	if (epoll_ctl(epoll, operation, fd, &event))
		die("epoll_ctl");
}

/* volatile: the operator that the other side runs is a real call, so this is one too. */
static uint64_t (*volatile operator_)(uint64_t);
static uint64_t add_one(uint64_t count) { return count + 1; }

static void serve_pulse(uint64_t gap_ns, int count, int cpu)
{
	int trigger = eventfd(0, EFD_NONBLOCK), answer = eventfd(0, 0), epoll = epoll_create1(0);
	pid_t partner;

	pin(cpu);
	operator_ = add_one;
	arm(epoll, EPOLL_CTL_ADD, trigger, 0);
	partner = fork();
	if (partner == 0) {
		pulse(trigger, answer, gap_ns, count);
		_exit(0);
	}
	for (int left = count + (gap_ns ? count / 10 : WARM_UP); left > 0;) {
		struct epoll_event ready[BATCH];
		int n = epoll_wait(epoll, ready, BATCH, -1);

		for (int i = 0; i < n; i++, left--) {
			uint64_t got;

			if (read(trigger, &got, 8) != 8)
				die("read");
			got = operator_(got);
			if (write(answer, &got, 8) != 8)
				die("write");
			arm(epoll, EPOLL_CTL_MOD, trigger, 0);
		}
	}
	waitpid(partner, NULL, 0);
}

static void serve_flood(int fds, int count, int cpu)
{
	int first = FIRST_FD + 61, epoll = epoll_create1(0);
	uint64_t delivered = 0, warm_up = (uint64_t)count / 3, sum = 0, start = 0, cpu_start = 0, wall, cpu_used;
	pid_t partner;

	operator_ = add_one;
	for (int i = 0; i < fds; i++) {
		int fd = eventfd(0, EFD_NONBLOCK);

		if (dup2(fd, first + i) < 0)
			die("dup2");
		if (fd < first || fd >= first + fds)
			close(fd);
		arm(epoll, EPOLL_CTL_ADD, first + i, i);
	}
	partner = fork();
	if (partner == 0) {
		pin(cpu);
		flood(first, fds);
	}
	while (delivered < warm_up + (uint64_t)count) {
		struct epoll_event ready[BATCH];
		int n = epoll_wait(epoll, ready, BATCH, -1);

		if (!start && delivered >= warm_up) {
			start = now_ns();
			cpu_start = cpu_ns();
			warm_up = delivered;
		}
		for (int i = 0; i < n; i++) {
			int index = (int)ready[i].data.u32;
			uint64_t got;

			if (read(first + index, &got, 8) != 8)
				continue;
			sum += operator_(got);
			delivered++;
			arm(epoll, EPOLL_CTL_MOD, first + index, index);
		}
	}
	wall = now_ns() - start;
	cpu_used = cpu_ns() - cpu_start;
	delivered -= warm_up;
	kill(partner, SIGKILL);
	waitpid(partner, NULL, 0);
	printf("{\"perSecond\":%.0f,\"perCpuSecond\":%.0f,\"signals\":%llu}\n", (double)delivered * 1e9 / (double)wall,
	       (double)delivered * 1e9 / (double)cpu_used, (unsigned long long)sum);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (!strcmp(mode, "pin") && argc > 3) {
		pin(number(argv, argc, 2));
		execvp(argv[3], argv + 3);
		die(argv[3]);
	} else if (!strcmp(mode, "pulse")) {
		set_blocking(FIRST_FD + 1);
		pulse(FIRST_FD, FIRST_FD + 1, (uint64_t)number(argv, argc, 2), number(argv, argc, 3));
	} else if (!strcmp(mode, "flood")) {
		flood(FIRST_FD, number(argv, argc, 2));
	} else if (!strcmp(mode, "serve-pulse")) {
		serve_pulse((uint64_t)number(argv, argc, 2), number(argv, argc, 3), number(argv, argc, 4));
	} else if (!strcmp(mode, "serve-flood")) {
		serve_flood(number(argv, argc, 2), number(argv, argc, 3), number(argv, argc, 4));
	} else {
		fprintf(stderr, "peer: unknown mode '%s'\n", mode);
		return 2;
	}
	return 0;
}
