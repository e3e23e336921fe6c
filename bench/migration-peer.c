// SPDX-License-Identifier: MIT
/*
 * The C side of the migration benchmark: device state from one process to another, in the frames of src/wire/frame.ts.
 *
 *   migration-peer unix|tcp MIB CPU      sends from where it runs to a child of its own on CPU; prints MiB per second
 *
 * As the library does: frames of 1 MiB, checksums of header and payload, the order of the frames, a window of credit of 16 MiB that is
 * given back in lumps of 8, the same room in the kernel's socket, and the number and checksum of all bytes at the end, which the receiver answers. The device fills a
 * buffer with zeros for each read, and takes what is written without a look, as the software device does.
 *
 * crc32 is that of the system's zlib; its prototypes stand here, so that no headers need to be installed.
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

extern unsigned long crc32(unsigned long crc, const unsigned char *bytes, unsigned int length);
extern unsigned long crc32_combine_gen(long length);
extern unsigned long crc32_combine_op(unsigned long crc, unsigned long next, unsigned long op);

enum { HEADER = 20, CHUNK = 1 << 20, WINDOW = 16 << 20, LUMP = WINDOW / 2 };
enum { DATA = 3, CREDIT = 4, END = 5, PREPARED = 8 };

struct end {
	int fd;
	uint32_t sent, received;
};

static void put(unsigned char *at, uint64_t value, int bytes)
{
	while (bytes--) {
		*at++ = (unsigned char)value;
		value >>= 8;
	}
}

static uint64_t get(const unsigned char *at, int bytes)
{
	uint64_t value = 0;

	while (bytes--)
		value = value << 8 | at[bytes];
	return value;
}

static void broken(const char *what)
{
	fprintf(stderr, "migration-peer: %s\n", what);
	exit(1);
}

static void write_all(int fd, struct iovec *parts, int count)
{
	while (count) {
		ssize_t n = writev(fd, parts, count);

		if (n < 0)
			die("writev");
		while (count && (size_t)n >= parts->iov_len) {
			n -= (ssize_t)parts->iov_len;
			parts++;
			count--;
		}
		if (count) {
			parts->iov_base = (char *)parts->iov_base + n;
			parts->iov_len -= (size_t)n;
		}
	}
}

static void read_all(int fd, unsigned char *bytes, size_t length)
{
	while (length) {
		ssize_t n = read(fd, bytes, length);

		if (n <= 0)
			die("read");
		bytes += n;
		length -= (size_t)n;
	}
}

/* The checksum of the payload. */
static uint32_t send_frame(struct end *end, int type, unsigned char *payload, uint32_t length)
{
	unsigned char header[HEADER] = { 0 };
	struct iovec parts[2] = { { header, HEADER }, { payload, length } };
	uint32_t crc = (uint32_t)crc32(0, payload, length);

	put(header, length, 4);
	header[4] = (unsigned char)type;
	put(header + 8, end->sent++, 4);
	put(header + 12, crc, 4);
	put(header + 16, crc32(0, header, 16), 4);
	write_all(end->fd, parts, length ? 2 : 1);
	return crc;
}

struct frame {
	int type;
	uint32_t length, crc;
};

static struct frame receive_frame(struct end *end, unsigned char *payload)
{
	unsigned char header[HEADER];
	struct frame frame;

	read_all(end->fd, header, HEADER);
	if (get(header + 16, 4) != crc32(0, header, 16) || get(header + 8, 4) != end->received++)
		broken("a header is spoiled or out of order");
	frame = (struct frame){ header[4], (uint32_t)get(header, 4), (uint32_t)get(header + 12, 4) };
	if (frame.length > CHUNK)
		broken("a frame is too long");
	read_all(end->fd, payload, frame.length);
	if (crc32(0, payload, frame.length) != frame.crc)
		broken("a payload is spoiled");
	return frame;
}

/* All bytes of the device: how many, and their checksum. */
struct tally {
	uint64_t bytes;
	unsigned long crc, op;
};

static void add(struct tally *tally, uint32_t length, uint32_t crc)
{
	tally->crc = crc32_combine_op(tally->crc, crc, tally->op);
	tally->bytes += length;
}

static void receive_state(int fd, int cpu)
{
	struct end end = { .fd = fd };
	struct tally tally = { .op = crc32_combine_gen(CHUNK) };
	unsigned char *chunk = malloc(CHUNK), lump[4];
	uint32_t consumed = 0;

	pin(cpu);
	for (;;) {
		struct frame frame = receive_frame(&end, chunk);

		if (frame.type == END)
			break;
		add(&tally, frame.length, frame.crc);
		consumed += frame.length;
		if (consumed < LUMP)
			continue;
		put(lump, consumed, 4);
		send_frame(&end, CREDIT, lump, 4);
		consumed = 0;
	}
	if (get(chunk, 8) != tally.bytes || get(chunk + 8, 4) != tally.crc)
		broken("what came is not what was sent");
	send_frame(&end, PREPARED, NULL, 0);
}

static void send_state(int fd, int mib)
{
	struct end end = { .fd = fd };
	struct tally tally = { .op = crc32_combine_gen(CHUNK) };
	unsigned char *chunk = malloc(CHUNK), last[12], answer[CHUNK];
	uint32_t credit = WINDOW;

	for (int i = 0; i < mib; i++) {
		while (credit < CHUNK) {
			receive_frame(&end, answer);
			credit += (uint32_t)get(answer, 4);
		}
		memset(chunk, 0, CHUNK);
		add(&tally, CHUNK, send_frame(&end, DATA, chunk, CHUNK));
		credit -= CHUNK;
	}
	put(last, tally.bytes, 8);
	put(last + 8, tally.crc, 4);
	send_frame(&end, END, last, sizeof(last));
	while (receive_frame(&end, answer).type != PREPARED)
		;
}

static void connect_both(const char *kind, int fds[2])
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t length = sizeof(at);
	int one = 1, listening, buffer = 2 << 20;

	if (!strcmp(kind, "unix")) {
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) || setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer)))
			die("socketpair");
		return;
	}
	listening = socket(AF_INET, SOCK_STREAM, 0);
	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listening, (struct sockaddr *)&at, length) || getsockname(listening, (struct sockaddr *)&at, &length) || listen(listening, 1) ||
	    connect(fds[0], (struct sockaddr *)&at, length))
		die("connect");
	fds[1] = accept(listening, NULL, NULL);
	close(listening);
	for (int i = 0; i < 2; i++)
		setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_CHILDREN, &usage);
	return (double)cpu_ns() / 1e9 + seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

int main(int argc, char **argv)
{
	int fds[2], status, mib = number(argv, argc, 2), cpu = number(argv, argc, 3);
	uint64_t start, took;

	connect_both(argv[1], fds);
	if (fork() == 0) {
		close(fds[0]);
		receive_state(fds[1], cpu);
		_exit(0);
	}
	close(fds[1]);
	start = now_ns();
	send_state(fds[0], mib);
	took = now_ns() - start;
	if (wait(&status) < 0 || status)
		broken("the receiver failed");
	printf("{\"mibPerSecond\":%.0f,\"mibPerCpuSecond\":%.0f}\n", mib * 1e9 / (double)took, mib / cpu_seconds());
	return 0;
}
