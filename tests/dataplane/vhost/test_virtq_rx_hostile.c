/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_virtq_rx_hostile.c - what a hostile driver puts into its transmit ring.
 * The rule for each: a malformed chain costs its frame, is counted by name and
 * given back, and the port stays up; a ring that lies about its indexes breaks
 * the port, by name and with the value.
 */
#include "harness.h"

#include <sys/mman.h>
#include <unistd.h>

#include "vhost/driver.h"

#define WILD 0x7777000000000000ULL

static struct driver d;
static struct burst b;
static uint8_t want[US_FRAME_MAX + 64], got[US_FRAME_MAX + 64];

static void place(uint64_t gpa, uint32_t len, uint32_t seed)
{
    static const uint8_t zero[12];

    drv_pattern(want, len, seed);
    drv_write(&d, gpa, zero, sizeof(zero));
    drv_write(&d, gpa + sizeof(zero), want, len);
}

static bool used_is(uint32_t want_id)
{
    uint32_t id, len;

    return drv_used(&d.tx, &id, &len) && id == want_id && len == 0;
}

/* The burst holds this one frame, and its chain came back. */
static bool accepted(uint32_t head, uint32_t len, uint32_t seed)
{
    const uint64_t drops = drv_drops(&d);
    const unsigned n = drv_rx(&d, &b);

    drv_pattern(want, len, seed);
    return n == 1 && b.frame[0].len == len && drv_gather(&b.frame[0], got, sizeof(got)) == len &&
           memcmp(got, want, len) == 0 && used_is(head) && drv_drops(&d) == drops;
}

/* The burst is empty, its one chain is counted under that name and came back, and the port is up. */
static bool dropped(uint32_t head, enum drop_reason why)
{
    const uint64_t drops = drv_drops(&d), named = drv_drops_in(&d, why);

    return drv_rx(&d, &b) == 0 && drv_drops(&d) == drops + 1 && drv_drops_in(&d, why) == named + 1 &&
           used_is(head) && !port_is_broken(d.port);
}

static void offer(uint16_t head)
{
    drv_offer(&d.tx, head);
    drv_publish(&d.tx);
}

/* A buffer that ends 1 byte before, at, and 1 byte past the end of memory; and one that begins before it. */
TEST(g1_buffer_at_the_end_of_memory)
{
    drv_create(&d, F_V1, 16);
    for (uint64_t past = 0; past < 3; past++) {
        const uint64_t at = DRV_END - 112 - 1 + past;

        if (past < 2)
            place(at, 100, 1);
        for (uint32_t split = 12; split <= 112; split += 50) { /* one descriptor, or two */
            drv_desc(&d.tx, 1, at, split, split < 112 ? D_NEXT : 0, 2);
            drv_desc(&d.tx, 2, at + split, 112 - split, 0, 0);
            offer(1);
            CHECK(past < 2 ? accepted(1, 100, 1) : dropped(1, DROP_chain_addr));
        }
    }
    drv_one(&d.tx, 1, DRV_GPA - 1, 112, 0);
    CHECK(dropped(1, DROP_chain_addr));
    drv_one(&d.tx, 1, UINT64_MAX - 10, 112, 0); /* wraps around */
    CHECK(dropped(1, DROP_chain_addr));
    drv_one(&d.tx, 1, DRV_END, 112, 0);
    CHECK(dropped(1, DROP_chain_addr));
    drv_destroy(&d);
}

/* Short frames at the very end: the snapshot's fixed-size copy must not run past the region. */
TEST(g1_short_frame_at_the_end_of_memory)
{
    drv_create(&d, F_V1, 16);
    for (uint32_t len = 14; len < 70; len++) {
        place(DRV_END - 12 - len, len, len);
        drv_one(&d.tx, 3, DRV_END - 12 - len, 12 + len, 0);
        CHECK(accepted(3, len, len));
    }
    drv_destroy(&d);
}

/*
 * The same where it would hurt: behind the region lies one whose file is gone, so that a single byte read too
 * far fences the port.  The kernel puts a new mapping right below the one before it.
 */
TEST(g1_snapshot_ends_with_the_region)
{
    const uint64_t gpa_a = 0x40000000, gpa_b = 0x80000000, end_b = gpa_b + DRV_SIZE1;
    const int file_a = memfd_create("a", MFD_CLOEXEC);
    const uint8_t *end, *start;
    struct us_vhost_mem mem;
    int fds[3];

    drv_create(&d, F_V1, 16);
    mem = d.mem;
    mem.n = 3;
    mem.region[1] = (struct us_mem_region){ gpa_a, 65536, gpa_a + DRV_UVA, 0 };
    mem.region[2] = (struct us_mem_region){ gpa_b, DRV_SIZE1, gpa_b + DRV_UVA, DRV_SIZE0 + DRV_GAP };
    fds[0] = fds[2] = d.memfd;
    fds[1] = file_a;
    REQUIRE(ftruncate(file_a, 65536) == 0 && vhost_port_set_mem(d.port, &mem, fds) == 0);
    drv_one(&d.tx, 0, gpa_a, 212, 0);
    drv_one(&d.tx, 1, end_b - 212, 212, 0);
    REQUIRE(drv_rx(&d, &b) == 2);
    start = (const uint8_t *)b.frame[0].iov[0].iov_base - 12 - SNAP_SHORT;
    end = (const uint8_t *)b.frame[1].iov[0].iov_base + b.frame[1].iov[0].iov_len;
    if (start != end)
        printf("g1_snapshot_ends_with_the_region: mappings lie apart, nothing tested\n");
    (void)used_is(0);
    (void)used_is(1);
    CHECK_EQ(ftruncate(file_a, 0), 0);
    for (uint32_t len = 14; len < 70; len++) {
        place(DRV_END - 12 - len, len, len);
        drv_one(&d.tx, 3, end_b - 12 - len, 12 + len, 0);
        CHECK(accepted(3, len, len));
    }
    CHECK(!port_is_broken(d.port));
    close(file_a);
    drv_destroy(&d);
}

/* A buffer over the border of two regions that touch in guest memory and nowhere else is legal, and whole. */
TEST(g1_buffer_across_regions)
{
    drv_create(&d, F_V1, 16);
    for (uint32_t before = 1; before < 212; before++) {
        place(DRV_BORDER - before, 200, before);
        drv_one(&d.tx, 1, DRV_BORDER - before, 212, 0);
        CHECK(accepted(1, 200, before));
    }
    drv_destroy(&d);
}

TEST(g1_indirect_table_across_regions_and_past_the_end)
{
    drv_create(&d, F_V1 | F_INDIRECT, 16);
    place(DRV_BUF, 100, 1);
    for (uint64_t before = 0; before <= 64; before += 4) {
        for (uint32_t i = 0; i < 4; i++)
            drv_table(&d, DRV_BORDER - before, i, DRV_BUF + i * 28, 28, i < 3 ? D_NEXT : 0, (uint16_t)(i + 1));
        drv_one(&d.tx, 1, DRV_BORDER - before, 64, D_INDIRECT);
        CHECK(accepted(1, 100, 1));
    }
    for (uint64_t past = 0; past < 3; past++) {
        const uint64_t table = DRV_END - 65 + past;

        for (uint32_t i = 0; i < 4 && past < 2; i++)
            drv_table(&d, table, i, DRV_BUF + i * 28, 28, i < 3 ? D_NEXT : 0, (uint16_t)(i + 1));
        drv_one(&d.tx, 1, table, 64, D_INDIRECT);
        CHECK(past < 2 ? accepted(1, 100, 1) : dropped(1, DROP_chain_indirect));
    }
    drv_one(&d.tx, 1, UINT64_MAX - 15, 64, D_INDIRECT);
    CHECK(dropped(1, DROP_chain_indirect));
    drv_destroy(&d);
}

/* An address does not matter where there is no byte. */
TEST(g2_zero_length_descriptors)
{
    drv_create(&d, F_V1, 16);
    place(DRV_BUF, 100, 1);
    drv_desc(&d.tx, 1, WILD, 0, D_NEXT, 2);
    drv_desc(&d.tx, 2, DRV_BUF, 112, D_NEXT, 3);
    drv_desc(&d.tx, 3, WILD, 0, 0, 0);
    offer(1);
    CHECK(accepted(1, 100, 1));
    drv_one(&d.tx, 4, WILD, 0, 0);
    CHECK(dropped(4, DROP_hdr_short));
    /* In the middle of a burst of good ones, too. */
    for (uint16_t i = 0; i < 8; i++) {
        drv_desc(&d.tx, i, i == 5 ? WILD : DRV_BUF, i == 5 ? 0 : 112, 0, 0);
        drv_offer(&d.tx, i);
    }
    drv_publish(&d.tx);
    CHECK_EQ(drv_rx(&d, &b), 7);
    CHECK_EQ(drv_drops_in(&d, DROP_hdr_short), 2);
    drv_destroy(&d);
}

TEST(g4_short_chains_and_header_in_pieces)
{
    drv_create(&d, F_V1, 32);
    for (uint32_t total = 0; total <= 26; total++) {
        drv_one(&d.tx, 1, DRV_BUF, total, 0);
        CHECK(total < 12 ? dropped(1, DROP_hdr_short) : total < 26 ? dropped(1, DROP_frame_short) :
              drv_rx(&d, &b) == 1 && used_is(1));
    }
    place(DRV_BUF, 60, 9);
    for (uint32_t pieces = 1; pieces <= 28; pieces++) { /* 1 + 1 + ... + the rest */
        for (uint32_t i = 0; i < pieces; i++)
            drv_desc(&d.tx, i, DRV_BUF + i, i + 1 < pieces ? 1 : 72 - i, i + 1 < pieces ? D_NEXT : 0,
                     (uint16_t)(i + 1));
        offer(0);
        CHECK(accepted(0, 60, 9));
    }
    for (uint32_t total = 1; total < 26; total++) { /* and pieces that do not add up to a frame */
        for (uint32_t i = 0; i < total; i++)
            drv_desc(&d.tx, i, DRV_BUF + i, 1, i + 1 < total ? D_NEXT : 0, (uint16_t)(i + 1));
        offer(0);
        CHECK(dropped(0, total < 12 ? DROP_hdr_short : DROP_frame_short));
    }
    drv_destroy(&d);
}

TEST(g5_next_and_loops)
{
    drv_create(&d, F_V1, 16);
    place(DRV_BUF, 100, 1);
    for (uint32_t next = 16; next < 0x10000; next = next * 2 + 1) {
        drv_desc(&d.tx, 0, DRV_BUF, 20, D_NEXT, (uint16_t)next);
        offer(0);
        CHECK(dropped(0, DROP_chain_next));
    }
    for (uint32_t len = 0; len < 2; len++) {
        drv_desc(&d.tx, 0, DRV_BUF, len, D_NEXT, 0); /* points to itself */
        offer(0);
        CHECK(dropped(0, DROP_chain_loop));
        drv_desc(&d.tx, 3, DRV_BUF, len, D_NEXT, 4); /* two that point to each other */
        drv_desc(&d.tx, 4, DRV_BUF, len, D_NEXT, 3);
        offer(3);
        CHECK(dropped(3, DROP_chain_loop));
    }
    for (uint32_t i = 0; i < 16; i++) /* as long as the ring is legal */
        drv_desc(&d.tx, i, DRV_BUF + i * 7, 7, i < 15 ? D_NEXT : 0, (uint16_t)(i + 1));
    offer(0);
    CHECK(accepted(0, 100, 1));
    drv_destroy(&d);
}

TEST(g5_indirect_tables)
{
    static const uint32_t bad_len[] = { 0, 1, 15, 17, 63, 65, 0xffffffff };

    drv_create(&d, F_V1 | F_INDIRECT, 16);
    place(DRV_BUF, 100, 1);
    drv_table(&d, DRV_TABLE, 0, DRV_BUF, 112, 0, 0);
    drv_one(&d.tx, 1, DRV_TABLE, 16, D_INDIRECT);
    CHECK(accepted(1, 100, 1));
    for (unsigned i = 0; i < sizeof(bad_len) / sizeof(bad_len[0]); i++) {
        drv_one(&d.tx, 1, DRV_TABLE, bad_len[i], D_INDIRECT);
        CHECK(dropped(1, DROP_chain_indirect));
    }
    drv_one(&d.tx, 1, DRV_TABLE, 16, D_INDIRECT | D_NEXT);
    CHECK(dropped(1, DROP_chain_indirect));
    drv_desc(&d.tx, 2, DRV_BUF, 12, D_NEXT, 1); /* not first in its chain */
    drv_desc(&d.tx, 1, DRV_TABLE, 16, D_INDIRECT, 0);
    offer(2);
    CHECK(dropped(2, DROP_chain_indirect));
    drv_table(&d, DRV_TABLE, 0, DRV_TABLE, 16, D_INDIRECT, 0); /* nested */
    drv_one(&d.tx, 1, DRV_TABLE, 16, D_INDIRECT);
    CHECK(dropped(1, DROP_chain_indirect));
    drv_table(&d, DRV_TABLE, 0, DRV_BUF, 1, D_NEXT, 0); /* loop inside */
    drv_one(&d.tx, 1, DRV_TABLE, 16, D_INDIRECT);
    CHECK(dropped(1, DROP_chain_loop));
    drv_table(&d, DRV_TABLE, 0, DRV_BUF, 1, D_NEXT, 1); /* next outside the table, inside the ring */
    drv_one(&d.tx, 1, DRV_TABLE, 16, D_INDIRECT);
    CHECK(dropped(1, DROP_chain_next));
    CHECK_EQ(drv_restart(&d, F_V1, 16), 0); /* not negotiated */
    drv_table(&d, DRV_TABLE, 0, DRV_BUF, 112, 0, 0);
    drv_one(&d.tx, 1, DRV_TABLE, 16, D_INDIRECT);
    CHECK(dropped(1, DROP_chain_indirect));
    drv_destroy(&d);
}

TEST(writable_descriptors_are_refused)
{
    drv_create(&d, F_V1, 16);
    place(DRV_BUF, 100, 1);
    drv_one(&d.tx, 1, DRV_BUF, 112, D_WRITE);
    CHECK(dropped(1, DROP_chain_direction));
    drv_desc(&d.tx, 1, DRV_BUF, 12, D_NEXT, 2);
    drv_desc(&d.tx, 2, DRV_BUF + 12, 100, D_WRITE, 0);
    offer(1);
    CHECK(dropped(1, DROP_chain_direction));
    drv_destroy(&d);
}

/* The port is fenced for that reason, with that value; and a restart of its rings heals it. */
static bool broken_by(enum break_reason why, uint64_t detail)
{
    const bool right = d.state->broken == (uint32_t)why && d.state->broken_detail == detail &&
                       d.state->broken_ring == 1;

    CHECK_EQ(drv_rx(&d, &b), 0); /* stays so */
    CHECK_EQ(drv_restart(&d, F_V1, 16), 0);
    place(DRV_BUF, 100, 1);
    drv_one(&d.tx, 1, DRV_BUF, 112, 0);
    return right && d.state->broken == 0 && accepted(1, 100, 1);
}

TEST(g6_more_entries_than_the_ring_has)
{
    static const uint16_t ahead[] = { 17, 32, 0x7fff, 0x8000, 0xffff };

    drv_create(&d, F_V1, 16);
    for (unsigned i = 0; i < sizeof(ahead) / sizeof(ahead[0]); i++) {
        CHECK_EQ(drv_restart(&d, F_V1, 16), 0);
        d.tx.avail_idx = ahead[i];
        drv_publish(&d.tx);
        CHECK_EQ(drv_rx(&d, &b), 0);
        CHECK(!drv_used(&d.tx, &(uint32_t){ 0 }, &(uint32_t){ 0 }));
        CHECK(broken_by(BREAK_avail_index, ahead[i]));
    }
    /* A full ring is legal. */
    CHECK_EQ(drv_restart(&d, F_V1, 16), 0);
    for (uint16_t i = 0; i < 16; i++) {
        drv_desc(&d.tx, i, DRV_BUF, 112, 0, 0);
        drv_offer(&d.tx, i);
    }
    drv_publish(&d.tx);
    CHECK_EQ(drv_rx(&d, &b), 16);
    drv_destroy(&d);
}

TEST(g6_head_outside_the_ring)
{
    drv_create(&d, F_V1, 16);
    for (uint32_t head = 16; head < 0x10000; head = head * 2 + 1) {
        drv_one(&d.tx, 2, DRV_BUF, 112, 0);
        offer((uint16_t)head);
        CHECK_EQ(drv_rx(&d, &b), 0);
        CHECK(broken_by(BREAK_avail_head, head));
    }
    drv_destroy(&d);
}

TEST(g7_frames_longer_than_anything_legal)
{
    const uint8_t gso[12] = { 1, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0 };

    drv_create(&d, F_V1 | VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4), 64);
    for (uint32_t over = 0; over < 3; over++) {
        place(DRV_BUF, US_FRAME_MAX, 1);
        drv_write(&d, DRV_BUF, gso, sizeof(gso));
        drv_one(&d.tx, 1, DRV_BUF, 12 + US_FRAME_MAX + over, 0);
        CHECK(over == 0 ? accepted(1, US_FRAME_MAX, 1) : dropped(1, DROP_frame_long));
    }
    /* Without segmentation request the port's maximum counts. */
    drv_one(&d.tx, 1, DRV_BUF + (1 << 20), 12 + 9015, 0);
    CHECK(dropped(1, DROP_frame_long));
    /* 64 descriptors of 64 KiB: the sum, not the parts. */
    for (uint32_t i = 0; i < 64; i++)
        drv_desc(&d.tx, i, DRV_BUF, 65536, i < 63 ? D_NEXT : 0, (uint16_t)(i + 1));
    offer(0);
    CHECK(dropped(0, DROP_frame_long));
    drv_destroy(&d);
}

/* 2^32 - 1 bytes in one descriptor, and 64 of them whose sum does not fit 32 bits. */
TEST(g8_four_gigabyte_descriptors)
{
    drv_create(&d, F_V1, 64);
    drv_one(&d.tx, 1, DRV_BUF, 0xffffffff, 0);
    CHECK(dropped(1, DROP_frame_long));
    for (uint32_t i = 0; i < 64; i++)
        drv_desc(&d.tx, i, DRV_BUF, i == 1 ? 0x80000070 : 0x80000000, i < 63 ? D_NEXT : 0, (uint16_t)(i + 1));
    offer(0);
    CHECK(dropped(0, DROP_frame_long));
    CHECK_EQ(b.n_iov, 0);
    drv_destroy(&d);
}

/* The same head again and again, before it was given back: in order, harmless. */
TEST(g9_same_head_twice)
{
    drv_create(&d, F_V1, 16);
    place(DRV_BUF, 100, 1);
    drv_desc(&d.tx, 7, DRV_BUF, 112, 0, 0);
    for (unsigned i = 0; i < 16; i++)
        drv_offer(&d.tx, 7);
    drv_publish(&d.tx);
    CHECK_EQ(drv_rx(&d, &b), 16);
    for (unsigned i = 0; i < 16; i++)
        CHECK(used_is(7));
    CHECK(!drv_used(&d.tx, &(uint32_t){ 0 }, &(uint32_t){ 0 }));
    drv_destroy(&d);
}

/* A full burst of jumbo frames is cut by its byte budget; one chain as long as the longest ring fits the pool. */
TEST(g10_jumbo_frames_and_the_longest_chain)
{
    drv_create(&d, F_V1, 32768);
    for (uint16_t i = 0; i < 64; i++) {
        drv_desc(&d.tx, i, DRV_BUF, 9026, 0, 0);
        drv_offer(&d.tx, i);
    }
    drv_publish(&d.tx);
    CHECK_EQ(drv_rx(&d, &b), BURST_BYTES / 9014);
    for (uint32_t i = 0; i < 32768; i++)
        drv_desc(&d.tx, i, DRV_BUF + i % 1024, i < 9000 ? 1 : 0, i < 32767 ? D_NEXT : 0, (uint16_t)(i + 1));
    while (drv_rx(&d, &b))
        ;
    for (unsigned i = 0; i < 3; i++)
        drv_offer(&d.tx, 0);
    drv_publish(&d.tx);
    for (unsigned i = 0; i < 3; i++) { /* R3: one such chain a burst is enough */
        CHECK_EQ(drv_rx(&d, &b), 1);
        CHECK_EQ(b.frame[0].len, 9000 - 12);
        CHECK(b.n_iov <= BURST_IOV);
    }
    drv_destroy(&d);
}

/* More scatter entries than the pool has: the longest ring's longest chain, each descriptor over a border. */
TEST(g10_scatter_pool)
{
    drv_create(&d, F_V1 | VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4), 32768);
    for (uint32_t i = 0; i < 32768; i++)
        drv_desc(&d.tx, i, DRV_BORDER - 1, 2, i < 32767 ? D_NEXT : 0, (uint16_t)(i + 1));
    for (unsigned i = 0; i < 2; i++)
        drv_offer(&d.tx, 0);
    drv_publish(&d.tx);
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQ(drv_rx(&d, &b), 0);
        CHECK_EQ(drv_drops_in(&d, DROP_chain_loop), i + 1);
    }
    drv_destroy(&d);
}

MAIN
{
    RUN(g1_buffer_at_the_end_of_memory);
    RUN(g1_short_frame_at_the_end_of_memory);
    RUN(g1_snapshot_ends_with_the_region);
    RUN(g1_buffer_across_regions);
    RUN(g1_indirect_table_across_regions_and_past_the_end);
    RUN(g2_zero_length_descriptors);
    RUN(g4_short_chains_and_header_in_pieces);
    RUN(g5_next_and_loops);
    RUN(g5_indirect_tables);
    RUN(writable_descriptors_are_refused);
    RUN(g6_more_entries_than_the_ring_has);
    RUN(g6_head_outside_the_ring);
    RUN(g7_frames_longer_than_anything_legal);
    RUN(g8_four_gigabyte_descriptors);
    RUN(g9_same_head_twice);
    RUN(g10_jumbo_frames_and_the_longest_chain);
    RUN(g10_scatter_pool);
}
