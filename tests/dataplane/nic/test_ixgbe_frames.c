/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_ixgbe_frames.c - frames through the ixgbe driver's rings on the model,
 * byte by byte: every size, chains, tags, checksums, segmentation, and what a
 * broken device may write back (threat V1).
 */
#include "harness.h"
#include "nic/rig.h"
#include "nic/nic_counter.h"

static uint8_t data[US_FRAME_MAX], got[US_FRAME_MAX];

static void fill(uint8_t *out, uint32_t len, uint32_t seed)
{
    for (uint32_t i = 0; i < len; i++)
        out[i] = (uint8_t)(seed + i * 13 + (i >> 8));
    memset(out, 0xff, 6);
    out[12] = 0x88;             /* neither IP nor a tag */
    out[13] = 0xb5;
}

/* A frame from the wire comes out of the driver as it is. */
static bool passes_in(struct rig *r, const uint8_t *frame, uint32_t len)
{
    bool ok;

    if (!CHECK(ixm_receive(&r->ixgbe, frame, len) >= 0) || !CHECK_EQ(rig_rx(r, 0), 1))
        return false;
    ok = CHECK_EQ(r->b.frame[0].len, len) && CHECK_EQ(rig_bytes(&r->b.frame[0], got, sizeof(got)), len) &&
         CHECK_MEM(got, frame, len);
    rig_complete(r, 0);
    return ok;
}

TEST(every_size_is_received)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();

    REQUIRE(r);
    CHECK_EQ(rig_start(r, &cfg), 0);
    for (uint32_t len = 60; len <= 1514; len++) {
        fill(data, len, len);
        if (!passes_in(r, data, len))
            break;
    }
    CHECK(rig_stop(r));
    rig_destroy(r);
}

TEST(every_size_is_sent)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();

    REQUIRE(r);
    CHECK_EQ(rig_start(r, &cfg), 0);
    for (uint32_t len = 18; len <= 1514; len++) {
        fill(data, len, len);
        CHECK_EQ(rig_tx(r, 0, data, len, US_VID_UNTAGGED, NULL), DROP_none);
        REQUIRE(CHECK_EQ(r->ixgbe.n_sent, 1));
        /* Short frames are padded, with zeros. */
        CHECK_EQ(r->ixgbe.sent[0].len, len < 60 ? 60 : len);
        CHECK_MEM(r->ixgbe.sent[0].data, data, len);
        for (uint32_t i = len; i < 60; i++)
            CHECK_EQ(r->ixgbe.sent[0].data[i], 0);
        ixm_clear(&r->ixgbe);
    }
    CHECK(rig_stop(r));
    rig_destroy(r);
}

TEST(a_tag_is_written_between_addresses_and_type)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();

    REQUIRE(r);
    CHECK_EQ(rig_start(r, &cfg), 0);
    fill(data, 1514, 3);
    CHECK_EQ(rig_tx(r, 0, data, 1514, 100, NULL), DROP_none);
    REQUIRE(CHECK_EQ(r->ixgbe.n_sent, 1));
    CHECK_EQ(r->ixgbe.sent[0].len, 1518);
    CHECK_MEM(r->ixgbe.sent[0].data, data, 12);
    CHECK_MEM(r->ixgbe.sent[0].data + 12, "\x81\x00\x60\x64", 4);
    CHECK_MEM(r->ixgbe.sent[0].data + 16, data + 12, 1502);
    /* A tagged frame of full size comes in, one that is longer does not. */
    fill(data, 1518, 3);
    memcpy(data + 12, "\x81\x00\x00\x64", 4);
    CHECK(passes_in(r, data, 1518));
    CHECK_EQ(ixm_receive(&r->ixgbe, data, 1519), -1);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

TEST(jumbo_frames_take_several_buffers)
{
    static const uint32_t sizes[] = { 1515, 2047, 2048, 2049, 4095, 4096, 4097, 9000, 9014, 9724 };
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    struct nic_config cfg = rig_config();

    REQUIRE(r);
    cfg.max_frame = ixgbe_driver.frame_max;
    CHECK_EQ(rig_start(r, &cfg), 0);
    for (unsigned round = 0; round < 20; round++)
        for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            fill(data, sizes[i], round + i);
            REQUIRE(passes_in(r, data, sizes[i]));
            CHECK_EQ(rig_tx(r, 0, data, sizes[i], US_VID_UNTAGGED, NULL), DROP_none);
            REQUIRE(CHECK_EQ(r->ixgbe.n_sent, 1));
            CHECK_EQ(r->ixgbe.sent[0].len, sizes[i]);
            CHECK_MEM(r->ixgbe.sent[0].data, data, sizes[i]);
            ixm_clear(&r->ixgbe);
        }
    CHECK_EQ(ixm_receive(&r->ixgbe, data, 9725), -1);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

TEST(a_full_ring_loses_and_goes_on)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();
    struct us_nic_state state = { 0 };
    unsigned in = 0, lost = 0, taken = 0, refused = 0;

    REQUIRE(r);
    CHECK_EQ(rig_start(r, &cfg), 0);
    fill(data, 60, 1);
    for (unsigned i = 0; i < 300; i++) {
        if (ixm_receive(&r->ixgbe, data, 60) >= 0)
            in++;
        else
            lost++;
    }
    CHECK_EQ(in, 127);
    CHECK_EQ(ixm_reg(&r->ixgbe, 0x1430), lost);     /* for want of descriptors: it does not wait in the shared buffer */
    for (unsigned i = 0; i < 3; i++) {
        taken += rig_rx(r, 0);
        rig_complete(r, 0);
    }
    CHECK_EQ(taken, in);
    r->n.driver->read(&r->n, &state);
    CHECK_EQ(state.counter[NIC_COUNTER_rx_missed], lost);
    CHECK_EQ(state.counter[NIC_COUNTER_rx_packets], 300);
    r->ixgbe.tx_hold = true;
    for (unsigned i = 0; i < 300; i++)
        refused += rig_tx(r, 0, data, 60, US_VID_UNTAGGED, NULL) == DROP_ring_full;
    CHECK(refused >= 300 - 127);
    ixm_send(&r->ixgbe);
    CHECK_EQ(r->ixgbe.n_sent, 300 - refused);
    CHECK_EQ(rig_tx(r, 0, data, 60, US_VID_UNTAGGED, NULL), DROP_none);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

/* ---- offloads ---- */

TEST(checksum_status_becomes_data_valid)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();
    struct us_nic_state state = { 0 };

    REQUIRE(r);
    CHECK_EQ(rig_start(r, &cfg), 0);
    for (unsigned i = 0; i < 16; i++) {
        const struct rig_flow flow = { .ip6 = i & 1, .udp = i & 2, .tagged = i & 4, .from = 1, .to = 2, .sport = 3,
                                       .dport = 4, .flags = 0x10 };
        const uint32_t len = rig_packet(data, &flow, 200);

        if (i & 8)
            data[len - 1] ^= 1;
        REQUIRE(passes_in(r, data, len));
        CHECK_EQ(r->b.frame[0].vnet.flags, i & 8 ? 0 : VNET_DATA_VALID);
        CHECK_EQ(r->b.frame[0].vnet.gso_type, 0);
    }
    r->n.driver->read(&r->n, &state);
    CHECK_EQ(state.counter[NIC_COUNTER_rx_csum_errors], 8);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

/* A packet as a guest that leaves the checksum to others sends it: the pseudo header's sum stands in its place. */
static uint32_t unsummed(uint8_t *out, const struct rig_flow *flow, uint32_t payload, struct vnet *v)
{
    const uint32_t len = rig_packet(out, flow, payload);
    struct nic_packet p;

    nic_packet_parse(out, len, &p);
    nic_put16(out + p.l4 + (flow->udp ? 6 : 16), nic_pseudo_sum(out, &p, p.end - p.l4));
    *v = (struct vnet){ .flags = VNET_NEEDS_CSUM, .csum_start = (uint16_t)p.l4, .hdr_len = (uint16_t)p.payload,
                        .csum_offset = flow->udp ? 6 : 16 };
    return len;
}

TEST(checksums_are_completed)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();
    static uint8_t want[2048];

    REQUIRE(r);
    CHECK_EQ(rig_start(r, &cfg), 0);
    for (unsigned i = 0; i < 600; i++) {
        const struct rig_flow flow = { .ip6 = i & 1, .udp = i & 2, .from = i, .to = 2, .sport = 3, .dport = 4,
                                       .flags = 0x18, .seq = i };
        struct vnet v;
        const uint32_t len = unsummed(data, &flow, i % 4 < 2 ? i : 1400, &v);

        rig_packet(want, &flow, i % 4 < 2 ? i : 1400);
        CHECK_EQ(rig_tx(r, 0, data, len, i & 4 ? 5 : US_VID_UNTAGGED, &v), DROP_none);
        REQUIRE(CHECK_EQ(r->ixgbe.n_sent, 1));
        CHECK_EQ(r->ixgbe.sent[0].len, len + (i & 4 ? 4 : 0));
        CHECK_MEM(r->ixgbe.sent[0].data + (i & 4 ? 18 : 14), want + 14, len - 14);
        ixm_clear(&r->ixgbe);
    }
    CHECK(rig_stop(r));
    rig_destroy(r);
}

/* Do the segments on the wire make up the request, each with right headers? */
static void check_segments(struct rig *r, const struct rig_flow *flow, uint32_t payload, uint32_t mss, uint32_t tag)
{
    static uint8_t want[2048], whole[US_FRAME_MAX];
    const uint32_t len = rig_packet(whole, flow, payload);
    uint32_t done = 0, hdr;

    hdr = len - payload;
    for (uint32_t i = 0; i < r->ixgbe.n_sent; i++) {
        const struct ixm_frame *f = &r->ixgbe.sent[i];
        struct rig_flow part = *flow;
        const uint32_t n = payload - done < mss ? payload - done : mss;
        struct nic_packet p;

        part.id = (uint16_t)(flow->id + i);
        part.seq = flow->seq + done;
        part.flags = done + n == payload ? flow->flags & ~(i ? 0x80 : 0) : flow->flags & ~(i ? 0x89 : 0x09);
        rig_packet(want, &part, n);
        memcpy(want + hdr, whole + hdr + done, n);
        nic_packet_parse(want, hdr + n, &p);
        nic_csum_fill(want, &p);
        if (!CHECK_EQ(f->len, hdr + n + tag) || !CHECK_MEM(f->data + 14 + tag, want + 14, hdr + n - 14))
            return;
        done += n;
    }
    CHECK_EQ(done, payload);
}

TEST(requests_are_segmented)
{
    static const uint32_t payloads[] = { 1, 1000, 1001, 5000, 30000, 65000 };
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    struct nic_config cfg = rig_config();
    struct us_nic_state state = { 0 };
    uint64_t requests = 0;

    REQUIRE(r);
    cfg.ring_size = 256;
    CHECK_EQ(rig_start(r, &cfg), 0);
    for (unsigned i = 0; i < 24; i++) {
        const struct rig_flow flow = { .ip6 = i & 1, .from = i, .to = 2, .id = 0x1234, .sport = 3, .dport = 4,
                                       .seq = 0xffffff00, .flags = i & 4 ? 0x99 : 0x18 };
        const uint32_t payload = payloads[i % 6], mss = i & 2 ? 1000 : 700, tag = i & 4 ? 4 : 0;
        struct vnet v;
        const uint32_t len = unsummed(data, &flow, payload, &v);

        v.gso_type = (flow.ip6 ? VNET_GSO_TCPV6 : VNET_GSO_TCPV4) | (i & 4 ? VNET_GSO_ECN : 0);
        v.gso_size = (uint16_t)mss;
        CHECK_EQ(rig_tx(r, 0, data, len, tag ? 5 : US_VID_UNTAGGED, &v), DROP_none);
        check_segments(r, &flow, payload, mss, tag);
        ixm_clear(&r->ixgbe);
        requests++;
    }
    r->n.driver->read(&r->n, &state);
    CHECK_EQ(state.counter[NIC_COUNTER_tx_tso], requests);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

/* ---- a device that lies ---- */

/* What to write instead, in the descriptor with a certain number. */
struct lie {
    uint32_t index;
    uint64_t clear, set;
};

static void tell_lie(void *ctx, uint32_t queue, uint32_t index, uint64_t desc[2])
{
    const struct lie *l = ctx;

    if (queue == 0 && index == l->index)
        desc[1] = (desc[1] & ~l->clear) | l->set;
}

/* One good frame, a lie, another good frame. */
static void receive_lie(const struct lie *l, bool fatal, unsigned frames)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();
    unsigned n = 0;

    REQUIRE(r);
    CHECK_EQ(rig_start(r, &cfg), 0);
    r->ixgbe.mangle = tell_lie;
    r->ixgbe.mangle_ctx = (void *)(uintptr_t)l;
    fill(data, 100, 1);
    for (unsigned i = 0; i < 3; i++)
        ixm_receive(&r->ixgbe, data, 100);
    for (unsigned i = 0; i < 3; i++) {
        n += rig_rx(r, 0);
        rig_complete(r, 0);
    }
    CHECK_EQ(n, frames);
    CHECK_EQ(atomic_load(&r->n.failed), fatal);
    if (fatal)
        CHECK_EQ(atomic_load(&r->n.port.broken), BREAK_nic_descriptor);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

TEST(lengths_that_cannot_be_are_fatal)
{
    receive_lie(&(struct lie){ .index = 1, .set = 0xffffull << 32 }, true, 1);
    receive_lie(&(struct lie){ .index = 1, .clear = 0xffffull << 32, .set = 2049ull << 32 }, true, 1);
}

TEST(a_damaged_or_empty_frame_is_dropped)
{
    receive_lie(&(struct lie){ .index = 1, .clear = 0xffffull << 32 }, false, 2);
    receive_lie(&(struct lie){ .index = 1, .set = 1u << 29 }, false, 2);
}

TEST(a_frame_without_end_is_fatal)
{
    struct rig *r = rig_create(&rig_ixgbe, IXM_82599);
    const struct nic_config cfg = rig_config();

    REQUIRE(r);
    CHECK_EQ(rig_start(r, &cfg), 0);
    fill(data, 1500, 1);
    for (unsigned i = 0; i < 127; i++) {
        r->ixgbe.mangle = tell_lie;
        r->ixgbe.mangle_ctx = &(struct lie){ .index = i, .clear = 2 };
        ixm_receive(&r->ixgbe, data, 1500);
    }
    for (unsigned i = 0; i < 4; i++) {
        CHECK_EQ(rig_rx(r, 0), 0);
        rig_complete(r, 0);
    }
    CHECK_EQ(atomic_load(&r->n.failed), 1);
    CHECK(rig_stop(r));
    rig_destroy(r);
}

MAIN
{
    RUN(every_size_is_received);
    RUN(every_size_is_sent);
    RUN(a_tag_is_written_between_addresses_and_type);
    RUN(jumbo_frames_take_several_buffers);
    RUN(a_full_ring_loses_and_goes_on);
    RUN(checksum_status_becomes_data_valid);
    RUN(checksums_are_completed);
    RUN(requests_are_segmented);
    RUN(lengths_that_cannot_be_are_fatal);
    RUN(a_damaged_or_empty_frame_is_dropped);
    RUN(a_frame_without_end_is_fatal);
}
