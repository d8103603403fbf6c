/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_igb_rx.c - frames from the wire through the igb driver: every size,
 * chains, full and wrapped rings, checksums, RSS, and descriptors that a
 * broken device writes back.
 */
#include "harness.h"
#include "nic/rig.h"
#include "nic/intel_ring.h"
#include "nic/nic_counter.h"
#include "nic/nic_math.h"

#define LONGEST 9720u

static const struct rig_flow flow4 = { .from = 0x0a000001, .to = 0x0a000002, .sport = 1000, .dport = 80,
                                       .flags = 0x10 };

static uint8_t frame[16384], got[US_FRAME_MAX];

static uint64_t missed(struct rig *r)
{
    struct us_nic_state s = { 0 };

    r->n.driver->read(&r->n, &s);
    return s.counter[NIC_COUNTER_rx_missed];
}

static uint64_t dropped(const struct rig *r, enum drop_reason why)
{
    return r->page.in[0].drop[why];
}

/* The i-th frame of the burst is @len patterned bytes. */
static void check_frame(const struct rig *r, unsigned i, uint32_t len, uint32_t seed)
{
    const struct frame *const f = &r->b.frame[i];

    CHECK_EQ(f->len, len);
    CHECK_EQ(rig_bytes(f, got, sizeof(got)), len);
    rig_pattern(frame, len, seed);
    CHECK_MEM(got, frame, len);
    CHECK(f->hdr == r->b.snap[i] + HDR_ROOM);
    for (uint32_t k = 0; k < f->n_iov; k++)
        CHECK(f->iov[k].iov_len > 0);
}

TEST(every_size_arrives)
{
    struct rig *const r = rig_up(&rig_igb, 1, 128, LONGEST);

    REQUIRE(r);
    for (uint32_t len = ETH_HDR_LEN; len <= LONGEST; len++) {
        rig_pattern(frame, len, len);
        REQUIRE(igm_receive(&r->igb, frame, len) == 0);
        REQUIRE(rig_rx(r, 0) == 1);
        check_frame(r, 0, len, len);
        rig_complete(r, 0);
    }
    CHECK_EQ(rig_rx(r, 0), 0);
    CHECK(rig_down(r));
}

TEST(frames_shorter_than_a_header_and_longer_than_allowed_are_dropped)
{
    struct rig *const r = rig_up(&rig_igb, 1, 128, 1514);

    REQUIRE(r);
    rig_pattern(frame, 2000, 1);
    CHECK_EQ(igm_receive(&r->igb, frame, 13), 0);
    CHECK_EQ(igm_receive(&r->igb, frame, 1518), 0);       /* room for a tag, but there is none */
    memcpy(frame + 12, "\x81\x00", 2);
    CHECK_EQ(igm_receive(&r->igb, frame, 1518), 0);
    CHECK_EQ(igm_receive(&r->igb, frame, 1519), -1);      /* the device's affair */
    CHECK_EQ(rig_rx(r, 0), 1);
    CHECK_EQ(r->b.frame[0].len, 1518);
    rig_complete(r, 0);
    CHECK_EQ(dropped(r, DROP_frame_short), 1);
    CHECK_EQ(dropped(r, DROP_frame_long), 1);
    CHECK(rig_down(r));
}

TEST(a_burst_ends_where_it_must)
{
    struct rig *const r = rig_up(&rig_igb, 1, 1024, LONGEST);

    REQUIRE(r);
    rig_pattern(frame, LONGEST, 0);
    for (unsigned i = 0; i < 100; i++)
        CHECK_EQ(igm_receive(&r->igb, frame, 60), 0);
    CHECK_EQ(rig_rx(r, 0), BURST_MAX);
    rig_complete(r, 0);
    r->b.held_back = BURST_MAX - 5;
    CHECK_EQ(rig_rx(r, 0), 5);
    rig_complete(r, 0);
    r->b.held_back = 0;
    CHECK_EQ(rig_rx(r, 0), 100 - BURST_MAX - 5);
    rig_complete(r, 0);
    for (unsigned i = 0; i < 60; i++)
        CHECK_EQ(igm_receive(&r->igb, frame, LONGEST), 0);
    for (unsigned left = 60; left;) {
        const unsigned n = rig_rx(r, 0);

        REQUIRE(n > 0 && n <= left && n * LONGEST <= BURST_BYTES + LONGEST);
        left -= n;
        rig_complete(r, 0);
    }
    CHECK(rig_down(r));
}

TEST(a_full_ring_loses_what_comes_and_goes_on)
{
    struct rig *const r = rig_up(&rig_igb, 1, 128, LONGEST);

    REQUIRE(r);
    for (uint32_t round = 0; round < 5; round++) {
        uint32_t taken = 0;

        for (uint32_t i = 0; i < 200; i++) {
            rig_pattern(frame, 60 + i, i);
            CHECK_EQ(igm_receive(&r->igb, frame, 60 + i), i < 127 ? 0 : -1);
        }
        for (unsigned n = rig_rx(r, 0); n; n = rig_rx(r, 0)) {
            for (unsigned i = 0; i < n; i++)
                check_frame(r, i, 60 + taken + i, taken + i);
            taken += n;
            rig_complete(r, 0);
        }
        CHECK_EQ(taken, 127);
        CHECK_EQ(missed(r), 73 * (round + 1));
    }
    CHECK(rig_down(r));
}

/* A worker may look once more before it gives back what it took. */
TEST(a_whole_ring_may_be_taken_before_it_is_given_back)
{
    struct rig *const r = rig_up(&rig_igb, 1, 128, LONGEST);

    REQUIRE(r);
    rig_pattern(frame, LONGEST, 3);
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned i = 0; i < 25; i++)
            CHECK_EQ(igm_receive(&r->igb, frame, LONGEST), 0);
        CHECK_EQ(igm_receive(&r->igb, frame, LONGEST), -1);
        for (unsigned left = 25; left;) {
            const unsigned n = rig_rx(r, 0);

            REQUIRE(n > 0 && n <= left);
            for (unsigned i = 0; i < n; i++)
                check_frame(r, i, LONGEST, 3);
            left -= n;
            rig_complete(r, 0);
        }
    }
    CHECK(rig_down(r));
}

static uint8_t flags_of(struct rig *r, uint32_t len)
{
    CHECK_EQ(igm_receive(&r->igb, frame, len), 0);
    if (!CHECK_EQ(rig_rx(r, 0), 1))
        return 0xff;
    rig_complete(r, 0);
    CHECK_EQ(r->b.frame[0].vnet.gso_type, VNET_GSO_NONE);
    return r->b.frame[0].vnet.flags;
}

TEST(the_device_s_word_on_checksums_is_passed_on)
{
    struct rig *const r = rig_up(&rig_igb, 1, 128, 1514);
    struct us_nic_state s = { 0 };

    REQUIRE(r);
    for (unsigned i = 0; i < 8; i++) {
        struct rig_flow flow = flow4;
        struct nic_packet p;
        uint32_t len;

        flow.ip6 = i & 1;
        flow.udp = i & 2;
        flow.tagged = i & 4;
        len = rig_packet(frame, &flow, 200);
        CHECK_EQ(flags_of(r, len), VNET_DATA_VALID);
        frame[len - 1] ^= 1;
        CHECK_EQ(flags_of(r, len), 0);
        frame[len - 1] ^= 1;
        nic_packet_parse(frame, len, &p);
        if (!flow.ip6) {
            frame[p.l3 + 8] ^= 1;
            CHECK_EQ(flags_of(r, len), 0);
        }
    }
    rig_pattern(frame, 100, 0);
    CHECK_EQ(flags_of(r, 100), 0);
    r->n.driver->read(&r->n, &s);
    CHECK_EQ(s.counter[NIC_COUNTER_rx_csum_errors], 12);
    CHECK(rig_down(r));
}

TEST(flows_spread_over_queues_and_stay_where_they_are)
{
    struct rig *const r = rig_up(&rig_igb, 8, 128, 1514);
    unsigned hit[8] = { 0 };

    REQUIRE(r);
    for (uint32_t i = 0; i < 800; i++) {
        struct rig_flow flow = flow4;
        uint32_t len;
        int q;

        flow.ip6 = i & 1;
        flow.udp = i & 2;
        flow.from += i / 4;
        flow.sport = (uint16_t)(i * 13);
        len = rig_packet(frame, &flow, 64);
        q = igm_receive(&r->igb, frame, len);
        REQUIRE(q >= 0 && q < 8);
        CHECK_EQ(igm_receive(&r->igb, frame, len), q);
        hit[q]++;
        CHECK_EQ(rig_rx(r, (uint32_t)q), 2);
        rig_complete(r, (uint32_t)q);
    }
    for (unsigned q = 0; q < 8; q++)
        CHECK(hit[q] > 40 && hit[q] < 200);     /* of 100 */
    CHECK(rig_down(r));
}

/* ---- a broken device ---- */

/**
 * struct broken - what a device does to the descriptors that it writes back
 * @clear, @set: bits of the second word
 * @left: how many descriptors, then it is healthy again
 */
struct broken {
    uint64_t clear, set;
    unsigned left;
};

static struct broken broken;

static void mangle(void *ctx, bool tx, uint32_t index, uint64_t desc[2])
{
    (void)ctx;
    (void)index;
    if (tx || broken.left == 0)
        return;
    broken.left--;
    desc[1] = (desc[1] & ~broken.clear) | broken.set;
}

static struct rig *up_broken(uint64_t clear, uint64_t set, unsigned n)
{
    struct rig *const r = rig_up(&rig_igb, 1, 128, LONGEST);

    broken = (struct broken){ clear, set, n };
    if (r)
        r->igb.e.mangle = mangle;
    return r;
}

/* The port is fenced; a new start mends it. */
static void check_failed_and_recover(struct rig *r, enum break_reason reason)
{
    const struct nic_config cfg = r->n.cfg;

    CHECK_EQ(atomic_load(&r->n.failed), 1);
    CHECK_EQ(atomic_load(&r->n.port.broken), reason);
    r->n.driver->stop(&r->n);
    CHECK_EQ(rig_start(r, &cfg), 0);
    port_mend(&r->n.port);
    for (uint32_t i = 0; i < 300; i++) {
        rig_pattern(frame, 60 + i, i);
        REQUIRE(igm_receive(&r->igb, frame, 60 + i) == 0);
        REQUIRE(rig_rx(r, 0) == 1);
        check_frame(r, 0, 60 + i, i);
        rig_complete(r, 0);
    }
    CHECK_EQ(atomic_load(&r->n.failed), 0);
    CHECK(rig_down(r));
}

TEST(a_length_that_no_buffer_has)
{
    static const uint64_t lengths[] = { 2049, 4096, 0xffff };

    for (unsigned i = 0; i < 3; i++) {
        struct rig *const r = up_broken(0xffffull << 32, lengths[i] << 32, 1);

        REQUIRE(r);
        rig_pattern(frame, 60, 0);
        CHECK_EQ(igm_receive(&r->igb, frame, 60), 0);
        CHECK_EQ(rig_rx(r, 0), 0);
        rig_complete(r, 0);
        check_failed_and_recover(r, BREAK_nic_descriptor);
    }
}

TEST(frames_before_nonsense_are_delivered)
{
    struct rig *const r = up_broken(0, 0, 0);

    REQUIRE(r);
    for (uint32_t i = 0; i < 3; i++) {
        rig_pattern(frame, 100, i);
        CHECK_EQ(igm_receive(&r->igb, frame, 100), 0);
    }
    broken = (struct broken){ 0, 0xffffull << 32, 1 };
    CHECK_EQ(igm_receive(&r->igb, frame, 100), 0);
    CHECK_EQ(rig_rx(r, 0), 3);
    for (unsigned i = 0; i < 3; i++)
        check_frame(r, i, 100, i);
    rig_complete(r, 0);
    check_failed_and_recover(r, BREAK_nic_descriptor);
}

TEST(a_frame_that_never_ends)
{
    struct rig *const r = up_broken(INTEL_RX_EOP, 0, 1000);

    REQUIRE(r);
    rig_pattern(frame, 60, 0);
    for (unsigned i = 0; i + 1 < NIC_SEGS_MAX; i++) {
        CHECK_EQ(igm_receive(&r->igb, frame, 60), 0);
        CHECK_EQ(rig_rx(r, 0), 0);      /* its end may still come */
        rig_complete(r, 0);
        CHECK(!r->n.driver->arm(&r->n.queue[0]));
        r->n.driver->disarm(&r->n.queue[0]);
        CHECK_EQ(atomic_load(&r->n.failed), 0);
    }
    CHECK_EQ(igm_receive(&r->igb, frame, 60), 0);
    CHECK(r->n.driver->arm(&r->n.queue[0]));
    CHECK_EQ(rig_rx(r, 0), 0);
    broken.left = 0;
    check_failed_and_recover(r, BREAK_nic_descriptor);
}

TEST(a_chain_is_taken_when_its_end_is_there)
{
    struct rig *const r = up_broken(INTEL_RX_EOP, 0, 2);

    REQUIRE(r);
    rig_pattern(frame, 2048, 0);
    CHECK_EQ(igm_receive(&r->igb, frame, 2048), 0);
    CHECK_EQ(igm_receive(&r->igb, frame, 2048), 0);
    CHECK_EQ(rig_rx(r, 0), 0);
    CHECK_EQ(igm_receive(&r->igb, frame, 100), 0);
    CHECK_EQ(rig_rx(r, 0), 1);
    CHECK_EQ(r->b.frame[0].len, 2 * 2048 + 100);
    rig_complete(r, 0);
    CHECK(rig_down(r));
}

TEST(empty_buffers_do_not_count)
{
    struct rig *const r = up_broken(0xffffull << 32, 0, 1);

    REQUIRE(r);
    rig_pattern(frame, 60, 0);
    CHECK_EQ(igm_receive(&r->igb, frame, 60), 0);         /* a frame of nothing */
    CHECK_EQ(rig_rx(r, 0), 0);
    rig_complete(r, 0);
    CHECK_EQ(dropped(r, DROP_frame_short), 1);
    broken = (struct broken){ 0xffffull << 32 | INTEL_RX_EOP, 0, 1 };
    CHECK_EQ(igm_receive(&r->igb, frame, 60), 0);         /* nothing, and then something */
    CHECK_EQ(igm_receive(&r->igb, frame, 60), 0);
    CHECK_EQ(rig_rx(r, 0), 1);
    check_frame(r, 0, 60, 0);
    rig_complete(r, 0);
    CHECK_EQ(atomic_load(&r->n.failed), 0);
    CHECK(rig_down(r));
}

TEST(damaged_frames_are_counted)
{
    struct rig *const r = rig_up(&rig_igb, 1, 128, 1514);

    REQUIRE(r);
    rig_pattern(frame, 60, 0);
    CHECK_EQ(igm_receive_status(&r->igb, frame, 60, 1u << 31), 0);
    CHECK_EQ(igm_receive(&r->igb, frame, 60), 0);
    CHECK_EQ(rig_rx(r, 0), 1);
    rig_complete(r, 0);
    CHECK_EQ(dropped(r, DROP_nic_rx), 1);
    CHECK(rig_down(r));
}

TEST(a_reset_in_the_middle_of_a_burst)
{
    struct rig *const r = up_broken(0, 0, 0);

    REQUIRE(r);
    rig_pattern(frame, 60, 0);
    for (unsigned i = 0; i < 50; i++)
        CHECK_EQ(igm_receive(&r->igb, frame, 60), 0);
    CHECK_EQ(rig_rx(r, 0), 50);
    igm_cause(&r->igb, 1u << 30);
    r->n.driver->other(&r->n);
    rig_complete(r, 0);
    check_failed_and_recover(r, BREAK_nic_error);
}

/* Whatever it writes: nothing is read or written that is not ours (sanitizers), and a start mends it. */
TEST(any_bits_at_all)
{
    struct rig *r = up_broken(0, 0, 0);
    struct nic_config cfg;
    uint64_t x = 88172645463325252ull;

    REQUIRE(r);
    cfg = r->n.cfg;
    for (unsigned i = 0; i < 1500; i++) {
        uint32_t len;

        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        len = ETH_HDR_LEN + (uint32_t)(x >> 8) % (LONGEST - ETH_HDR_LEN);
        broken = (struct broken){ x & x >> 3 & x << 5, x & x << 9 & x >> 11, (unsigned)(x & 3) };
        rig_pattern(frame, len, i);
        (void)igm_receive(&r->igb, frame, len);
        for (unsigned k = 0; k < rig_rx(r, 0); k++)
            (void)rig_bytes(&r->b.frame[k], got, sizeof(got));
        rig_complete(r, 0);
        if (!atomic_load(&r->n.failed))
            continue;
        r->n.driver->stop(&r->n);
        REQUIRE(rig_start(r, &cfg) == 0);
        port_mend(&r->n.port);
    }
    CHECK_EQ(r->igb.e.faults, 0);
    CHECK(rig_down(r));
}

MAIN
{
    RUN(every_size_arrives);
    RUN(frames_shorter_than_a_header_and_longer_than_allowed_are_dropped);
    RUN(a_burst_ends_where_it_must);
    RUN(a_full_ring_loses_what_comes_and_goes_on);
    RUN(a_whole_ring_may_be_taken_before_it_is_given_back);
    RUN(the_device_s_word_on_checksums_is_passed_on);
    RUN(flows_spread_over_queues_and_stay_where_they_are);
    RUN(a_length_that_no_buffer_has);
    RUN(frames_before_nonsense_are_delivered);
    RUN(a_frame_that_never_ends);
    RUN(a_chain_is_taken_when_its_end_is_there);
    RUN(empty_buffers_do_not_count);
    RUN(damaged_frames_are_counted);
    RUN(a_reset_in_the_middle_of_a_burst);
    RUN(any_bits_at_all);
}
