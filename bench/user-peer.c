// SPDX-License-Identifier: MIT
/*
 * vfio-user in C, for the benchmark: a server that both clients use, and a client.
 *
 *   user-peer serve PATH                    server: serves one client, and ends with it
 *   user-peer reads PATH OUTSTANDING COUNT CPU   client, its server on CPU; prints reads per second
 *   user-peer irqs PATH COUNT CPU           from the write of a register until the irq that it causes; prints times
 *   user-peer state PATH MIB CPU            MIG_DATA_READ of 1 MiB each; prints MiB per second
 *
 * The client reads a reply as clients of vfio-user do: its header by recvmsg, because file descriptors come with that, then its payload.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

enum {
	VERSION = 1, GET_INFO = 4, GET_REGION_INFO = 5, GET_IRQ_INFO = 7, SET_IRQS = 8, REGION_READ = 9, REGION_WRITE = 10,
	FEATURE = 16, MIG_DATA_READ = 17,
	FEATURE_MIGRATION = 1, HEADER = 16, MOST_FDS = 8, MIB = 1 << 20, WARM_UP = 2000,
};

struct message {
	uint16_t id, command;
	uint32_t size, flags, error;
	union {
		struct { uint64_t offset; uint32_t region, count; uint32_t data; } access;
		struct { uint32_t argsz, flags, index, start, count; } irqs;
		struct { uint32_t argsz, flags, state, data_fd; } feature;
		struct { uint32_t argsz, size; } data;
		uint32_t words[12];
		uint8_t bytes[MIB + 64];
	} __attribute__((packed));
} __attribute__((packed));

static const char version[] = "{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576}}";
static struct message in, out;

static int connect_or_listen(const char *path, bool server)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	if (fd < 0)
		die("socket");
	if (server) {
		unlink(path);
		if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 1))
			die(path);
		return fd;
	}
	while (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		if (errno != ENOENT && errno != ECONNREFUSED)
			die(path);
	return fd;
}

/* One message, and at most one fd that came with it. False at the end. */
static bool receive(int fd, struct message *message, int *passed)
{
	char control[CMSG_SPACE(MOST_FDS * sizeof(int))];
	struct iovec part = { message, HEADER };
	struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	ssize_t got = recvmsg(fd, &header, MSG_WAITALL);
	struct cmsghdr *fds = got > 0 ? CMSG_FIRSTHDR(&header) : NULL;
	size_t left;

	if (got != HEADER)
		return false;
	if (fds && passed)
		memcpy(passed, CMSG_DATA(fds), sizeof(*passed));
	left = message->size - HEADER;
	return left == 0 || recv(fd, message->bytes, left, MSG_WAITALL) == (ssize_t)left;
}

static void send_message(int fd, struct message *message, uint32_t payload, int passed)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec part = { message, HEADER + payload };
	struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 };

	message->size = HEADER + payload;
	if (passed >= 0) {
		struct cmsghdr *fds = (struct cmsghdr *)control;

		*fds = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(fds), &passed, sizeof(passed));
		header.msg_control = control;
		header.msg_controllen = sizeof(control);
	}
	if (sendmsg(fd, &header, MSG_NOSIGNAL) != (ssize_t)message->size)
		exit(0);
}

/* Device: region 0 of a page whose every write signals irq 0, and a state of as many zeros as anybody reads. */
static void serve(const char *path)
{
	int listener = connect_or_listen(path, true), fd = accept(listener, NULL, NULL), irq = -1;
	uint64_t one = 1;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (receive(fd, &in, &irq)) {
		uint32_t payload = in.size - HEADER;

		switch (in.command) {
		case VERSION:
			memcpy(in.bytes + 4, version, sizeof(version));
			payload = 4 + sizeof(version);
			break;
		case GET_INFO:
			memcpy(in.words, (uint32_t[]){ 16, 3, 9, 5 }, 16);
			break;
		case GET_REGION_INFO:
			memcpy(in.words, (uint32_t[]){ 32, 3, in.words[2], 0, in.words[2] ? 0 : 4096, 0, 0, 0 }, 32);
			break;
		case GET_IRQ_INFO:
			memcpy(in.words, (uint32_t[]){ 16, 1, in.words[2], 1 }, 16);
			payload = 16;
			break;
		case SET_IRQS:
			payload = 0;
			break;
		case REGION_READ:
			in.access.data = 0x12345678;
			payload = 16 + in.access.count;
			break;
		case REGION_WRITE:
			if (irq >= 0 && write(irq, &one, 8) != 8)
				die("write eventfd");
			payload = 16;
			break;
		case FEATURE:
			if ((in.feature.flags & 0xffff) == FEATURE_MIGRATION)
				memcpy(in.bytes + 8, &(uint64_t){ 1 }, 8);
			else if (in.feature.flags & 0x10000)
				in.feature.state = 2;
			payload = 16;
			break;
		case MIG_DATA_READ:
			in.data.argsz = 8 + in.data.size;
			payload = in.data.argsz;
			break;
		default:
			payload = 0;
		}
		in.flags = 1;
		send_message(fd, &in, payload, -1);
	}
}

static int server_fd(const char *path, int cpu)
{
	int fd;

	if (fork() == 0) {
		pin(cpu);
		serve(path);
		_exit(0);
	}
	fd = connect_or_listen(path, false);
	out = (struct message){ .command = VERSION };
	memcpy(out.bytes + 4, version, sizeof(version));
	send_message(fd, &out, 4 + sizeof(version), -1);
	receive(fd, &in, NULL);
	return fd;
}

static void ask_read(int fd, uint16_t id)
{
	out.id = id;
	out.command = REGION_READ;
	out.flags = 0;
	out.access.offset = 16;
	out.access.region = 0;
	out.access.count = 4;
	send_message(fd, &out, 16, -1);
}

static void reads(int fd, int outstanding, int count)
{
	uint64_t sum = 0, start = 0, cpu = 0;
	int asked = 0, answered = 0, warm_up = WARM_UP;

	for (; asked < outstanding; asked++)
		ask_read(fd, (uint16_t)asked);
	for (; answered < warm_up + count; answered++) {
		if (answered == warm_up) {
			start = now_ns();
			cpu = cpu_ns();
		}
		if (!receive(fd, &in, NULL))
			die("the server is gone");
		sum += in.access.data;
		if (asked < warm_up + count)
			ask_read(fd, (uint16_t)asked++);
	}
	printf("{\"perSecond\":%.0f,\"perCpuSecond\":%.0f,\"sum\":%llu}\n", count * 1e9 / (double)(now_ns() - start), count * 1e9 / (double)(cpu_ns() - cpu),
	       (unsigned long long)sum);
}

static void irqs(int fd, int count)
{
	uint64_t got, *times = calloc((size_t)count, sizeof(*times));
	int irq = eventfd(0, EFD_NONBLOCK);

	if (!times)
		die("calloc");
	out.command = SET_IRQS;
	out.flags = 0;
	out.irqs = (typeof(out.irqs)){ 20, 0x24, 0, 0, 1 };
	send_message(fd, &out, 20, irq);
	receive(fd, &in, NULL);
	for (int i = -WARM_UP; i < count; i++) {
		struct pollfd wait = { .fd = irq, .events = POLLIN };
		uint64_t start = now_ns();

		out.command = REGION_WRITE;
		out.access.offset = 16;
		out.access.region = 0;
		out.access.count = 4;
		send_message(fd, &out, 20, -1);
		if (poll(&wait, 1, -1) != 1 || read(irq, &got, 8) != 8)
			die("irq");
		if (i >= 0)
			times[i] = now_ns() - start;
		receive(fd, &in, NULL);
	}
	printf("{\"p50Ns\":%llu,\"p99Ns\":%llu}\n", (unsigned long long)percentile(times, count, 50), (unsigned long long)percentile(times, count, 99));
}

static void state(int fd, int mib)
{
	uint64_t start = now_ns(), cpu = cpu_ns(), bytes = 0;

	while (bytes < (uint64_t)mib * MIB) {
		out.command = MIG_DATA_READ;
		out.flags = 0;
		out.data.argsz = 8 + MIB;
		out.data.size = MIB;
		send_message(fd, &out, 8, -1);
		if (!receive(fd, &in, NULL))
			die("the server is gone");
		bytes += in.data.size;
	}
	printf("{\"mibPerSecond\":%.0f,\"mibPerCpuSecond\":%.0f}\n", mib * 1e9 / (double)(now_ns() - start), mib * 1e9 / (double)(cpu_ns() - cpu));
}

int main(int argc, char **argv)
{
	const char *mode = argc > 2 ? argv[1] : "";

	if (!strcmp(mode, "serve")) {
		serve(argv[2]);
		return 0;
	}
	if (!strcmp(mode, "reads"))
		reads(server_fd(argv[2], number(argv, argc, 5)), number(argv, argc, 3), number(argv, argc, 4));
	else if (!strcmp(mode, "irqs"))
		irqs(server_fd(argv[2], number(argv, argc, 4)), number(argv, argc, 3));
	else if (!strcmp(mode, "state"))
		state(server_fd(argv[2], number(argv, argc, 4)), number(argv, argc, 3));
	else {
		fprintf(stderr, "user-peer: unknown mode '%s'\n", mode);
		return 2;
	}
	return 0;
}
