/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * guests.h - what the parts of the load program share: its ports, its options,
 * the two directions of a load and what was counted.
 *
 * The program does what dpdk-testpmd cannot: frames of many addresses, frames
 * of 64 KiB, one packet at a time with its round trip, attackers beside a
 * well-behaved pair.  Ports are DPDK's net_virtio_user, as testpmd's.  Two
 * threads: the main one reads commands, the other one does all the work.
 */
#ifndef BENCH_GUESTS_H
#define BENCH_GUESTS_H

#include <stdbool.h>
#include <stdint.h>

#include <rte_mbuf.h>

#define BURST 32
#define HEADERS 54              /* Ethernet, IPv4, TCP */
#define FRAME_MAX 65536
#define ATTACKER 2              /* port number; its target follows */
#define ATTACK_SIZE 64          /* bytes of its frames */

/* Frames of one sense between ports 0 and 1, numbered, so that a lost one is noticed. */
struct direction {
    uint64_t next;              /* number of the next frame to send */
    uint64_t acked;             /* all frames before this one have arrived or are lost */
    uint64_t arrived;
    uint64_t lost;
    uint64_t heard;             /* time stamp of the last arrival */
};

enum attack { ATTACK_NONE, ATTACK_UNICAST, ATTACK_BROADCAST, ATTACK_MACS, ATTACK_STOPPED };

struct guests {
    struct rte_mempool *pool;
    uint16_t n_ports;
    uint32_t size;              /* bytes a frame */
    uint32_t segment;           /* bytes a buffer */
    uint32_t flows;             /* pairs of addresses */
    uint32_t in_flight;         /* frames a direction */
    uint16_t ring;              /* descriptors a virtqueue */
    bool both_ways;
    struct direction way[2];    /* [i]: from port i to the other one */
    uint64_t busy_cycles;       /* of the pair's turns that moved frames */
    uint64_t busy_frames;
    volatile enum attack attack;
    uint64_t attacks;           /* frames the attacker could send */
    struct rte_mbuf *pending[BURST];
    uint16_t n_pending;
    volatile bool stop;
};

/* load.c: run by the working thread. */
int load_learn(void *arg);
int load_run(void *arg);
struct rte_mbuf *load_frame(struct guests *g, uint32_t size);
void load_dress(const struct guests *g, struct rte_mbuf *m, uint16_t from, uint64_t number);

/* probe.c: run by the working thread, in place of a load. */
struct probe {
    struct guests *g;
    uint32_t count;             /* round trips, or milliseconds of copying */
    uint32_t gap_us;            /* silence before each round trip */
    uint64_t *cycles;           /* of each round trip */
    double result;              /* copied bytes a second */
};

int probe_round_trip(void *arg);
int probe_memcpy(void *arg);

#endif
