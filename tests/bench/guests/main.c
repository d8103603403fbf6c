/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * main.c - ports, options and commands of the load program; helper.py starts
 * it and speaks with it: one command a line, one line as the answer.
 *
 *     guests EAL-OPTION... -- KEY=VALUE...
 */
#include "guests.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_lcore.h>

static int
by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static int
port_up(const struct guests *g, uint16_t port)
{
    struct rte_eth_dev_info info;
    struct rte_eth_conf conf = { 0 };
    int rc = rte_eth_dev_info_get(port, &info);

    if (rc != 0)
        return rc;
    if (g->size > g->segment) {
        conf.rxmode.offloads = RTE_ETH_RX_OFFLOAD_TCP_LRO | RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
        conf.rxmode.max_lro_pkt_size = info.max_lro_pkt_size;
        conf.txmode.offloads = RTE_ETH_TX_OFFLOAD_MULTI_SEGS | RTE_ETH_TX_OFFLOAD_TCP_TSO |
                               RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
    }
    if ((rc = rte_eth_dev_configure(port, 1, 1, &conf)) != 0 ||
        (rc = rte_eth_rx_queue_setup(port, 0, g->ring, 0, NULL, g->pool)) != 0 ||
        (rc = rte_eth_tx_queue_setup(port, 0, g->ring, 0, NULL)) != 0)
        return rc;
    return rte_eth_dev_start(port);
}

static int
option(struct guests *g, const char *word)
{
    const struct { const char *key; uint32_t *to; } known[] = {
        { "size=", &g->size }, { "segment=", &g->segment }, { "flows=", &g->flows },
        { "in_flight=", &g->in_flight },
    };

    for (size_t i = 0; i < RTE_DIM(known); i++) {
        const size_t n = strlen(known[i].key);
        if (strncmp(word, known[i].key, n) == 0) {
            *known[i].to = (uint32_t)strtoul(word + n, NULL, 10);
            return 0;
        }
    }
    if (strncmp(word, "ring=", 5) == 0)
        g->ring = (uint16_t)strtoul(word + 5, NULL, 10);
    else if (strncmp(word, "both=", 5) == 0)
        g->both_ways = word[5] == '1';
    else
        return -EINVAL;
    return 0;
}

/* Has the working thread do something to its end. */
static int
work(int (*what)(void *), void *arg, unsigned lcore)
{
    const int rc = rte_eal_remote_launch(what, arg, lcore);

    return rc != 0 ? rc : rte_eal_wait_lcore(lcore);
}

static void
round_trips(struct guests *g, uint32_t count, uint32_t gap_us, unsigned lcore)
{
    struct probe p = { .g = g, .count = count, .gap_us = gap_us };
    const double us = 1e6 / (double)rte_get_tsc_hz();

    p.cycles = calloc(count + 1U, sizeof(*p.cycles));
    if (p.cycles == NULL || count == 0) {
        free(p.cycles);
        printf("error=%d\n", -ENOMEM);
        return;
    }
    const int rc = work(probe_round_trip, &p, lcore);
    if (rc != 0) {
        printf("error=%d\n", rc);
    } else {
        qsort(p.cycles, count, sizeof(*p.cycles), by_value);
        printf("p50=%.3f p99=%.3f max=%.3f\n", (double)p.cycles[count / 2] * us,
               (double)p.cycles[count * 99ULL / 100] * us, (double)p.cycles[count - 1] * us);
    }
    free(p.cycles);
}

static void
stats(const struct guests *g)
{
    printf("arrived=%lu lost=%lu cycles=%lu frames=%lu attacks=%lu hz=%lu\n",
           g->way[0].arrived + g->way[1].arrived, g->way[0].lost + g->way[1].lost,
           g->busy_cycles, g->busy_frames, g->attacks, rte_get_tsc_hz());
}

static void
command(struct guests *g, const char *line, unsigned lcore)
{
    struct probe p = { .g = g };
    unsigned a = 0, b = 0;

    if (strcmp(line, "learn\n") == 0) {
        printf("rc=%d\n", work(load_learn, g, lcore));
    } else if (strcmp(line, "start\n") == 0) {
        g->stop = false;
        printf("rc=%d\n", rte_eal_remote_launch(load_run, g, lcore));
    } else if (strcmp(line, "stop\n") == 0) {
        g->stop = true;
        printf("rc=%d\n", rte_eal_wait_lcore(lcore));
    } else if (strcmp(line, "stats\n") == 0) {
        stats(g);
    } else if (sscanf(line, "attack %u", &a) == 1 && g->n_ports > ATTACKER + 1) {
        g->attack = (enum attack)a;
        printf("rc=0\n");
    } else if (sscanf(line, "rtt %u %u", &a, &b) == 2) {
        round_trips(g, a, b, lcore);
    } else if (sscanf(line, "memcpy %u", &p.count) == 1) {
        const int rc = work(probe_memcpy, &p, lcore);
        printf("rc=%d bytes=%.0f\n", rc, p.result);
    } else {
        printf("error=%d\n", -EINVAL);
    }
}

int
main(int argc, char **argv)
{
    struct guests g = { .size = 64, .segment = 2048, .flows = 1, .in_flight = 128, .ring = 256,
                        .both_ways = true };
    const int used = rte_eal_init(argc, argv);
    char line[128];

    if (used < 0)
        return 1;
    for (int i = used + 1; i < argc; i++) {
        if (option(&g, argv[i]) != 0) {
            fprintf(stderr, "guests: what is '%s'?\n", argv[i]);
            return 2;
        }
    }
    g.n_ports = rte_eth_dev_count_avail();
    if (g.size < HEADERS + 8 || g.size > FRAME_MAX || g.segment < 2048 || g.segment > 16384 ||
        g.n_ports < 2 || g.flows == 0)
        return 2;
    const uint32_t chain = (g.size + g.segment - 1) / g.segment;
    const uint32_t n = g.n_ports * 2U * g.ring + (2 * g.in_flight + 256U) * chain * 2 + 4096;
    g.pool = rte_pktmbuf_pool_create("guests", n, 256, 0,
                                     (uint16_t)(g.segment + RTE_PKTMBUF_HEADROOM), SOCKET_ID_ANY);
    for (uint16_t port = 0; port < g.n_ports && g.pool != NULL; port++) {
        if (port_up(&g, port) != 0) {
            fprintf(stderr, "guests: port %u does not start\n", port);
            return 1;
        }
    }
    if (g.pool == NULL) {
        fprintf(stderr, "guests: no memory for %u buffers of %u bytes\n", n, g.segment);
        return 1;
    }
    const unsigned lcore = rte_get_next_lcore(-1, 1, 0);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("ready\n");
    while (fgets(line, sizeof(line), stdin) != NULL)
        command(&g, line, lcore);
    g.stop = true;
    rte_eal_mp_wait_lcore();
    for (uint16_t port = 0; port < g.n_ports; port++)
        rte_eth_dev_stop(port);
    return 0;
}
