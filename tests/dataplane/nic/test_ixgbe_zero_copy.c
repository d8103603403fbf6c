/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_ixgbe_zero_copy.c - the 82599 reads payload where it lies: which frames,
 * in which pieces, and when the queue says that it is done.  The life of
 * mappings and of guests' buffers is test_zero_copy.c's.
 */
#include "harness.h"

#include "nic/dma_guest.h"
#include "nic/rig.h"

#define GUEST_IOVA 0x7700000000ull
#define PAYLOAD 40000u
#define MSS 1448u

static uint8_t memory[1 << 17] __attribute__((aligned(4096)));

static const struct {
    struct dma_guests g;
    struct dma_region region[1];
} guests = { { .n = 1 }, { { memory, sizeof(memory), GUEST_IOVA } } };

static const uint8_t *guest(void *ctx, uint64_t iova, uint32_t len)
{
    (void)ctx;
    return iova - GUEST_IOVA <= sizeof(memory) - len && iova >= GUEST_IOVA ? memory + (iova - GUEST_IOVA) : NULL;
}

static struct rig *start(void)
{
    struct nic_config cfg = rig_config();
    struct rig *const r = rig_create(&rig_ixgbe, IXM_82599);

    cfg.zero_copy = true;
    cfg.max_frame = 9014;
    if (!r || rig_start(r, &cfg) < 0)
        abort();
    r->n.queue[0].reader = hold_reader_create(NULL, NULL, NULL);
    atomic_store(&r->n.guests, &guests.g);
    r->ixgbe.guest = guest;
    r->ixgbe.tx_hold = true;
    return r;
}

static void finish(struct rig *r)
{
    hold_reader_retire(r->n.queue[0].reader);
    CHECK_EQ(rig_stop(r), 1);
    rig_destroy(r);
}

/* A frame of memory[] with @snap bytes of snapshot, the rest in pieces of @piece bytes. */
static enum drop_reason send(struct rig *r, struct hold *h, uint32_t len, uint32_t snap, uint32_t piece,
                             const struct vnet *vnet)
{
    static uint8_t hdr[HDR_ROOM + SNAP_SIZE];
    static struct iovec iov[256];
    struct frame f = { .hdr = hdr + HDR_ROOM, .hdr_len = snap, .len = len, .iov = iov, .out_vid = 100, .hold = h };
    struct frame *const list[1] = { &f };
    uint8_t why = DROP_COUNT;

    memcpy(f.hdr, memory, snap);
    for (uint32_t at = snap; at < len; at += piece)
        iov[f.n_iov++] = (struct iovec){ memory + at, len - at < piece ? len - at : piece };
    if (vnet)
        f.vnet = *vnet;
    r->n.driver->tx_burst(&r->n.queue[0], list, 1, &why);
    return why;
}

TEST(payload_in_place)
{
    struct rig *const r = start();
    struct hold h = { 0 };
    const struct rig_flow flow = { .from = 1, .to = 2, .sport = 3, .dport = 4, .flags = 0x10 };
    const uint32_t len = rig_packet(memory, &flow, 1400);

    CHECK_EQ(send(r, &h, len, SNAP_SHORT, 4096, NULL), DROP_none);
    CHECK_EQ(h.n, 1);
    CHECK(!hold_is_over(&h));
    memory[700] ^= 1;
    ixm_send(&r->ixgbe);
    CHECK_EQ(r->ixgbe.guest_reads, 1);
    r->n.driver->tx_look(&r->n.queue[0]);
    CHECK(hold_is_over(&h));
    CHECK_EQ(r->ixgbe.n_sent, 1);
    CHECK_EQ(r->ixgbe.sent[0].len, len + 4);
    CHECK_MEM(r->ixgbe.sent[0].data + 16, memory + 12, len - 12);
    hold_end(&h);
    finish(r);
}

TEST(segments_from_pieces)
{
    struct rig *const r = start();
    struct hold h = { 0 };
    const struct rig_flow flow = { .from = 1, .to = 2, .sport = 3, .dport = 4, .flags = 0x10 };
    const uint32_t len = rig_packet(memory, &flow, PAYLOAD), head = len - PAYLOAD;
    const struct vnet v = { .flags = VNET_NEEDS_CSUM, .gso_type = VNET_GSO_TCPV4, .hdr_len = (uint16_t)head,
                            .gso_size = MSS, .csum_start = 34, .csum_offset = 16 };
    uint32_t done = 0;

    CHECK_EQ(send(r, &h, len, SNAP_SIZE, 20000, &v), DROP_none);
    ixm_send(&r->ixgbe);
    /* From byte 128 on, a descriptor for what lies in one page: five of the first piece, six of the second. */
    CHECK_EQ(r->ixgbe.guest_reads, 11);
    CHECK_EQ(r->ixgbe.n_sent, (PAYLOAD + MSS - 1) / MSS);
    for (uint32_t i = 0; i < r->ixgbe.n_sent; i++) {
        const uint32_t n = r->ixgbe.sent[i].len - head - 4;

        CHECK_MEM(r->ixgbe.sent[i].data + head + 4, memory + head + done, n);
        done += n;
    }
    CHECK_EQ(done, PAYLOAD);
    r->n.driver->tx_look(&r->n.queue[0]);
    CHECK(hold_is_over(&h));
    hold_end(&h);
    finish(r);
}

/* Without consent, too short, in crumbs, beyond what is mapped, with as many readers as there may be. */
TEST(copied)
{
    struct hold_reader *other[HOLD_READERS];
    struct rig *const r = start();
    struct hold h = { 0 };

    (void)rig_packet(memory, &(struct rig_flow){ .from = 1, .to = 2 }, 4000);
    CHECK_EQ(send(r, NULL, 1514, 64, 4096, NULL), DROP_none);
    CHECK_EQ(send(r, &h, 900, 64, 4096, NULL), DROP_none);
    CHECK_EQ(send(r, &h, 1514, 64, 100, NULL), DROP_none);
    atomic_store(&r->n.guests, NULL);
    CHECK_EQ(send(r, &h, 1514, 64, 4096, NULL), DROP_none);
    atomic_store(&r->n.guests, &guests.g);
    CHECK_EQ(h.n, 0);
    for (unsigned i = 0; i < HOLD_READERS; i++) {
        other[i] = hold_reader_create(NULL, NULL, NULL);
        hold_add(&h, other[i], 0);
    }
    CHECK_EQ(send(r, &h, 1514, 64, 4096, NULL), DROP_none);
    CHECK_EQ(h.n, HOLD_READERS);
    hold_end(&h);
    for (unsigned i = 0; i < HOLD_READERS; i++)
        hold_reader_retire(other[i]);
    ixm_send(&r->ixgbe);
    CHECK_EQ(r->ixgbe.guest_reads, 0);
    CHECK_EQ(r->ixgbe.n_sent, 5);
    finish(r);
}

/* As many as the ring takes, then none; all are done in the end. */
TEST(ring_is_full)
{
    struct rig *const r = start();
    struct hold h = { 0 };
    unsigned taken = 0;

    (void)rig_packet(memory, &(struct rig_flow){ .from = 1, .to = 2 }, 4000);
    while (send(r, &h, 1514, 64, 4096, NULL) == DROP_none && taken < 1000)
        taken++;
    CHECK_EQ(taken, 127 / 2);
    ixm_send(&r->ixgbe);
    r->n.driver->tx_look(&r->n.queue[0]);
    CHECK(hold_is_over(&h));
    CHECK_EQ(r->ixgbe.n_sent, taken);
    CHECK_EQ(send(r, &h, 1514, 64, 4096, NULL), DROP_none);
    CHECK(!hold_is_over(&h));
    hold_end(&h);
    finish(r);
}

MAIN
{
    RUN(payload_in_place);
    RUN(segments_from_pieces);
    RUN(copied);
    RUN(ring_is_full);
}
