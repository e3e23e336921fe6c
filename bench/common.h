/* SPDX-License-Identifier: MIT */
/* What the C sides of the benchmark share. */
#ifndef VFIO_RX_BENCH_COMMON_H
#define VFIO_RX_BENCH_COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline void die(const char *what)
{
	perror(what);
	exit(1);
}

static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* CPU time of this process: beside other load it says what wall time hides. */
static inline uint64_t cpu_ns(void)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static inline void pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

/* The library opens eventfds non-blocking; the partner waits in read(). */
static inline void set_blocking(int fd)
{
	if (fcntl(fd, F_SETFL, 0))
		die("fcntl");
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Sorts in place; `percent` of the times are at or below the answer. */
static inline uint64_t percentile(uint64_t *times, int count, int percent)
{
	qsort(times, (size_t)count, sizeof(*times), by_value);
	return times[(long)count * percent / 100];
}

static inline int number(char **argv, int argc, int index)
{
	if (index >= argc) {
		fprintf(stderr, "%s: argument %d is missing\n", argv[0], index);
		exit(2);
	}
	return atoi(argv[index]);
}

#endif
