/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * random_guest.h - the state of test_virtq_random.c, which alone includes it:
 * the driver, its two rings, and what happens to both: other features, other
 * memory tables, stop and start.
 */
#ifndef USWITCH_TESTS_RANDOM_GUEST_H
#define USWITCH_TESTS_RANDOM_GUEST_H

#include "harness.h"

#include "vhost/random_ring.h"
#include "vnet.h"

#define POOL_SIZE (256u << 10)
#define F_IN_ORDER VIRTIO_BIT(VIRTIO_F_IN_ORDER)

static struct driver d;
static struct random_ring rx, tx;
static uint16_t rx_done, tx_done; /* avail index of the oldest offer */
static uint64_t seed, first_seed;
static uint32_t style;
static uint8_t pool[POOL_SIZE + US_FRAME_MAX + 64];
static struct walk w;
static uint8_t want[2 * US_FRAME_MAX], got[2 * US_FRAME_MAX];

static uint32_t hdr_len(void)
{
    return d.features & (F_V1 | F_MRG) ? VNET_WIRE_LEN_MRG : VNET_WIRE_LEN;
}

static uint16_t used_index(const struct drv_ring *r)
{
    return le16_to_cpu(r->used->idx);
}

/* ---- rings, memory ---- */

/* Start a stopped ring where both sides are, by that index or by the used ring's. */
static void start_at(struct drv_ring *r, uint16_t at)
{
    struct us_vhost_ring request = drv_ring_request(&d, r);

    request.base = one_in(&seed, 2) ? at : US_BASE_FROM_USED;
    CHECK_EQ(vhost_port_ring_start(d.port, &request, r->kick, r->call), 0);
    vhost_port_ring_run(d.port, r->index, false);
}

static void stop_and_start(struct drv_ring *r, uint16_t at)
{
    CHECK_EQ(vhost_port_ring_stop(d.port, r->index), at);
    start_at(r, at);
}

/* Indexes that will wrap soon, or that begin anywhere. */
static void move_ring(struct drv_ring *r, uint16_t to)
{
    CHECK_EQ(vhost_port_ring_stop(d.port, r->index), 0);
    r->avail_idx = r->used_idx = to;
    r->used->idx = cpu_to_le16(to);
    drv_publish(r);
    start_at(r, to);
}

static void random_rings(void)
{
    static const uint64_t some[] = { F_V1, F_MRG, F_EVENT, F_INDIRECT, F_IN_ORDER,
                                     VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM),
                                     VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) };
    uint64_t features = 0;

    for (unsigned i = 0; i < sizeof(some) / sizeof(some[0]); i++)
        features |= one_in(&seed, 2) ? some[i] : 0;
    CHECK_EQ(drv_restart(&d, features, one_in(&seed, 3) ? 1024 : 2u << below(&seed, 8)), 0);
    rx = (struct random_ring){ .d = &d, .r = &d.rx, .seed = &seed, .writable = VRING_DESC_F_WRITE,
                               .base = DRV_BORDER - ARENA_SIZE / 3 };
    tx = (struct random_ring){ .d = &d, .r = &d.tx, .seed = &seed, .base = DRV_BORDER + 2 * ARENA_SIZE };
    rx.indirect = tx.indirect = features & F_INDIRECT;
    rx.in_order = tx.in_order = features & F_IN_ORDER;
    ring_reset(&rx);
    ring_reset(&tx);
    rx_done = (uint16_t)(one_in(&seed, 2) ? 65536 - below(&seed, 300) : rnd(&seed));
    tx_done = (uint16_t)(one_in(&seed, 2) ? 65536 - below(&seed, 300) : rnd(&seed));
    move_ring(&d.rx, rx_done);
    move_ring(&d.tx, tx_done);
    style = below(&seed, 5);
}

/* The same memory, cut into regions elsewhere; the cuts are in the buffers. */
static void exchange_table(void)
{
    uint64_t cut[6] = { DRV_GPA, DRV_BORDER };
    uint32_t n = 2;
    int fds[6];

    for (; n < 6 && !one_in(&seed, 3); n++) {
        uint64_t at = (one_in(&seed, 2) ? rx.base : tx.base) + below(&seed, ARENA_SIZE);
        uint32_t i = n;

        if (at == DRV_BORDER)
            at++;
        for (; i > 0 && cut[i - 1] > at; i--)
            cut[i] = cut[i - 1];
        if (cut[i - 1] == at)
            at++; /* still in order: nothing else is that near, or the table is refused */
        cut[i] = at;
    }
    d.mem.n = n;
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t end = i + 1 < n ? cut[i + 1] : DRV_END;

        d.mem.region[i] = (struct us_mem_region){ cut[i], end - cut[i], cut[i] + DRV_UVA,
                                                  cut[i] - DRV_GPA + (cut[i] < DRV_BORDER ? 0 : DRV_GAP) };
        fds[i] = d.memfd;
    }
    CHECK_EQ(vhost_port_set_mem(d.port, &d.mem, fds), 0);
}

/* 2.7.7: does the driver want to hear of a used index that moves from old to new? */
static bool wants_signal(const struct drv_ring *r, uint16_t old_idx, uint16_t new_idx)
{
    if (!(d.features & F_EVENT))
        return old_idx != new_idx && !(le16_to_cpu(r->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
    for (uint16_t i = old_idx; i != new_idx; i++) {
        if (le16_to_cpu(r->avail->ring[r->size]) == i)
            return true;
    }
    return false;
}

static void random_event(struct drv_ring *r)
{
    r->avail->flags = cpu_to_le16((uint16_t)below(&seed, 2));
    if (d.features & F_EVENT)
        r->avail->ring[r->size] = cpu_to_le16((uint16_t)(used_index(r) + below(&seed, 40) - 8));
}

#endif /* USWITCH_TESTS_RANDOM_GUEST_H */
