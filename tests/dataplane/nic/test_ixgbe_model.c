/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_ixgbe_model.c - the model of the 82599 is no pushover: each mistake
 * that the data sheet warns of is noticed, and what is right is not.
 */
#include "harness.h"
#include "nic/rig.h"

/* Something to do to a running device (with the driver's configuration), and the breach that it is. */
struct mistake {
    const char *what;
    uint32_t offset;
    uint32_t clear, set;
};

static void commit(struct rig *r, const struct mistake *m)
{
    const struct bar *b = &r->n.bar[0];

    bar_write32(b, m->offset, (bar_read32(b, m->offset) & ~m->clear) | m->set);
}

static const struct mistake while_running[] = {
    { "no such register", 0x5f00, 0, 1 },
    { "a status register", 0x8, 0, 1 },
    { "LINKS", 0x42a4, 0, 1 },
    { "a counter", 0x4074, 0, 1 },
    { "a byte counter", 0x4088, 0, 1 },
    { "SECRXSTAT", 0x8d04, 0, 1 },
    { "buffer size while receiving", 0x2100, 0x1f, 4 },
    { "MAXFRS while receiving", 0x4268, 0xffff0000, 1600u << 16 },
    { "packet buffer while receiving", 0x3c00, 0xffc00, 64 << 10 },
    { "RDRXCTL while receiving", 0x2f00, 0, 2 },
    { "MRQC while receiving", 0x5818, 0xf, 0 },
    { "coalescing switched on while receiving", 0x102c, 0, 1 },
    { "address of a ring in use", 0x1000, 0, 0x80 },
    { "length of a ring in use", 0x6008, 0, 0x80 },
    { "head of a ring in use", 0x1010, 0, 5 },
    { "tail past the ring, receive", 0x1018, ~0u, 128 },
    { "tail past the ring, transmit", 0x6018, ~0u, 128 },
    { "tail of a queue that is off", 0x1058, ~0u, 5 },
    { "transmit sizes while the arbiter is on", 0xcc00, 0xffc00, 40 << 10 },
    { "DTXMXSZRQ while the arbiter is on", 0x8100, 0xfff, 1 },
    { "a queue without a ring", 0x1068, 0, 1u << 25 },
    { "reserved bits of RDRXCTL", 0x2f00, 0, 1u << 8 },
    { "reserved bits of HLREG0", 0x4240, 1u << 27, 0 },
    { "EIAC of other causes", 0x810, 0, 1u << 20 },
    { "a cause no queue is mapped to", 0x880, 0, 1u << 9 },
    { "reset without stopping the bus", 0x0, 0, 1u << 26 | 1u << 3 },
    { "the semaphore's register without the semaphore", 0x10160, 0, 2 },
    { "clearing buffers while receiving", 0x11050, 0, 1u << 30 },
};

TEST(every_mistake_is_noticed)
{
    for (unsigned i = 0; i < sizeof(while_running) / sizeof(while_running[0]); i++) {
        struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
        const struct nic_config cfg = rig_config();

        REQUIRE(r);
        CHECK_EQ(rig_start(r, &cfg), 0);
        CHECK_EQ(r->ixgbe.breaches, 0);
        r->ixgbe.hush = true;
        commit(r, &while_running[i]);
        if (!CHECK(r->ixgbe.breaches > 0))
            fprintf(stderr, "not noticed: %s\n", while_running[i].what);
        rig_destroy(r);
    }
}

TEST(reading_what_cannot_be_read_is_noticed)
{
    static const uint32_t offsets[] = { 0x808, 0x888, 0x4, 0x4076, 0x1fffc };
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);

    REQUIRE(r);
    r->ixgbe.hush = true;
    for (unsigned i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        r->ixgbe.breaches = 0;
        (void)bar_read32(&r->n.bar[0], offsets[i]);
        CHECK(r->ixgbe.breaches > 0);
    }
    r->ixgbe.breaches = 0;
    (void)bar_read16(&r->n.bar[0], 0x8);
    CHECK(r->ixgbe.breaches > 0);
    r->ixgbe.breaches = 0;
    (void)bar_read32(&r->n.bar[0], 0x408c);     /* the high word first */
    CHECK(r->ixgbe.breaches > 0);
    rig_destroy(r);
}

/* Right after a reset hardly anything may be touched. */
TEST(haste_after_a_reset_is_noticed)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct bar *b;

    REQUIRE(r);
    b = &r->n.bar[0];
    bar_write32(b, 0x0, 1u << 26 | 1u << 3);
    CHECK_EQ(r->ixgbe.breaches, 0);
    bar_write32(b, 0x888, ~0u);
    CHECK_EQ(r->ixgbe.breaches, 0);
    r->ixgbe.hush = true;
    bar_write32(b, 0x5080, 1u << 10);
    CHECK(r->ixgbe.breaches > 0);
    rig_destroy(r);
}

/* ---- descriptors, with the driver's rings; the engine prints what it finds ---- */

static uint8_t *transmit_ring(struct rig *r)
{
    return r->n.pool.base + (((uint64_t)ixm_reg(&r->ixgbe, 0x6004) << 32 | ixm_reg(&r->ixgbe, 0x6000)) - RIG_IOVA);
}

static void put(struct rig *r, uint32_t index, uint64_t low, uint64_t high)
{
    const uint64_t word[2] = { htole64(low), htole64(high) };

    memcpy(transmit_ring(r) + 16 * index, word, sizeof(word));
}

#define DATA (3ull << 20 | 1ull << 24 | 1ull << 25 | 1ull << 29)

static const struct {
    const char *what;
    bool right;
    uint64_t addr, word;
} descriptors[] = {
    { "a good one", true, RIG_IOVA + 4096, DATA | 60 | 60ull << 46 },
    { "a buffer outside of the pool", false, RIG_IOVA - 1, DATA | 60 | 60ull << 46 },
    { "a buffer that ends outside", false, RIG_IOVA + (1ull << 40), DATA | 60 | 60ull << 46 },
    { "a legacy one", false, RIG_IOVA, (DATA & ~(1ull << 29)) | 60 | 60ull << 46 },
    { "an unknown type", false, RIG_IOVA, (DATA ^ 1ull << 20) | 1ull << 22 | 60 | 60ull << 46 },
    { "no FCS", false, RIG_IOVA, (DATA & ~(1ull << 25)) | 60 | 60ull << 46 },
    { "an empty buffer", false, RIG_IOVA, DATA },
    { "a wrong PAYLEN", false, RIG_IOVA, DATA | 60 | 61ull << 46 },
    { "no end", false, RIG_IOVA, (DATA & ~(1ull << 24)) | 60 | 60ull << 46 },
    { "a checksum without context", false, RIG_IOVA, DATA | 60 | 60ull << 46 | 1ull << 41 },
    { "a tag to insert", false, RIG_IOVA, DATA | 60 | 60ull << 46 | 1ull << 30 },
    { "far too short", false, RIG_IOVA, DATA | 10 | 10ull << 46 },
};

TEST(descriptors_are_looked_at)
{
    for (unsigned i = 0; i < sizeof(descriptors) / sizeof(descriptors[0]); i++) {
        struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
        const struct nic_config cfg = rig_config();

        REQUIRE(r);
        CHECK_EQ(rig_start(r, &cfg), 0);
        r->ixgbe.hush = !descriptors[i].right;
        put(r, 0, descriptors[i].addr, descriptors[i].word);
        bar_write32(&r->n.bar[0], 0x6018, 1);
        if (!CHECK_EQ(r->ixgbe.breaches != 0, !descriptors[i].right))
            fprintf(stderr, "wrongly judged: %s\n", descriptors[i].what);
        rig_destroy(r);
    }
}

/* A checksum from RFC 1071, 3, and a hash from the verification suite of RSS (82599 7.1.2.8.3). */
TEST(its_sums_and_hashes_are_those_of_the_books)
{
    static const uint8_t words[] = { 0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7 };
    static const uint8_t key[40] = {
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
        0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
        0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    };
    /* 66.9.149.187:2794 to 161.142.100.80:1766 */
    static const uint8_t flow[12] = { 66, 9, 149, 187, 161, 142, 100, 80, 10, 234, 6, 230 };

    CHECK_EQ(nic_sum(words, sizeof(words), 0), 0xddf2);
    CHECK_EQ(nic_toeplitz(key, flow, 8), 0x323e8fc2);
    CHECK_EQ(nic_toeplitz(key, flow, 12), 0x51ccc178);
}

MAIN
{
    RUN(every_mistake_is_noticed);
    RUN(reading_what_cannot_be_read_is_noticed);
    RUN(haste_after_a_reset_is_noticed);
    RUN(descriptors_are_looked_at);
    RUN(its_sums_and_hashes_are_those_of_the_books);
}
