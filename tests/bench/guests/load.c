/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * load.c - a closed loop: in each direction a fixed number of frames is under
 * way, and an arrival makes room for the next one.  Frames carry numbers.
 * A switch keeps the order, so an arrival also tells which ones before it
 * were lost, and those are replaced: the load never dries up.
 *
 * An attacker, if there is one, sends as much as its ring takes, between the
 * turns of the pair.
 */
#include "guests.h"

#include <string.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_random.h>

#define NUMBER_AT HEADERS
#define SILENCE_MS 2            /* nothing arrived for so long: all of it is lost */

static void
put_mac(uint8_t *at, uint16_t port, uint32_t flow)
{
    const uint8_t mac[6] = { 0x52, 0x54, (uint8_t)port, (uint8_t)(flow >> 16),
                             (uint8_t)(flow >> 8), (uint8_t)flow };

    memcpy(at, mac, sizeof(mac));
}

/* A frame of so many bytes with its headers: an IPv4 TCP segment, or a request for many. */
struct rte_mbuf *
load_frame(struct guests *g, uint32_t size)
{
    static const uint8_t ip[] = { 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0,
                                  10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0x43, 0x21,
                                  0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0 };
    struct rte_mbuf *first = NULL;
    uint32_t left = size;

    while (left > 0) {
        struct rte_mbuf *m = rte_pktmbuf_alloc(g->pool);
        const uint32_t n = left < g->segment ? left : g->segment;

        if (m == NULL || rte_pktmbuf_append(m, (uint16_t)n) == NULL ||
            (first != NULL && rte_pktmbuf_chain(first, m) != 0)) {
            rte_pktmbuf_free(m);
            rte_pktmbuf_free(first);
            return NULL;
        }
        first = first != NULL ? first : m;
        left -= n;
    }
    uint8_t *const data = rte_pktmbuf_mtod(first, uint8_t *);
    memset(data, 0, HEADERS + 8);
    data[12] = 8;               /* IPv4 */
    memcpy(data + 14, ip, sizeof(ip));
    data[16] = (uint8_t)((size - 14) >> 8);
    data[17] = (uint8_t)(size - 14);
    return first;
}

/* Gives a frame its addresses and number, and the offload request that a receiver loses. */
void
load_dress(const struct guests *g, struct rte_mbuf *m, uint16_t from, uint64_t number)
{
    uint8_t *const data = rte_pktmbuf_mtod(m, uint8_t *);
    const uint32_t flow = g->flows > 1 ? (uint32_t)(number % g->flows) : 0;

    put_mac(data, from ^ 1, flow);
    put_mac(data + 6, from, flow);
    memcpy(data + NUMBER_AT, &number, sizeof(number));
    m->ol_flags = 0;
    if (g->size > g->segment) {
        m->ol_flags = RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_CKSUM;
        m->l2_len = 14;
        m->l3_len = 20;
        m->l4_len = 20;
        m->tso_segsz = 1448;
    }
}

/* Sends until as many frames are under way as shall be; the arrived ones are used again. */
static void
refill(struct guests *g, uint16_t from, struct rte_mbuf **m, uint16_t n)
{
    struct direction *const way = &g->way[from];
    const uint64_t under_way = way->next - way->acked;
    uint64_t room = under_way < g->in_flight ? g->in_flight - under_way : 0;

    room = room < BURST ? room : BURST;
    while (n > room)
        rte_pktmbuf_free(m[--n]);
    while (n < room && (m[n] = load_frame(g, g->size)) != NULL)
        n++;
    for (uint16_t i = 0; i < n; i++)
        load_dress(g, m[i], from, way->next + i);
    const uint16_t sent = n > 0 ? rte_eth_tx_burst(from, 0, m, n) : 0;
    way->next += sent;
    rte_pktmbuf_free_bulk(m + sent, n - sent);
}

/* One look at the receiving end of a direction. */
static void
turn(struct guests *g, uint16_t from)
{
    struct direction *const way = &g->way[from];
    const uint64_t now = rte_rdtsc();
    struct rte_mbuf *m[BURST], *mine[BURST];
    const uint16_t n = rte_eth_rx_burst(from ^ 1, 0, m, BURST);
    uint16_t kept = 0;

    for (uint16_t i = 0; i < n; i++) {
        const uint8_t *const data = rte_pktmbuf_mtod(m[i], const uint8_t *);
        uint64_t number;

        memcpy(&number, data + NUMBER_AT, sizeof(number));
        /* Somebody else's: an attacker's broadcast, or what a flood brought. */
        if (data[0] != 0x52 || data[8] != from || number < way->acked || number >= way->next) {
            rte_pktmbuf_free(m[i]);
            continue;
        }
        way->lost += number - way->acked;
        way->acked = number + 1;
        mine[kept++] = m[i];
    }
    way->arrived += kept;
    if (kept > 0) {
        way->heard = now;
    } else if (now - way->heard > SILENCE_MS * (rte_get_tsc_hz() / 1000)) {
        way->lost += way->next - way->acked;
        way->acked = way->next;
        way->heard = now;
    } else {
        return;
    }
    refill(g, from, mine, kept);
    g->busy_cycles += rte_rdtsc() - now;
    g->busy_frames += kept;
}

static struct rte_mbuf *
attack_frame(struct guests *g)
{
    struct rte_mbuf *const m = load_frame(g, ATTACK_SIZE);

    if (m == NULL)
        return NULL;
    uint8_t *const data = rte_pktmbuf_mtod(m, uint8_t *);
    put_mac(data, ATTACKER + 1, 0);
    put_mac(data + 6, ATTACKER, 0);
    if (g->attack == ATTACK_BROADCAST)
        memset(data, 0xff, 6);
    if (g->attack == ATTACK_MACS) {
        const uint32_t random = (uint32_t)rte_rand();
        memcpy(data + 8, &random, sizeof(random));
        data[8] |= 0x80;        /* never one of ours */
    }
    return m;
}

static void
attack(struct guests *g)
{
    struct rte_mbuf *m[BURST];

    while (g->n_pending < BURST && (g->pending[g->n_pending] = attack_frame(g)) != NULL)
        g->n_pending++;
    const uint16_t sent = rte_eth_tx_burst(ATTACKER, 0, g->pending, g->n_pending);
    g->n_pending -= sent;
    memmove(g->pending, g->pending + sent, g->n_pending * sizeof(g->pending[0]));
    g->attacks += sent;
    rte_pktmbuf_free_bulk(m, rte_eth_rx_burst(ATTACKER, 0, m, BURST));
    if (g->attack != ATTACK_STOPPED)
        rte_pktmbuf_free_bulk(m, rte_eth_rx_burst(ATTACKER + 1, 0, m, BURST));
}

/* Sends every flow's frames both ways until each has been carried twice: no address is new. */
int
load_learn(void *arg)
{
    struct guests *const g = arg;

    for (uint64_t end = rte_rdtsc() + 60 * rte_get_tsc_hz(); rte_rdtsc() < end;) {
        turn(g, 0);
        turn(g, 1);
        if (g->way[0].acked >= 2 * (uint64_t)g->flows && g->way[1].acked >= 2 * (uint64_t)g->flows)
            break;
    }
    g->busy_cycles = g->busy_frames = 0;
    return 0;
}

/* Until it is told to stop. */
int
load_run(void *arg)
{
    struct guests *const g = arg;

    while (!g->stop) {
        turn(g, 0);
        if (g->both_ways)
            turn(g, 1);
        if (g->attack != ATTACK_NONE)
            attack(g);
    }
    return 0;
}
