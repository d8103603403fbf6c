/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_ixgbe_hostile.c - received descriptors that a broken or hostile device
 * may write, with and without coalescing (threat V1): chains that lead
 * nowhere, counts that lie, anything at all.
 */
#include "harness.h"
#include "nic/rig.h"

static uint8_t data[US_FRAME_MAX];

struct lie {
    uint32_t index;
    uint64_t clear[2], set[2];
};

static void tell_lie(void *ctx, uint32_t queue, uint32_t index, uint64_t desc[2])
{
    const struct lie *l = ctx;

    if (queue != 0 || index != l->index)
        return;
    desc[0] = (desc[0] & ~l->clear[0]) | l->set[0];
    desc[1] = (desc[1] & ~l->clear[1]) | l->set[1];
}

#define STATUS_NEXT(n) { 0, (uint64_t)(n) << 4 }
#define NO_NEXT { 0, 0xffff0ull }

TEST(chains_that_cannot_be_are_fatal)
{
    static const struct lie lies[] = {
        { 0, NO_NEXT, STATUS_NEXT(0) },                     /* itself */
        { 1, NO_NEXT, STATUS_NEXT(0) },                     /* back */
        { 0, NO_NEXT, STATUS_NEXT(127) },                   /* not given to the device */
        { 0, NO_NEXT, STATUS_NEXT(128) },                   /* outside of the ring */
        { 0, NO_NEXT, STATUS_NEXT(0xffff) },
        { 0, { 0, 0xffffull << 32 }, { 0, 4000ull << 32 } },
    };

    for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
        const struct nic_config cfg = rig_rsc_config();
        struct rig_flow flow = { .from = 1, .to = 2, .sport = 3, .dport = 4 };

        REQUIRE(r);
        CHECK_EQ(rig_start(r, &cfg), 0);
        r->ixgbe.mangle = tell_lie;
        r->ixgbe.mangle_ctx = (void *)(uintptr_t)&lies[i];
        rig_arrive(r, &flow, 8, 1448, true);
        CHECK_EQ(rig_rx(r, 0), 0);
        rig_complete(r, 0);
        CHECK_EQ(atomic_load(&r->n.failed), 1);
        CHECK_EQ(atomic_load(&r->n.port.broken), BREAK_nic_descriptor);
        CHECK(r->n.driver->arm(&r->n.queue[0]));
        CHECK(rig_stop(r));
        rig_destroy(r);
    }
}

/* A frame that says it was joined, and is no TCP packet, or says so of a nonsensical number. */
TEST(counts_that_lie_harm_nobody)
{
    for (uint32_t count = 0; count < 16; count++) {
        struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
        const struct nic_config cfg = rig_rsc_config();
        struct rig_flow flow = { .from = 1, .to = 2, .sport = 3, .dport = 4 };
        const struct lie lie = { 0, { 0xfull << 17, 0 }, { (uint64_t)count << 17, 0 } };

        REQUIRE(r);
        CHECK_EQ(rig_start(r, &cfg), 0);
        r->ixgbe.mangle = tell_lie;
        r->ixgbe.mangle_ctx = (void *)(uintptr_t)&lie;
        rig_arrive(r, &flow, 2, 900, true);
        if (rig_rx(r, 0) == 1 && r->b.frame[0].vnet.gso_type) {
            CHECK(r->b.frame[0].vnet.gso_size >= 48);
            CHECK(r->b.frame[0].vnet.gso_size + r->b.frame[0].vnet.hdr_len <= 1514);
        }
        rig_complete(r, 0);
        CHECK_EQ(ixm_receive(&r->ixgbe, (const uint8_t[64]){ 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, 64), 0);
        CHECK_EQ(rig_rx(r, 0), 1);
        rig_complete(r, 0);
        CHECK(rig_stop(r));
        rig_destroy(r);
    }
}

TEST(joined_frames_that_are_no_tcp_are_dropped)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_rsc_config();

    REQUIRE(r);
    CHECK_EQ(rig_start(r, &cfg), 0);
    for (uint32_t i = 0; i < 8; i++) {
        const struct rig_flow flow = { .ip6 = i & 1, .udp = !(i & 2), .tagged = i & 4, .from = 1, .to = 2, .sport = 3,
                                       .flags = 0x12 };
        const struct lie lie = { i, { 0, 0 }, { 3ull << 17, 0 } };
        const uint32_t len = rig_packet(data, &flow, 600);

        r->ixgbe.mangle = tell_lie;
        r->ixgbe.mangle_ctx = (void *)(uintptr_t)&lie;
        CHECK_EQ(ixm_receive(&r->ixgbe, data, len), 0);
        CHECK_EQ(rig_rx(r, 0), i & 2 ? 1 : 0);
        if (i & 2) {
            CHECK_EQ(r->b.frame[0].vnet.gso_type, flow.ip6 ? VNET_GSO_TCPV6 : VNET_GSO_TCPV4);
            CHECK_EQ(r->b.frame[0].vnet.gso_size, 300);
        }
        rig_complete(r, 0);
    }
    CHECK_EQ(r->page.in[0].drop[DROP_nic_rx], 4);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

/* ---- anything at all ---- */

static uint32_t draw(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

/* Descriptors that mostly look as they should, with fields that do not. */
static void scribble(struct rig *r, uint32_t *seed)
{
    const uint64_t iova = (uint64_t)ixm_reg(&r->ixgbe, 0x1004) << 32 | ixm_reg(&r->ixgbe, 0x1000);
    uint8_t *ring = r->n.pool.base + (iova - RIG_IOVA);

    for (uint32_t k = draw(seed) % 40; k; k--) {
        const uint32_t count = draw(seed) % 3 ? 0 : draw(seed) % 16;
        const uint32_t next = draw(seed) % 4 ? draw(seed) % 128 : draw(seed) & 0xffff;
        const uint32_t len = draw(seed) % 8 ? draw(seed) % 2049 : draw(seed) & 0xffff;
        const uint64_t word[2] = {
            htole64((uint64_t)count << 17 | (uint64_t)draw(seed) << 32),
            htole64((draw(seed) % 8 ? 1u : 0u) | (draw(seed) % 2 ? 2u : 0u) | next << 4 |
                    (draw(seed) % 16 ? 0 : (uint64_t)(draw(seed) & 0xfff) << 20) | (uint64_t)len << 32),
        };

        memcpy(ring + 16 * (draw(seed) % 128), word, sizeof(word));
    }
}

static bool lies_in(const struct rig *r, const struct iovec *iov)
{
    const uint8_t *at = iov->iov_base;

    return iov->iov_len && at >= r->n.pool.base && iov->iov_len <= r->n.pool.size &&
           at <= r->n.pool.base + r->n.pool.size - iov->iov_len;
}

/* Whatever it writes, a frame is made of bytes of the pool, as long as it says, and requests hold. */
static void check_frame(const struct rig *r, const struct frame *f)
{
    uint32_t len = f->hdr_len;

    for (uint32_t i = 0; i < f->n_iov; i++) {
        CHECK(lies_in(r, &f->iov[i]));
        len += (uint32_t)f->iov[i].iov_len;
    }
    CHECK_EQ(f->len, len);
    CHECK(len >= 14 && len <= US_FRAME_MAX);
    if (f->vnet.gso_type == VNET_GSO_NONE) {
        CHECK(len <= 1518);
        return;
    }
    CHECK(f->vnet.gso_size >= 48 && f->vnet.hdr_len < len && f->vnet.csum_start + 20 <= f->vnet.hdr_len);
}

TEST(random_descriptors_harm_nobody)
{
    for (unsigned lro = 0; lro < 2; lro++) {
        struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
        struct nic_config cfg = rig_rsc_config();
        uint32_t seed = 7;

        REQUIRE(r);
        cfg.lro = lro;
        CHECK_EQ(rig_start(r, &cfg), 0);
        r->ixgbe.hush = true;       /* the tail goes where nonsense leads it */
        for (uint32_t i = 0; i + 64 < r->n.pool.size; i += 1024)        /* TCP here and there, for requests */
            rig_packet(r->n.pool.base + i, &(struct rig_flow){ .from = i, .to = 2, .flags = 0x10 }, 0);
        for (unsigned round = 0; round < 20000; round++) {
            scribble(r, &seed);
            for (unsigned n = rig_rx(r, 0), i = 0; i < n; i++)
                check_frame(r, &r->b.frame[i]);
            rig_complete(r, 0);
            (void)r->n.driver->arm(&r->n.queue[0]);
        }
        r->ixgbe.hush = false;
        r->ixgbe.breaches = 0;
        CHECK(rig_stop(r));
        rig_destroy(r);
    }
}

MAIN
{
    RUN(chains_that_cannot_be_are_fatal);
    RUN(counts_that_lie_harm_nobody);
    RUN(joined_frames_that_are_no_tcp_are_dropped);
    RUN(random_descriptors_harm_nobody);
}
