/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_virtq_rx.c - frames out of a guest's transmit ring: every shape a legal
 * driver may give them, content included, and the budgets of a burst.  What no
 * legal driver does is in test_virtq_rx_hostile.c.
 */
#include "harness.h"

#include "vhost/driver.h"

static struct driver d;
static struct burst b;
static uint8_t want[US_FRAME_MAX + 64], got[US_FRAME_MAX + 64];

/* A virtio-net header of zeros and a frame, contiguous in guest memory. */
static void place(uint64_t gpa, uint32_t hdr_len, uint32_t len, uint32_t seed)
{
    static const uint8_t zero[12];

    drv_pattern(want, len, seed);
    drv_write(&d, gpa, zero, hdr_len);
    drv_write(&d, gpa + hdr_len, want, len);
}

/* Frame i of the burst is the pattern of that seed. */
static bool frame_is(unsigned i, uint32_t len, uint32_t seed)
{
    drv_pattern(want, len, seed);
    return i < b.n && b.frame[i].len == len && drv_gather(&b.frame[i], got, sizeof(got)) == len &&
           memcmp(got, want, len) == 0;
}

static bool used_is(uint32_t want_id)
{
    uint32_t id, len;

    return drv_used(&d.tx, &id, &len) && id == want_id && len == 0;
}

TEST(single_descriptor_all_lengths)
{
    static const uint32_t lens[] = { 14, 15, 42, 59, 60, 63, 64, 65, 66, 127, 128, 129, 200, 1514, 9014 };

    drv_create(&d, F_V1, 64);
    for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        place(DRV_BUF + i, 12, lens[i], i);
        drv_one(&d.tx, (uint16_t)(i % 64), DRV_BUF + i, 12 + lens[i], 0);
        CHECK_EQ(drv_rx(&d, &b), 1);
        CHECK(frame_is(0, lens[i], i));
        CHECK_EQ(b.frame[0].hdr_len, lens[i] < SNAP_SHORT ? lens[i] : SNAP_SHORT);
        CHECK_EQ(b.frame[0].vnet.flags | b.frame[0].vnet.gso_type, 0);
        CHECK(used_is(i % 64));
    }
    CHECK_EQ(drv_drops(&d), 0);
    drv_destroy(&d);
}

TEST(n2_header_length_follows_features)
{
    static const struct { uint64_t features; uint32_t hdr_len; } row[] = {
        { 0, 10 }, { F_MRG, 12 }, { F_V1, 12 }, { F_V1 | F_MRG, 12 }, { F_INDIRECT | F_EVENT, 10 },
    };

    drv_create(&d, F_V1, 16);
    for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        CHECK_EQ(drv_restart(&d, row[i].features, 16), 0);
        place(DRV_BUF, row[i].hdr_len, 100, i);
        drv_one(&d.tx, 3, DRV_BUF, row[i].hdr_len + 100, 0);
        CHECK_EQ(drv_rx(&d, &b), 1);
        CHECK(frame_is(0, 100, i));
    }
    drv_destroy(&d);
}

TEST(burst_of_64_in_order)
{
    drv_create(&d, F_V1, 256);
    for (uint16_t i = 0; i < 100; i++) {
        place(DRV_BUF + i * 2048u, 12, 60 + i, i);
        drv_desc(&d.tx, 255 - i, DRV_BUF + i * 2048u, 12 + 60 + i, 0, 0);
        drv_offer(&d.tx, 255 - i);
    }
    drv_publish(&d.tx);
    CHECK_EQ(drv_rx(&d, &b), 64);
    for (unsigned i = 0; i < 64; i++)
        CHECK(frame_is(i, 60 + i, i));
    for (unsigned i = 0; i < 64; i++)
        CHECK(used_is(255 - i));
    CHECK_EQ(d.state->ring[1].last_avail, 64);
    CHECK_EQ(d.state->ring[1].used_idx, 64);
    CHECK_EQ(drv_rx(&d, &b), 36);
    CHECK_EQ(drv_rx(&d, &b), 0);
    drv_destroy(&d);
}

TEST(chain_of_header_and_data)
{
    drv_create(&d, F_V1, 64);
    for (uint32_t split = 1; split < 80; split++) {
        place(DRV_BUF, 12, 300, split);
        drv_desc(&d.tx, 5, DRV_BUF, split, D_NEXT, 9);
        drv_desc(&d.tx, 9, DRV_BUF + split, 312 - split, 0, 0);
        drv_offer(&d.tx, 5);
        drv_publish(&d.tx);
        CHECK_EQ(drv_rx(&d, &b), 1);
        CHECK(frame_is(0, 300, split));
        CHECK(used_is(5));
    }
    drv_destroy(&d);
}

TEST(indirect_table)
{
    drv_create(&d, F_V1 | F_INDIRECT, 16);
    place(DRV_BUF, 12, 1000, 1);
    /* More segments than the ring is long, as Linux makes them. */
    for (uint32_t i = 0; i < 20; i++)
        drv_table(&d, DRV_TABLE, i, DRV_BUF + (i ? 12 + (i - 1) * 50 : 0), i == 0 ? 12 : i < 19 ? 50 : 100,
                  i < 19 ? D_NEXT : 0, (uint16_t)(i + 1));
    drv_one(&d.tx, 0, DRV_TABLE, 20 * 16, D_INDIRECT | D_WRITE); /* 2.7.5.3.2: WRITE means nothing here */
    CHECK_EQ(drv_rx(&d, &b), 1);
    CHECK(frame_is(0, 1000, 1));
    CHECK(used_is(0));
    drv_destroy(&d);
}

/* A burst whose frames alternate between regions and shapes. */
TEST(regions_and_shapes_mixed)
{
    drv_create(&d, F_V1, 64);
    for (uint16_t i = 0; i < 20; i++) {
        const uint64_t at = (i & 1 ? DRV_BORDER : DRV_BUF) + i * 4096u;

        place(at, 12, 90 + i, i);
        drv_desc(&d.tx, i, at, i % 3 ? 102u + i : 12, i % 3 ? 0 : D_NEXT, (uint16_t)(i + 32));
        drv_desc(&d.tx, i + 32u, at + 12, 90u + i, 0, 0);
        drv_offer(&d.tx, i);
    }
    drv_publish(&d.tx);
    CHECK_EQ(drv_rx(&d, &b), 20);
    for (unsigned i = 0; i < 20; i++)
        CHECK(frame_is(i, 90 + i, i));
    drv_destroy(&d);
}

TEST(indexes_wrap)
{
    struct us_vhost_ring request;

    drv_create(&d, F_V1, 4);
    CHECK_EQ(vhost_port_ring_stop(d.port, 1), 0);
    drv_ring_place(&d, &d.tx, 1, 4);
    d.tx.avail_idx = d.tx.used_idx = 65530;
    d.tx.used->idx = cpu_to_le16(65530);
    drv_publish(&d.tx);
    request = drv_ring_request(&d, &d.tx);
    request.base = 65530;
    CHECK_EQ(vhost_port_ring_start(d.port, &request, d.tx.kick, d.tx.call), 0);
    for (uint32_t i = 0; i < 20; i++) {
        place(DRV_BUF, 12, 64, i);
        drv_one(&d.tx, (uint16_t)(i % 4), DRV_BUF, 76, 0);
        CHECK_EQ(drv_rx(&d, &b), 1);
        CHECK(frame_is(0, 64, i));
        CHECK(used_is(i % 4));
    }
    CHECK_EQ(vhost_port_ring_stop(d.port, 1), (65530 + 20) & 0xffff);
    drv_destroy(&d);
}

/* Lengths are bounded by the port's maximum, a tag not counted, unless a segmentation request says otherwise. */
TEST(max_frame_and_tag)
{
    const uint8_t tag[2] = { 0x81, 0x00 };

    drv_create(&d, F_V1, 16);
    atomic_store(&d.port->max_frame, 1514);
    for (unsigned i = 0; i < 4; i++) {
        const uint32_t len = i == 0 ? 1514 : i == 1 ? 1515 : i == 2 ? 1518 : 1519;

        place(DRV_BUF + i * 4096, 12, len, i);
        if (i >= 2)
            drv_write(&d, DRV_BUF + i * 4096 + 12 + 12, tag, 2);
        drv_one(&d.tx, (uint16_t)i, DRV_BUF + i * 4096, 12 + len, 0);
    }
    CHECK_EQ(drv_rx(&d, &b), 2);
    CHECK_EQ(b.frame[0].len, 1514);
    CHECK_EQ(b.frame[1].len, 1518);
    CHECK_EQ(drv_drops_in(&d, DROP_frame_long), 2);
    CHECK(used_is(0) && used_is(1) && used_is(2) && used_is(3));
    drv_destroy(&d);
}

static void put_vnet(uint64_t gpa, uint8_t flags, uint8_t gso, uint16_t hdr, uint16_t size, uint16_t start,
                     uint16_t offset)
{
    const uint8_t w[12] = { flags, gso, (uint8_t)hdr, (uint8_t)(hdr >> 8), (uint8_t)size, (uint8_t)(size >> 8),
                            (uint8_t)start, (uint8_t)(start >> 8), (uint8_t)offset, (uint8_t)(offset >> 8), 0, 0 };

    drv_write(&d, gpa, w, sizeof(w));
}

static const uint64_t all_host = VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) |
                                 VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6);

TEST(checksum_request_lengthens_the_snapshot)
{
    drv_create(&d, F_V1 | all_host, 16);
    for (uint32_t len = 60; len < 260; len++) {
        place(DRV_BUF, 12, len, len);
        put_vnet(DRV_BUF, 1, 0, 0, 0, 34, 16);
        if (len & 1) { /* the general path must do the same */
            drv_desc(&d.tx, 1, DRV_BUF, 30, D_NEXT, 2);
            drv_desc(&d.tx, 2, DRV_BUF + 30, 12 + len - 30, 0, 0);
            drv_offer(&d.tx, 1);
            drv_publish(&d.tx);
        } else {
            drv_one(&d.tx, 1, DRV_BUF, 12 + len, 0);
        }
        CHECK_EQ(drv_rx(&d, &b), 1);
        CHECK(frame_is(0, len, len));
        CHECK_EQ(b.frame[0].hdr_len, len < SNAP_SIZE ? len : SNAP_SIZE);
        CHECK_EQ(b.frame[0].n_iov == 0, len <= SNAP_SIZE);
        CHECK_EQ(b.frame[0].vnet.flags, VNET_NEEDS_CSUM);
        CHECK_EQ(b.frame[0].vnet.csum_start, 34);
        CHECK_EQ(b.frame[0].vnet.csum_offset, 16);
    }
    drv_destroy(&d);
}

TEST(segmentation_request_may_be_long)
{
    drv_create(&d, F_V1 | all_host, 64);
    for (uint32_t len = 65550; len <= US_FRAME_MAX; len += 12) {
        place(DRV_BUF, 12, len, len);
        put_vnet(DRV_BUF, 1, 1, 54, 1448, 34, 16);
        drv_one(&d.tx, 1, DRV_BUF, 12 + len, 0);
        CHECK_EQ(drv_rx(&d, &b), 1);
        CHECK(frame_is(0, len, len));
        CHECK_EQ(b.frame[0].vnet.gso_type, VNET_GSO_TCPV4);
        CHECK_EQ(b.frame[0].hdr_len, SNAP_SIZE);
    }
    CHECK_EQ(drv_drops(&d), 0);
    drv_destroy(&d);
}

TEST(offloads_not_negotiated_are_refused)
{
    drv_create(&d, F_V1, 16);
    place(DRV_BUF, 12, 100, 1);
    put_vnet(DRV_BUF, 1, 0, 0, 0, 34, 16);
    drv_one(&d.tx, 1, DRV_BUF, 112, 0);
    put_vnet(DRV_BUF + 4096, 1, 1, 54, 1448, 34, 16);
    drv_one(&d.tx, 2, DRV_BUF + 4096, 5000, 0);
    CHECK_EQ(drv_rx(&d, &b), 0);
    CHECK_EQ(drv_drops_in(&d, DROP_vnet_csum) + drv_drops_in(&d, DROP_vnet_gso), 2);
    CHECK(used_is(1) && used_is(2));
    drv_destroy(&d);
}

/* BURST_BYTES, at least one frame: what does not fit comes with the next burst. */
TEST(burst_has_a_byte_budget)
{
    unsigned total = 0, bursts = 0, n;

    drv_create(&d, F_V1 | all_host, 64);
    for (uint16_t i = 0; i < 16; i++) {
        place(DRV_BUF + i * 65600u, 12, US_FRAME_MAX, i);
        put_vnet(DRV_BUF + i * 65600u, 1, 1, 54, 1448, 34, 16);
        drv_desc(&d.tx, i, DRV_BUF + i * 65600u, 12 + US_FRAME_MAX, 0, 0);
        drv_offer(&d.tx, i);
    }
    drv_publish(&d.tx);
    for (; (n = drv_rx(&d, &b)) != 0 && bursts < 100; bursts++) {
        uint64_t bytes = 0;

        for (unsigned i = 0; i < n; i++) {
            CHECK(frame_is(i, US_FRAME_MAX, total + i));
            bytes += b.frame[i].len;
        }
        CHECK(bytes <= BURST_BYTES);
        total += n;
    }
    CHECK_EQ(total, 16);
    CHECK_EQ(bursts, 6); /* three at a time */
    drv_destroy(&d);
}

MAIN
{
    RUN(single_descriptor_all_lengths);
    RUN(n2_header_length_follows_features);
    RUN(burst_of_64_in_order);
    RUN(chain_of_header_and_data);
    RUN(indirect_table);
    RUN(regions_and_shapes_mixed);
    RUN(indexes_wrap);
    RUN(max_frame_and_tag);
    RUN(checksum_request_lengthens_the_snapshot);
    RUN(segmentation_request_may_be_long);
    RUN(offloads_not_negotiated_are_refused);
    RUN(burst_has_a_byte_budget);
}
