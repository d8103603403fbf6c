/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_igb_tx.c - frames to the wire through the igb driver: every size, tags,
 * checksums and segments byte for byte against packets made anew, full and
 * wrapped rings, and what must not reach the device.
 */
#include "harness.h"
#include "nic/rig.h"
#include "nic/intel_ring.h"
#include "nic/nic_counter.h"
#include "nic/nic_math.h"

#define LONGEST 9720u
#define WIRE_MIN 60u
#define VID 100

static const struct rig_flow flow4 = { .from = 0x0a000001, .to = 0x0a000002, .sport = 1000, .dport = 80,
                                       .id = 0xfffe, .seq = 0xffffff00, .flags = 0x10 };

static uint8_t frame[70000], want[70000];

static const struct intel_tx *ring_of(const struct rig *r)
{
    return r->n.queue[0].tx;
}

/* The only frame on the wire. */
static void check_sent(struct rig *r, const uint8_t *bytes, uint32_t len)
{
    if (CHECK_EQ(r->igb.n_sent, 1) && CHECK_EQ(r->igb.sent[0].len, len))
        CHECK_MEM(r->igb.sent[0].data, bytes, len);
    igm_clear(&r->igb);
}

TEST(every_size_leaves)
{
    struct rig *const r = rig_up(&rig_igb, 1, 128, LONGEST);

    REQUIRE(r);
    for (uint32_t len = ETH_HDR_LEN; len <= LONGEST; len++) {
        rig_pattern(frame, len, len);
        REQUIRE(rig_tx(r, 0, frame, len, US_VID_UNTAGGED, NULL) == DROP_none);
        if (len < WIRE_MIN)     /* padded with zeros, not with what lay there */
            memset(frame + len, 0, WIRE_MIN - len);
        check_sent(r, frame, len < WIRE_MIN ? WIRE_MIN : len);
    }
    CHECK(rig_down(r));
}

/* An emulated adapter may need a buffer in one piece of its machine's memory. */
TEST(no_buffer_lies_in_two_pages)
{
    struct rig *const r = rig_up(&rig_igb, 1, 128, LONGEST);
    bool seen[128] = { false };
    unsigned n = 0, torn = 0;

    REQUIRE(r);
    for (unsigned i = 0; i < 4 * 128; i++) {
        rig_pattern(frame, i % 5 ? 2048 : LONGEST, i);
        REQUIRE(rig_tx(r, 0, frame, i % 5 ? 2048 : LONGEST, US_VID_UNTAGGED, NULL) == DROP_none);
        igm_clear(&r->igb);
        for (unsigned k = 0; k < 128; k++) {
            const uint64_t word = intel_desc_load(&ring_of(r)->desc[k]), addr = le64_to_cpu(ring_of(r)->desc[k].addr);

            if (word == 0 || (word & INTEL_TX_DD))      /* not used yet, or written over by the device */
                continue;
            torn += addr % 4096 + 2048 > 4096;
            n += !seen[k];
            seen[k] = true;
        }
    }
    CHECK_EQ(n, 128);
    CHECK_EQ(torn, 0);
    CHECK(rig_down(r));
}

TEST(the_tag_is_written_beside_the_addresses)
{
    struct rig *const r = rig_up(&rig_igb, 1, 128, LONGEST);

    REQUIRE(r);
    for (uint32_t len = ETH_HDR_LEN; len <= LONGEST; len += len < 200 || len > 2000 ? 1 : 7) {
        rig_pattern(frame, len, len);
        REQUIRE(rig_tx(r, 0, frame, len, VID, NULL) == DROP_none);
        memset(want, 0, WIRE_MIN);
        memcpy(want, frame, 12);
        memcpy(want + 12, "\x81\x00\x60\x64", 4);
        memcpy(want + 16, frame + 12, len - 12);
        check_sent(r, want, len + 4 < WIRE_MIN ? WIRE_MIN : len + 4);
    }
    CHECK(rig_down(r));
}

TEST(checksums_are_inserted)
{
    struct rig *const r = rig_up(&rig_igb, 1, 256, LONGEST);

    REQUIRE(r);
    for (unsigned i = 0; i < 8; i++) {
        struct rig_flow flow = flow4;

        flow.ip6 = i & 1;
        flow.udp = i & 2;
        for (uint32_t payload = 0; payload < 9000; payload += payload < 100 ? 1 : 777) {
            uint32_t len;
            struct vnet v;

            flow.tagged = false;
            flow.seq = payload;
            len = rig_packet(frame, &flow, payload);
            v = rig_request(frame, len, 0);
            REQUIRE(rig_tx(r, 0, frame, len, i & 4 ? VID : US_VID_UNTAGGED, &v) == DROP_none);
            flow.tagged = i & 4;
            memset(want, 0, WIRE_MIN);
            len = rig_packet(want, &flow, payload);
            check_sent(r, want, len < WIRE_MIN ? WIRE_MIN : len);
        }
    }
    CHECK(rig_down(r));
}

TEST(a_context_is_given_only_when_it_changes)
{
    struct rig *const r = rig_up(&rig_igb, 1, 256, 1514);
    struct rig_flow flow = flow4;
    uint32_t len, before;
    struct vnet v;

    REQUIRE(r);
    for (unsigned i = 0; i < 10; i++) {
        len = rig_packet(frame, &flow, 100);
        v = rig_request(frame, len, 0);
        CHECK_EQ(rig_tx(r, 0, frame, len, US_VID_UNTAGGED, &v), DROP_none);
        CHECK_EQ(rig_tx(r, 0, frame, len, US_VID_UNTAGGED, NULL), DROP_none);   /* needs none */
    }
    CHECK_EQ(ring_of(r)->pos, 1 + 20);
    before = ring_of(r)->pos;
    flow.udp = true;
    len = rig_packet(frame, &flow, 100);
    v = rig_request(frame, len, 0);
    CHECK_EQ(rig_tx(r, 0, frame, len, US_VID_UNTAGGED, &v), DROP_none);
    CHECK_EQ(rig_tx(r, 0, frame, len, VID, &v), DROP_none);     /* the tag makes a header longer */
    CHECK_EQ(ring_of(r)->pos, before + 4);
    CHECK(rig_down(r));
}

/* What segment @i of a packet must be: a packet of its own. */
static uint32_t make_segment(uint8_t *out, const struct rig_flow *whole, uint32_t i, uint32_t size, uint32_t payload)
{
    const uint32_t done = i * size, n = payload - done < size ? payload - done : size;
    struct rig_flow flow = *whole;

    flow.id = (uint16_t)(whole->id + i);
    flow.seq = whole->seq + done;
    if (done + n < payload)
        flow.flags &= (uint8_t)~0x09;   /* FIN, PSH */
    if (i > 0)
        flow.flags &= (uint8_t)~0x80;   /* CWR */
    return rig_packet(out, &flow, n);
}

static void send_segments(struct rig *r, struct rig_flow flow, uint32_t payload, uint32_t size, uint16_t vid)
{
    const uint32_t n = (payload + size - 1) / size;
    struct vnet v;
    uint32_t len;

    flow.tagged = false;
    len = rig_packet(frame, &flow, payload);
    v = rig_request(frame, len, size);
    if (flow.flags & 0x80)
        v.gso_type |= VNET_GSO_ECN;
    REQUIRE(rig_tx(r, 0, frame, len, vid, &v) == DROP_none);
    REQUIRE(r->igb.n_sent == n);
    flow.tagged = vid != US_VID_UNTAGGED;
    for (uint32_t i = 0; i < n; i++) {
        len = make_segment(want, &flow, i, size, payload);
        REQUIRE(r->igb.sent[i].len == len);
        CHECK_MEM(r->igb.sent[i].data, want, len);
    }
    igm_clear(&r->igb);
}

TEST(segments_are_cut)
{
    static const uint32_t payloads[] = { 1, 48, 49, 1447, 1448, 1449, 2048, 4096 - 66, 30000, 64000 };
    static const uint32_t sizes[] = { 48, 536, 1447, 1448 };
    struct rig *const r = rig_up(&rig_igb, 1, 256, 1514);
    struct us_nic_state s = { 0 };

    REQUIRE(r);
    for (unsigned i = 0; i < 32; i++) {
        struct rig_flow flow = flow4;

        flow.ip6 = i & 1;
        flow.flags = i & 2 ? 0x99 : 0x10;       /* CWR, ACK, PSH, FIN */
        flow.bare = i & 4;
        for (unsigned k = 0; k < sizeof(payloads) / sizeof(payloads[0]); k++) {
            const uint32_t size = sizes[i / 8];

            if (!flow.ip6 || size <= 1428)
                send_segments(r, flow, payloads[k], size, k % 2 ? VID : US_VID_UNTAGGED);
        }
    }
    r->n.driver->read(&r->n, &s);
    CHECK(s.counter[NIC_COUNTER_tx_tso] > 100);
    CHECK(rig_down(r));
}

/* 5.1.6.2 lets a sender ask for a sum anywhere: what the device cannot do is done in the copy. */
TEST(checksums_at_any_place_are_completed_in_software)
{
    struct rig *const r = rig_up(&rig_igb, 1, 128, LONGEST);

    REQUIRE(r);
    for (uint32_t i = 0; i < 2000; i++) {
        const uint32_t len = 60 + i * 37 % 9000, start = 14 + i * 13 % (len - 20), offset = i * 7 % (len - start - 1);
        struct vnet v = { .flags = VNET_NEEDS_CSUM, .csum_start = (uint16_t)start, .csum_offset = (uint16_t)offset };
        const uint16_t vid = i % 2 ? VID : US_VID_UNTAGGED;
        const uint32_t shift = i % 2 ? 4 : 0;
        uint16_t sum;

        rig_pattern(frame, len, i);
        REQUIRE(rig_tx(r, 0, frame, len, vid, &v) == DROP_none);
        sum = (uint16_t)~nic_sum(frame + start, len - start, 0);
        nic_put16(frame + start + offset, sum ? sum : 0xffff);
        REQUIRE(r->igb.n_sent == 1 && r->igb.sent[0].len == len + shift);
        CHECK_MEM(r->igb.sent[0].data, frame, 12);
        CHECK_MEM(r->igb.sent[0].data + 12 + shift, frame + 12, len - 12);
        igm_clear(&r->igb);
    }
    CHECK(rig_down(r));
}

TEST(what_the_device_cannot_segment_never_reaches_it)
{
    struct rig *const r = rig_up(&rig_igb, 1, 128, 1514);
    const uint32_t len = rig_packet(frame, &flow4, 5000);
    const struct vnet good = rig_request(frame, len, 1000);
    struct vnet v;

    REQUIRE(r);
    v = good;
    v.gso_size = 1449;                          /* 66 bytes of headers */
    CHECK_EQ(rig_tx(r, 0, frame, len, US_VID_UNTAGGED, &v), DROP_mtu);
    v = good;
    v.gso_type = VNET_GSO_UDP_L4;
    CHECK_EQ(rig_tx(r, 0, frame, len, US_VID_UNTAGGED, &v), DROP_offload);
    v = good;
    v.gso_type = VNET_GSO_TCPV6;
    CHECK_EQ(rig_tx(r, 0, frame, len, US_VID_UNTAGGED, &v), DROP_offload);
    v = good;
    v.gso_size = 0;
    CHECK_EQ(rig_tx(r, 0, frame, len, US_VID_UNTAGGED, &v), DROP_offload);
    v = good;
    v.csum_start += 4;
    CHECK_EQ(rig_tx(r, 0, frame, len, US_VID_UNTAGGED, &v), DROP_offload);
    for (uint32_t at = 12; at < 50; at++) {     /* any byte of the headers gone wrong: refused or harmless */
        frame[at] ^= 0xff;
        (void)rig_tx(r, 0, frame, len, US_VID_UNTAGGED, &good);
        frame[at] ^= 0xff;
    }
    igm_clear(&r->igb);
    for (uint32_t doff = 0; doff < 16; doff++) {
        frame[46] = (uint8_t)(doff << 4);
        CHECK_EQ(rig_tx(r, 0, frame, len, US_VID_UNTAGGED, &good), doff < 5 ? DROP_offload : DROP_none);
    }
    frame[46] = 0x80;
    CHECK_EQ(rig_tx(r, 0, frame, 66, US_VID_UNTAGGED, &good), DROP_offload);    /* headers alone */
    CHECK_EQ(rig_tx(r, 0, frame, 60, US_VID_UNTAGGED, &good), DROP_offload);    /* not even these */
    CHECK(rig_down(r));
}

/* IPv6 extension headers are part of the header's length; a routing header is not the device's. */
TEST(extension_headers)
{
    struct rig *const r = rig_up(&rig_igb, 1, 128, 1514);
    struct rig_flow flow = flow4;
    uint32_t len;
    struct vnet v;

    REQUIRE(r);
    flow.ip6 = true;
    len = rig_packet(frame, &flow, 3000);
    v = rig_request(frame, len, 1000);
    memmove(frame + 62, frame + 54, len - 54);
    memset(frame + 54, 0, 8);
    frame[20] = 60;             /* destination options, then TCP */
    frame[54] = 6;
    v.csum_start += 8;
    CHECK_EQ(rig_tx(r, 0, frame, len + 8, US_VID_UNTAGGED, &v), DROP_none);
    CHECK_EQ(r->igb.n_sent, 3);
    if (r->igb.n_sent)
        CHECK_EQ(nic_get16(r->igb.sent[0].data + 18), 8 + 32 + 1000);
    frame[20] = 43;
    CHECK_EQ(rig_tx(r, 0, frame, len + 8, US_VID_UNTAGGED, &v), DROP_offload);
    CHECK(rig_down(r));
}

TEST(a_full_ring_takes_no_more_until_the_device_reports)
{
    struct rig *const r = rig_up(&rig_igb, 1, 128, LONGEST);
    uint32_t sent = 0;

    REQUIRE(r);
    for (uint32_t round = 0; round < 20; round++) {
        uint32_t taken = 0;

        r->igb.tx_hold = true;
        for (uint32_t i = 0; i < 200; i++) {
            rig_pattern(frame, 60 + i, i);
            if (rig_tx(r, 0, frame, 60 + i, US_VID_UNTAGGED, NULL) == DROP_none)
                taken++;
            else
                CHECK(i >= 127 - INTEL_RS_EVERY);
        }
        CHECK(taken <= 127 && taken > 127 - INTEL_RS_EVERY);
        CHECK_EQ(r->igb.n_sent, sent);
        r->igb.tx_hold = false;
        igm_send(&r->igb);
        sent += taken;
        CHECK_EQ(r->igb.n_sent, sent);
    }
    CHECK(rig_down(r));
}

/* A device that says "sent" too early spoils its own frames, and nothing else. */
static void lie(void *ctx, bool tx, uint32_t index, uint64_t desc[2])
{
    (void)ctx;
    (void)index;
    if (tx) {
        desc[0] = ~0ull;
        desc[1] = ~0ull;
    }
}

TEST(whatever_the_device_writes_into_transmit_descriptors)
{
    struct rig *const r = rig_up(&rig_igb, 1, 128, LONGEST);

    REQUIRE(r);
    r->igb.e.mangle = lie;
    for (uint32_t i = 0; i < 1000; i++) {
        rig_pattern(frame, 60 + i, i);
        REQUIRE(rig_tx(r, 0, frame, 60 + i, US_VID_UNTAGGED, NULL) == DROP_none);
        check_sent(r, frame, 60 + i);
    }
    CHECK(rig_down(r));
}

TEST(a_device_that_stopped_sending_blocks_nobody)
{
    struct rig *const r = rig_up(&rig_igb, 1, 128, LONGEST);
    const struct nic_config cfg = rig_config();
    unsigned full = 0;

    REQUIRE(r);
    r->igb.tx_hold = true;
    rig_pattern(frame, 60, 0);
    for (unsigned i = 0; i < 1000; i++)
        full += rig_tx(r, 0, frame, 60, US_VID_UNTAGGED, NULL) == DROP_ring_full;
    CHECK_EQ(full, 1000 - 127);
    r->n.driver->stop(&r->n);
    r->igb.tx_hold = false;
    CHECK_EQ(rig_start(r, &cfg), 0);
    CHECK_EQ(rig_tx(r, 0, frame, 60, US_VID_UNTAGGED, NULL), DROP_none);
    check_sent(r, frame, 60);
    CHECK(rig_down(r));
}

/* All kinds in all orders, so that every one of them crosses the end of the ring. */
TEST(any_mixture)
{
    struct rig *const r = rig_up(&rig_igb, 1, 136, LONGEST);
    uint64_t x = 88172645463325252ull;

    REQUIRE(r);
    for (uint32_t i = 0; i < 20000; i++) {
        const uint16_t vid = x & 0x10000 ? VID : US_VID_UNTAGGED;
        struct rig_flow flow = flow4;
        uint32_t len, n;
        struct vnet v;

        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        n = 1 + (uint32_t)(x >> 8) % 3000;
        flow.ip6 = x & 1;
        flow.udp = x & 2;
        flow.seq = i;
        if ((x & 0x70) == 0 && !flow.udp) {
            send_segments(r, flow, n * 20, 1400, vid);
            continue;
        }
        len = rig_packet(frame, &flow, n);
        if (x & 4)
            v = rig_request(frame, len, 0);
        REQUIRE(rig_tx(r, 0, frame, len, vid, x & 4 ? &v : NULL) == DROP_none);
        flow.tagged = vid != US_VID_UNTAGGED;
        memset(want, 0, WIRE_MIN);
        len = rig_packet(want, &flow, n);
        check_sent(r, want, len < WIRE_MIN ? WIRE_MIN : len);
    }
    CHECK(rig_down(r));
}

MAIN
{
    RUN(every_size_leaves);
    RUN(no_buffer_lies_in_two_pages);
    RUN(the_tag_is_written_beside_the_addresses);
    RUN(checksums_are_inserted);
    RUN(a_context_is_given_only_when_it_changes);
    RUN(segments_are_cut);
    RUN(checksums_at_any_place_are_completed_in_software);
    RUN(what_the_device_cannot_segment_never_reaches_it);
    RUN(extension_headers);
    RUN(a_full_ring_takes_no_more_until_the_device_reports);
    RUN(whatever_the_device_writes_into_transmit_descriptors);
    RUN(a_device_that_stopped_sending_blocks_nobody);
    RUN(any_mixture);
}
