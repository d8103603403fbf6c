/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * probe.c - what is no load: one packet at a time with its round trip, and how
 * fast this machine copies the bytes of the load's frames between the load's
 * own buffers, which no switch with one copy can beat.
 */
#include "guests.h"

#include <string.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_malloc.h>

#define COPY_CHAINS 128         /* of each side: about what is under way under load */

/* Waits for one frame at a port, for a second at most; returns it or NULL. */
static struct rte_mbuf *
receive(uint16_t port)
{
    const uint64_t end = rte_rdtsc() + rte_get_tsc_hz();
    struct rte_mbuf *m;

    while (rte_rdtsc() < end) {
        if (rte_eth_rx_burst(port, 0, &m, 1) == 1)
            return m;
    }
    return NULL;
}

/* From port 0 to port 1 and back, one at a time.  A lost one ends it. */
int
probe_round_trip(void *arg)
{
    struct probe *const p = arg;
    struct guests *const g = p->g;
    struct rte_mbuf *m = load_frame(g, g->size);

    for (uint32_t i = 0; i < p->count && m != NULL; i++) {
        rte_delay_us_block(p->gap_us);
        const uint64_t started = rte_rdtsc();
        for (uint16_t from = 0; from < 2 && m != NULL; from++) {
            load_dress(g, m, from, i);
            if (rte_eth_tx_burst(from, 0, &m, 1) != 1) {
                rte_pktmbuf_free(m);
                return -EAGAIN;
            }
            m = receive(from ^ 1);
        }
        p->cycles[i] = rte_rdtsc() - started;
    }
    if (m == NULL)
        return -ETIMEDOUT;
    rte_pktmbuf_free(m);
    return 0;
}

static uint64_t
copy(const struct rte_mbuf *from, struct rte_mbuf *to)
{
    uint64_t n = 0;

    for (; from != NULL; from = from->next, to = to->next) {
        memcpy(rte_pktmbuf_mtod(to, void *), rte_pktmbuf_mtod(from, const void *), from->data_len);
        n += from->data_len;
    }
    return n;
}

/* Bytes a second that memcpy() does, buffer by buffer, with the load's frames. */
int
probe_memcpy(void *arg)
{
    struct probe *const p = arg;
    struct rte_mbuf *from[COPY_CHAINS] = { NULL }, *to[COPY_CHAINS] = { NULL };
    const uint32_t n = p->g->in_flight < COPY_CHAINS ? p->g->in_flight : COPY_CHAINS;
    uint64_t bytes = 0;
    bool whole = true;

    for (uint32_t i = 0; i < n; i++) {
        from[i] = load_frame(p->g, p->g->size);
        to[i] = load_frame(p->g, p->g->size);
        whole = whole && from[i] != NULL && to[i] != NULL;
    }
    const uint64_t started = rte_rdtsc();
    const uint64_t end = started + (uint64_t)p->count * (rte_get_tsc_hz() / 1000);
    while (whole && rte_rdtsc() < end) {
        for (uint32_t i = 0; i < n; i++)
            bytes += copy(from[i], to[i]);
    }
    p->result = (double)bytes * (double)rte_get_tsc_hz() / (double)(rte_rdtsc() - started);
    for (uint32_t i = 0; i < n; i++) {
        rte_pktmbuf_free(from[i]);
        rte_pktmbuf_free(to[i]);
    }
    return whole ? 0 : -ENOMEM;
}
