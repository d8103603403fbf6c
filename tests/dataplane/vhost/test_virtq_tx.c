/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_virtq_tx.c - frames into a guest's receive ring: legal buffers of every
 * shape, the bytes the guest finds in them, and full rings.  What no legal
 * driver does is in test_virtq_tx_hostile.c.
 */
#include "harness.h"

#include "vhost/driver.h"

#define CANARY 0xc5

static struct driver d;
static struct drv_frame frame[BURST_MAX];
static uint8_t got[2 * US_FRAME_MAX];

/* A buffer of the guest's, filled with canaries. */
static void buffer(uint64_t gpa, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        *(uint8_t *)drv_ptr(&d, gpa + i) = CANARY;
}

static bool canaries(uint64_t gpa, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        if (*(uint8_t *)drv_ptr(&d, gpa + i) != CANARY)
            return false;
    }
    return true;
}

static bool used_is(uint32_t want_id, uint32_t want_len)
{
    uint32_t id, len;

    return drv_used(&d.rx, &id, &len) && CHECK_EQ(id, want_id) && CHECK_EQ(len, want_len);
}

/* At gpa: a plain header that says one buffer, the frame, and nothing behind it. */
static bool arrived(uint64_t gpa, uint32_t hdr_len, const struct drv_frame *f)
{
    static const uint8_t plain[12] = { [10] = 1 };

    drv_read(&d, gpa, got, hdr_len + f->f.len);
    return memcmp(got, plain, hdr_len) == 0 && memcmp(got + hdr_len, f->data, f->f.len) == 0 &&
           canaries(gpa + hdr_len + f->f.len, 64);
}

TEST(all_lengths_into_one_buffer)
{
    static const struct { uint64_t features; uint32_t hdr_len; } row[] = {
        { 0, 10 }, { F_MRG, 12 }, { F_V1, 12 }, { F_V1 | F_MRG, 12 },
    };

    drv_create(&d, F_V1, 16);
    for (unsigned r = 0; r < 4; r++) {
        CHECK_EQ(drv_restart(&d, row[r].features, 16), 0);
        for (uint32_t len = 14; len < 9014; len += len < 300 ? 1 : 171) {
            buffer(DRV_BUF, 9200);
            drv_one(&d.rx, (uint16_t)(len % 16), DRV_BUF, 9100, D_WRITE);
            drv_frame(&frame[0], len, len);
            CHECK_EQ(drv_tx(&d, &frame[0]), 1);
            CHECK(used_is(len % 16, row[r].hdr_len + len));
            CHECK(arrived(DRV_BUF, row[r].hdr_len, &frame[0]));
        }
    }
    CHECK_EQ(drv_drops(&d), 0);
    drv_destroy(&d);
}

/* The tag goes between the addresses and the type, and offsets in the header move with it. */
TEST(egress_tag)
{
    static const uint8_t tag[4] = { 0x81, 0x00, 0x60 | 0x01, 0x23 };

    drv_create(&d, F_V1 | VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM), 16);
    for (uint32_t len = 14; len < 1600; len += 13) {
        for (unsigned pieces = 1; pieces < 3; pieces++) { /* fast path, general path */
            const uint32_t first = pieces == 1 ? 2000 : 12;

            buffer(DRV_BUF, 2100);
            drv_desc(&d.rx, 0, DRV_BUF, first, D_WRITE | (pieces == 1 ? 0 : D_NEXT), 1);
            drv_desc(&d.rx, 1, DRV_BUF + first, 2000 - first, D_WRITE, 0);
            drv_offer(&d.rx, 0);
            drv_publish(&d.rx);
            drv_frame(&frame[0], len, len);
            frame[0].f.out_vid = 0x123;
            frame[0].f.pcp = 0x6000;
            frame[0].f.vnet = (struct vnet){ .flags = VNET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16 };
            CHECK_EQ(drv_tx(&d, &frame[0]), 1);
            CHECK(used_is(0, 12 + len + 4));
            drv_read(&d, DRV_BUF, got, 12 + len + 4);
            CHECK_EQ(got[0], VNET_NEEDS_CSUM);
            CHECK_EQ(got[6], 38);
            CHECK_EQ(got[8], 16);
            CHECK_EQ(got[10], 1);
            CHECK_MEM(got + 12, frame[0].data, 12);
            CHECK_MEM(got + 24, tag, 4);
            CHECK_MEM(got + 28, frame[0].data + 12, len - 12);
            CHECK(canaries(DRV_BUF + 12 + len + 4, 64));
        }
    }
    drv_destroy(&d);
}

/* A guest that did not negotiate GUEST_CSUM must not read about checksums. */
TEST(data_valid_only_for_those_who_know_it)
{
    static const uint64_t features[] = { F_V1, F_V1 | VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) };

    drv_create(&d, F_V1, 16);
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQ(drv_restart(&d, features[i], 16), 0);
        drv_one(&d.rx, 0, DRV_BUF, 2000, D_WRITE);
        drv_frame(&frame[0], 100, 1);
        frame[0].f.vnet.flags = VNET_DATA_VALID;
        CHECK_EQ(drv_tx(&d, &frame[0]), 1);
        drv_read(&d, DRV_BUF, got, 12);
        CHECK_EQ(got[0], i == 0 ? 0 : VNET_DATA_VALID);
    }
    drv_destroy(&d);
}

TEST(burst_is_published_once)
{
    struct frame *list[BURST_MAX];

    drv_create(&d, F_V1 | F_MRG, 256);
    for (uint16_t i = 0; i < 80; i++) {
        buffer(DRV_BUF + i * 2048u, 2048);
        drv_desc(&d.rx, i, DRV_BUF + i * 2048u, 1900, D_WRITE, 0);
        drv_offer(&d.rx, i);
    }
    drv_publish(&d.rx);
    for (uint32_t i = 0; i < 64; i++) {
        drv_frame(&frame[i], 60 + i * 20, i);
        frame[i].f.flooded = i & 1;
        list[i] = &frame[i].f;
    }
    CHECK_EQ(d.port->ops->tx_burst(d.port, list, 64), 64);
    for (uint32_t i = 0; i < 64; i++) {
        CHECK(used_is(i, 12 + 60 + i * 20));
        CHECK(arrived(DRV_BUF + i * 2048, 12, &frame[i]));
    }
    CHECK_EQ(drv_calls(&d.rx), 1);
    CHECK_EQ(d.state->out[0].frames, 64);
    CHECK_EQ(d.state->out[0].flooded, 32);
    CHECK_EQ(d.state->out[0].bursts, 1);
    CHECK_EQ(d.state->out[0].signals, 1);
    CHECK_EQ(d.state->ring[0].last_avail, 64);
    CHECK_EQ(d.state->ring[0].used_idx, 64);
    CHECK_EQ(d.port->ops->tx_burst(d.port, list, 64), 16);
    CHECK_EQ(drv_drops_out(&d, DROP_ring_full), 48);
    drv_destroy(&d);
}

/* Buffers of one size, each a chain of its own. */
static void offer_buffers(uint32_t n, uint32_t len)
{
    for (uint32_t i = 0; i < n; i++) {
        buffer(DRV_BUF + i * 4096, 4096);
        drv_desc(&d.rx, i, DRV_BUF + i * 4096, len, D_WRITE, 0);
        drv_offer(&d.rx, (uint16_t)i);
    }
    drv_publish(&d.rx);
}

/* 5.1.6.4: a frame over many buffers, each used to its end, the header in the first says how many. */
TEST(mergeable_buffers)
{
    static const uint32_t size[] = { 12, 13, 26, 76, 128, 1526, 4096 };

    drv_create(&d, F_V1 | F_MRG, 1024);
    for (unsigned s = 0; s < sizeof(size) / sizeof(size[0]); s++) {
        for (uint32_t len = 14; len <= 9014 && (len + 12) / size[s] < 1000; len = len * 2 + 1) {
            const uint32_t total = 12 + len, n = (total + size[s] - 1) / size[s];
            uint32_t at = 0;

            CHECK_EQ(drv_restart(&d, F_V1 | F_MRG, 1024), 0);
            offer_buffers(n + 1, size[s]);
            drv_frame(&frame[0], len, len);
            CHECK_EQ(drv_tx(&d, &frame[0]), 1);
            for (uint32_t i = 0; i < n; i++) {
                const uint32_t part = total - at < size[s] ? total - at : size[s];

                CHECK(used_is(i, part));
                drv_read(&d, DRV_BUF + i * 4096, got + at, part);
                CHECK(canaries(DRV_BUF + i * 4096 + part, 4096 - part));
                at += part;
            }
            CHECK_EQ(got[10] | got[11] << 8, n);
            CHECK_MEM(got + 12, frame[0].data, len);
            CHECK_EQ(d.state->ring[0].last_avail, n);
        }
    }
    drv_destroy(&d);
}

/*
 * A burst looks as many chains ahead as it has frames.  A frame that takes more of them, up to the last there
 * is, leaves nothing that was looked at: what an earlier burst left on the stack must not be taken for it.
 */
TEST(a_frame_may_use_up_more_than_was_looked_at)
{
    struct frame *list[BURST_MAX];

    drv_create(&d, F_V1 | F_MRG, 256);
    for (uint32_t i = 0; i < BURST_MAX; i++) {
        drv_frame(&frame[i], 60, i);
        list[i] = &frame[i].f;
    }
    for (uint32_t chains = 4; chains <= 80; chains += 19) {
        CHECK_EQ(drv_restart(&d, F_V1 | F_MRG, 256), 0);
        offer_buffers(BURST_MAX, 2000); /* stale slots: long buffers */
        CHECK_EQ(d.port->ops->tx_burst(d.port, list, BURST_MAX), BURST_MAX);
        for (uint32_t i = 0; i < BURST_MAX; i++) {
            CHECK(used_is(i, 72));
            buffer(DRV_BUF + i * 4096, 4096);
        }
        for (uint16_t i = 0; i < chains; i++) {
            buffer(DRV_BUF + (128 + i) * 4096u, 4096);
            drv_desc(&d.rx, (uint16_t)(128 + i), DRV_BUF + (128 + i) * 4096u, 100, D_WRITE, 0);
            drv_offer(&d.rx, (uint16_t)(128 + i));
        }
        drv_publish(&d.rx);
        drv_frame(&frame[0], chains * 100 - 12, 1);
        CHECK_EQ(d.port->ops->tx_burst(d.port, list, 3), 1);
        for (uint32_t i = 0; i < chains; i++)
            CHECK(used_is(128 + i, 100));
        for (uint32_t i = 0; i < BURST_MAX; i++)
            CHECK(canaries(DRV_BUF + i * 4096, 4096));
        CHECK_EQ(d.state->ring[0].last_avail, BURST_MAX + chains);
        drv_frame(&frame[0], 60, 0);
    }
    CHECK_EQ(drv_drops_out(&d, DROP_ring_full), 2 * 5);
    drv_destroy(&d);
}

TEST(mergeable_ring_full_takes_nothing)
{
    drv_create(&d, F_V1 | F_MRG, 16);
    offer_buffers(3, 100);
    drv_frame(&frame[0], 300, 1);
    CHECK_EQ(drv_tx(&d, &frame[0]), 0);
    CHECK_EQ(drv_drops_out(&d, DROP_ring_full), 1);
    CHECK_EQ(d.state->ring[0].last_avail, 0);
    CHECK_EQ(drv_calls(&d.rx), 0);
    drv_frame(&frame[0], 288, 2); /* exactly what is there */
    CHECK_EQ(drv_tx(&d, &frame[0]), 1);
    CHECK(used_is(0, 100) && used_is(1, 100) && used_is(2, 100));
    /* Buffers that no number of could hold the frame. */
    CHECK_EQ(drv_restart(&d, F_V1 | F_MRG, 16), 0);
    offer_buffers(16, 20);
    CHECK_EQ(drv_tx(&d, &frame[0]), 1);
    CHECK_EQ(drv_restart(&d, F_V1 | F_MRG, 16), 0);
    offer_buffers(16, 18);
    CHECK_EQ(drv_tx(&d, &frame[0]), 0);
    CHECK_EQ(drv_drops_out(&d, DROP_ring_small), 1);
    drv_destroy(&d);
}

/* After a frame that does not fit, a smaller one still gets the buffer. */
TEST(small_buffers_stay_for_the_next_frame)
{
    struct frame *list[3] = { &frame[0].f, &frame[1].f, &frame[2].f };

    drv_create(&d, F_V1, 16);
    offer_buffers(2, 200);
    drv_frame(&frame[0], 189, 1);
    drv_frame(&frame[1], 188, 2);
    drv_frame(&frame[2], 190, 3);
    CHECK_EQ(d.port->ops->tx_burst(d.port, list, 3), 1);
    CHECK_EQ(drv_drops_out(&d, DROP_ring_small), 2);
    CHECK(used_is(0, 200));
    CHECK(arrived(DRV_BUF, 12, &frame[1]));
    CHECK_EQ(d.state->ring[0].last_avail, 1);
    drv_destroy(&d);
}

/* Header and data in two descriptors, in many, in an indirect table, over a region border. */
TEST(chains_of_any_shape)
{
    drv_create(&d, F_V1 | F_INDIRECT, 64);
    for (uint32_t cut = 1; cut < 120; cut++) {
        const uint64_t at = DRV_BORDER - cut;

        buffer(at, 1100);
        drv_frame(&frame[0], 700, cut);
        drv_one(&d.rx, 1, at, 1000, D_WRITE);
        CHECK_EQ(drv_tx(&d, &frame[0]), 1);
        CHECK(used_is(1, 712));
        CHECK(arrived(at, 12, &frame[0]));

        buffer(at, 1100);
        drv_desc(&d.rx, 2, at, cut, D_WRITE | D_NEXT, 3);
        drv_desc(&d.rx, 3, DRV_END, 0, D_WRITE | D_NEXT, 4);
        drv_desc(&d.rx, 4, at + cut, 1000, D_WRITE, 0);
        drv_offer(&d.rx, 2);
        drv_publish(&d.rx);
        CHECK_EQ(drv_tx(&d, &frame[0]), 1);
        CHECK(used_is(2, 712));
        CHECK(arrived(at, 12, &frame[0]));

        buffer(at, 1100);
        for (uint32_t i = 0; i < 10; i++)
            drv_table(&d, DRV_TABLE + cut, i, at + i * 80, 80, D_WRITE | (i < 9 ? D_NEXT : 0), (uint16_t)(i + 1));
        drv_one(&d.rx, 5, DRV_TABLE + cut, 160, D_INDIRECT);
        CHECK_EQ(drv_tx(&d, &frame[0]), 1);
        CHECK(used_is(5, 712));
        CHECK(arrived(at, 12, &frame[0]));
    }
    CHECK_EQ(drv_drops(&d), 0);
    drv_destroy(&d);
}

TEST(longest_frames)
{
    drv_create(&d, F_V1 | F_MRG | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4), 256);
    offer_buffers(40, 1526);
    drv_frame(&frame[0], US_FRAME_MAX, 1);
    frame[0].f.vnet = (struct vnet){ .flags = 1, .gso_type = VNET_GSO_TCPV4, .hdr_len = 54, .gso_size = 1448,
                                     .csum_start = 34, .csum_offset = 16 };
    CHECK_EQ(drv_tx(&d, &frame[0]), 0);
    CHECK_EQ(drv_drops_out(&d, DROP_ring_full), 1);
    for (uint16_t i = 40; i < 44; i++) {
        drv_desc(&d.rx, i, DRV_BUF + i * 4096u, 1526, D_WRITE, 0);
        drv_offer(&d.rx, i);
    }
    drv_publish(&d.rx);
    CHECK_EQ(drv_tx(&d, &frame[0]), 1);
    for (uint32_t i = 0; i < 43; i++) {
        const uint32_t part = i < 42 ? 1526 : 12 + US_FRAME_MAX - 42 * 1526;

        CHECK(used_is(i, part));
        drv_read(&d, DRV_BUF + i * 4096, got + i * 1526, part);
    }
    CHECK_EQ(got[10] | got[11] << 8, 43);
    CHECK_EQ(got[1], VNET_GSO_TCPV4);
    CHECK_MEM(got + 12, frame[0].data, US_FRAME_MAX);
    CHECK_EQ(d.state->out[0].gso, 1);
    drv_destroy(&d);
}

MAIN
{
    RUN(all_lengths_into_one_buffer);
    RUN(egress_tag);
    RUN(data_valid_only_for_those_who_know_it);
    RUN(burst_is_published_once);
    RUN(mergeable_buffers);
    RUN(a_frame_may_use_up_more_than_was_looked_at);
    RUN(mergeable_ring_full_takes_nothing);
    RUN(small_buffers_stay_for_the_next_frame);
    RUN(chains_of_any_shape);
    RUN(longest_frames);
}
