/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * lend_bed.h - a guest and an adapter that reads its memory, for tests of zero
 * copy: a split or packed ring, the bursts of a worker, and the look at what
 * came back.  One at a time; included by one source a program.
 */
#ifndef USWITCH_TESTS_LEND_BED_H
#define USWITCH_TESTS_LEND_BED_H

#include "harness.h"

#include <unistd.h>

#include "nic/rig.h"
#include "nic/lend_rig.h"
#include "state_page.h"
#include "vhost/packed_driver.h"

#define RING 64u
#define VNET 12u
#define FRAME 1514u
/* Buffer i of the guest's. */
#define BUF(i) (DRV_BUF + (uint64_t)(i) * 0x4000)
#define F_ORDER VIRTIO_BIT(VIRTIO_F_IN_ORDER)
#define VID 77

static struct driver d;
static struct pk_ring packed;
static bool is_packed;
static struct lend_rig *k;
static struct port *nic;
static struct burst b;
static uint16_t next_id;

static inline void came(void *arg, void *base, size_t len)
{
    (void)arg;
    CHECK_EQ(nic_port_lend(nic, base, len), 0);
}

static inline void goes(void *arg, void *base, size_t len)
{
    (void)arg;
    (void)len;
    nic_port_unlend(nic, base);
}

static inline int lend(void *arg, void *base, size_t len)
{
    return nic_port_lend(arg, base, len);
}

static const struct vhost_mem_watch watch = { .came = came, .goes = goes };

/* Guest and adapter; the adapter has the guest's memory, and reads when it is told to. */
static inline void begin(uint64_t features)
{
    struct us_state_page *state = NULL;
    const int fd = us_state_page_create(3);

    CHECK_EQ(state_page_map(fd, &state), 0);
    close(fd);
    drv_create(&d, F_V1 | features, RING);
    d.tx.in_order = features & F_ORDER;
    is_packed = features & F_PACKED;
    if (is_packed)
        pk_open(&packed, &d.tx);
    next_id = 0;
    k = lend_rig_create();
    nic = lend_rig_port(k, state);
    if (!nic)
        abort();
    vhost_port_watch_mem(d.port, &watch);
    vhost_port_lend(d.port, true);
    CHECK_EQ(vhost_port_each_mem(d.port, lend, nic), 0);
    CHECK_EQ(k->maps, 2);
    k->m.tx_hold = true;
}

static inline void remove_nic(void)
{
    nic->ops->stop(nic);
    nic->ops->destroy(nic);
    vhost_port_watch_mem(d.port, NULL);
    CHECK_EQ(k->unmaps, k->maps);
    CHECK(lend_rig_free(k));
}

static inline void finish(void)
{
    remove_nic();
    drv_destroy(&d);
}

/* Offer a chain of @n parts. */
static inline void offer(const struct pk_part *part, uint32_t n)
{
    const uint16_t id = next_id;

    if (is_packed) {
        pk_offer(&packed, part, n, id % RING);
    } else {
        for (uint32_t i = 0; i < n; i++)
            drv_desc(&d.tx, (id + i) % RING, part[i].addr, part[i].len, i + 1 < n ? D_NEXT : 0,
                     (uint16_t)((id + i + 1) % RING));
        drv_offer(&d.tx, id % RING);
        drv_publish(&d.tx);
    }
    next_id = (uint16_t)(id + n);
}

/* A frame of @len bytes in buffer @i; its bytes also to @copy. */
static inline void send_frame(uint32_t i, uint32_t len, uint8_t *copy)
{
    uint8_t *const at = drv_ptr(&d, BUF(i));

    memset(at, 0, VNET);
    drv_pattern(at + VNET, len, i + 1);
    memcpy(copy, at + VNET, len);
    offer(&(struct pk_part){ BUF(i), VNET + len, 0 }, 1);
}

/* What a worker and the switch do; frames that the adapter took. */
static inline unsigned turn(void)
{
    struct rxq *const q = &d.port->rxq[0];
    const unsigned n = d.port->ops->rx_burst(q, &b);
    struct frame *list[BURST_MAX];
    unsigned sent = 0;

    for (unsigned i = 0; i < n; i++) {
        list[i] = &b.frame[i];
        list[i]->out_vid = VID;
    }
    if (n)
        sent = nic->ops->tx_burst(nic, list, n);
    d.port->ops->rx_complete(q, &b);
    return sent;
}

/* Buffers that have come back since the last look, each of @n descriptors; the first must be @first. */
static inline unsigned returned_chains(uint32_t first, uint32_t n)
{
    unsigned count = 0;
    uint32_t id = 0, len;
    uint16_t id16;

    for (;; count++) {
        if (is_packed ? !pk_used(&packed, n, &id16, &len) : !drv_used(&d.tx, &id, &len))
            return count;
        CHECK_EQ(is_packed ? id16 : id, (first + count * n) % RING);
        CHECK_EQ(len, 0);
    }
}

static inline unsigned returned(uint32_t first)
{
    return returned_chains(first, 1);
}

/* Frame @i on the wire is these bytes with a tag. */
static inline void check_sent(uint32_t i, const uint8_t *want, uint32_t len)
{
    const struct igm_frame *const f = &k->m.sent[i];

    if (!CHECK(i < k->m.n_sent) || !CHECK_EQ(f->len, len + 4))
        return;
    CHECK_MEM(f->data, want, 12);
    CHECK_MEM(f->data + 12, "\x81\x00\x00\x4d", 4);
    CHECK_MEM(f->data + 16, want + 12, len - 12);
}

#endif /* USWITCH_TESTS_LEND_BED_H */
