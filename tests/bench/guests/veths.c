/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * veths.c - sends frames into a network device as fast as the kernel takes
 * them, from one CPU, until the time is over.  What arrives at the other end
 * is counted there, by the kernel.
 *
 *     veths IFNAME CPU MILLISECONDS SIZE
 *
 * Prints how many it sent, and the share of the time that it waited for its
 * CPU, in thousandths.
 * Run in the device's network namespace; needs CAP_NET_RAW.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#define BATCH 64

static void
pin(const char *cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(strtoul(cpu, NULL, 10), &set);
    sched_setaffinity(0, sizeof(set), &set);
}

/* Straight to the driver: without queueing discipline, which would drop instead of being slow. */
static int
packet_socket(const char *name)
{
    const struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(name) };
    const int fd = socket(AF_PACKET, SOCK_RAW, 0), one = 1;

    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)) != 0) {
        perror(name);
        exit(1);
    }
    return fd;
}

static double
now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* Share of the time that we were runnable and waited, since we began. */
static unsigned long long
waited_permille(void)
{
    unsigned long long ran = 0, waited = 0;
    FILE *const file = fopen("/proc/self/schedstat", "r");

    if (!file || fscanf(file, "%llu %llu", &ran, &waited) != 2)
        perror("/proc/self/schedstat");
    if (file)
        fclose(file);
    return ran + waited ? waited * 1000 / (ran + waited) : 0;
}

int
main(int argc, char **argv)
{
    static const uint8_t head[14] = { 0x52, 0x54, 0, 0, 0, 0xb0, 0x52, 0x54, 0, 0, 0, 0xa0, 0x88, 0xb5 };
    static uint8_t frame[ETH_FRAME_LEN];
    static struct mmsghdr messages[BATCH];
    struct iovec all = { frame, 0 };

    if (argc != 5)
        return 2;
    const int fd = packet_socket(argv[1]);
    const double until = strtod(argv[3], NULL) + now_ms();
    uint64_t sent = 0;

    pin(argv[2]);
    all.iov_len = strtoul(argv[4], NULL, 10);
    if (all.iov_len < sizeof(head) || all.iov_len > sizeof(frame))
        return 2;
    memcpy(frame, head, sizeof(head));
    for (unsigned i = 0; i < BATCH; i++)
        messages[i].msg_hdr = (struct msghdr){ .msg_iov = &all, .msg_iovlen = 1 };
    while (now_ms() < until) {
        const int n = sendmmsg(fd, messages, BATCH, MSG_DONTWAIT);

        sent += n > 0 ? (uint64_t)n : 0;
    }
    printf("sent=%llu waited=%llu\n", (unsigned long long)sent, waited_permille());
    return 0;
}
