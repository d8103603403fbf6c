/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * taps.c - the round trip of one packet through the kernel: two processes,
 * each blocked in read() on a TAP device of its own, and what joins the two.
 *
 *     taps TAP0 CPU0 TAP1 CPU1 COUNT
 *
 * The parent sends on TAP0, the child sends back what arrives on TAP1.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define SIZE 64
#define TYPE 0x88               /* 0x88b5: for experiments (IEEE 802) */

static int
tap(const char *name)
{
    struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
    const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0) {
        perror(name);
        exit(1);
    }
    return fd;
}

static void
pin(const char *cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(strtoul(cpu, NULL, 10), &set);
    sched_setaffinity(0, sizeof(set), &set);
}

/* The next frame of ours; the kernel sends its own too. */
static void
receive(int fd, uint8_t *frame)
{
    do {
        if (read(fd, frame, 2048) < 0)
            exit(1);
    } while (frame[12] != TYPE || frame[13] != 0xb5);
}

static void
echo(int fd)
{
    uint8_t frame[2048], mac[6];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
        receive(fd, frame);
        memcpy(mac, frame, 6);
        memcpy(frame, frame + 6, 6);
        memcpy(frame + 6, mac, 6);
        if (write(fd, frame, SIZE) != SIZE)
            exit(1);
    }
}

static double
now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int
by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

int
main(int argc, char **argv)
{
    static const uint8_t head[14] = { 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, TYPE, 0xb5 };
    uint8_t frame[2048] = { 0 };

    if (argc != 6)
        return 2;
    const int fds[2] = { tap(argv[1]), tap(argv[3]) };
    const size_t count = strtoul(argv[5], NULL, 10);
    double *const took = calloc(count + 1, sizeof(*took));
    if (took == NULL || count == 0)
        return 1;
    const pid_t child = fork();
    if (child == 0) {
        pin(argv[4]);
        echo(fds[1]);
    }
    pin(argv[2]);
    alarm(60);                  /* a bridge that forwards nothing must not hang us */
    for (size_t i = 0; i < count; i++) {
        usleep(200);
        memcpy(frame, head, sizeof(head));
        const double started = now_us();
        if (write(fds[0], frame, SIZE) != SIZE)
            return 1;
        receive(fds[0], frame);
        took[i] = now_us() - started;
    }
    kill(child, SIGKILL);
    qsort(took, count, sizeof(*took), by_value);
    printf("p50=%.3f p99=%.3f max=%.3f\n", took[count / 2], took[count * 99 / 100],
           took[count - 1]);
    return 0;
}
