/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_virtio_frames.c - frames through the virtio driver, both ways, over
 * every kind of ring: all lengths, jumbo frames, rings that wrap, are full,
 * have odd sizes, or finish out of order.  Requests, tags and notifications
 * are in test_virtio_requests.c.
 */
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "nic/virtio_fixture.h"
#include "vnet.h"

static uint8_t bytes[VFIX_FRAME_MAX], got[VFIX_FRAME_MAX];
static struct iovec pieces[2048];

/* A frame goes out and is what it was. */
static void send_one(struct vfix *x, uint32_t queue, uint32_t len, uint32_t snap, uint32_t piece)
{
    struct frame f = frame_view(bytes, len, snap, piece, pieces);
    uint8_t hdr[VM_HDR_LEN];

    CHECK_EQ(vfix_tx(x, queue, &f), DROP_none);
    CHECK_EQ(vm_send(&x->vm, queue, hdr, got, sizeof(got)), len);
    CHECK_MEM(got, bytes, len);
    CHECK_MEM(hdr, (uint8_t[VM_HDR_LEN]){ 0 }, VM_HDR_LEN);
}

/* ---- every kind of ring ---- */

static void every_length(unsigned shape)
{
    struct vfix x;

    vfix_init(&x, shape_features(shape), shape & SHAPE_PACKED ? 100 : 64);
    REQUIRE(vfix_start(&x) == 0);
    for (uint32_t len = ETH_HDR_LEN; len <= 1514; len += len < 150 ? 1 : 31) {
        frame_make(bytes, len, len);
        vfix_receive(&x, 0, bytes, len, NULL);
        send_one(&x, 0, len, len % 2 ? 64 : 128, 1 + len % 700);
    }
    CHECK_EQ(vfix_broken(&x), BREAK_none);
    vfix_fini(&x);
}

TEST(every_length)
{
    for (unsigned shape = 0; shape < SHAPES; shape++)
        every_length(shape);
}

/* Bursts over rings of several sizes, packed ones odd, for several turns: positions and wrap counters. */
static void wraps(unsigned shape, uint16_t size)
{
    static uint8_t sent[BURST_MAX][200];
    struct frame view[BURST_MAX], *frames[BURST_MAX];
    uint8_t why[BURST_MAX], hdr[VM_HDR_LEN];
    uint32_t in = 0, out = 0;
    struct vfix x;

    vfix_init(&x, shape_features(shape), size);
    x.nic->cfg.ring_size = 4096;
    REQUIRE(vfix_start(&x) == 0);
    CHECK_EQ(vm_available(&x.vm, &x.vm.queue[0]), size);
    for (uint32_t round = 0; round < 60 && !harness_failed_checks; round++) {
        const uint32_t n = 1 + round * 7 % (size < BURST_MAX ? size : BURST_MAX);

        for (uint32_t i = 0; i < n; i++) {
            frame_make(bytes, 60 + i, in + i);
            CHECK(vm_receive(&x.vm, 0, NULL, bytes, 60 + i));
        }
        CHECK_EQ(vfix_rx(&x, 0), n);
        for (uint32_t i = 0; i < n; i++, in++) {
            frame_make(bytes, 60 + i, in);
            CHECK_EQ(frame_flatten(&x.burst->frame[i], got), 60 + i);
            CHECK_MEM(got, bytes, 60 + i);
        }
        vfix_done(&x, 0);
        for (uint32_t i = 0; i < n; i++) {
            frame_make(sent[i], 80 + i, out + i);
            view[i] = frame_view(sent[i], 80 + i, 64, 1000, &pieces[i]);
            frames[i] = &view[i];
        }
        x.drv->tx_burst(&x.nic->queue[0], frames, n, why);
        for (uint32_t i = 0; i < n; i++, out++) {
            CHECK_EQ(why[i], DROP_none);
            CHECK_EQ(vm_send(&x.vm, 0, hdr, got, sizeof(got)), 80 + i);
            CHECK_MEM(got, sent[i], 80 + i);
        }
    }
    CHECK_EQ(vm_available(&x.vm, &x.vm.queue[0]), size);
    vfix_fini(&x);
}

TEST(wraps)
{
    for (unsigned shape = 0; shape < SHAPES; shape++) {
        static const uint16_t split[] = { 2, 8, 64, 256, 1024 }, packed[] = { 2, 3, 63, 64, 333, 1000 };
        const uint16_t *const size = shape & SHAPE_PACKED ? packed : split;

        for (unsigned i = 0; i < (shape & SHAPE_PACKED ? 6 : 5); i++)
            wraps(shape, size[i]);
    }
}

/* A receive ring that runs dry: it takes as much again as rx_complete gives back. */
static void runs_dry(unsigned shape)
{
    struct vfix x;

    vfix_init(&x, shape_features(shape), 128);
    REQUIRE(vfix_start(&x) == 0);
    frame_make(bytes, 100, 1);
    for (uint32_t i = 0; i < 128; i++)
        CHECK_EQ(vm_receive(&x.vm, 0, NULL, bytes, 100), 1);
    for (uint32_t turn = 0; turn < 50; turn++) {
        const uint32_t n = 1 + turn % 30;

        x.burst->held_back = BURST_MAX - n;
        CHECK_EQ(vfix_rx(&x, 0), n);
        CHECK_EQ(vm_receive(&x.vm, 0, NULL, bytes, 100), 0);
        vfix_done(&x, 0);
        for (uint32_t i = 0; i < n; i++)
            CHECK_EQ(vm_receive(&x.vm, 0, NULL, bytes, 100), 1);
        CHECK_EQ(vm_receive(&x.vm, 0, NULL, bytes, 100), 0);
    }
    CHECK_EQ(vfix_broken(&x), BREAK_none);
    vfix_fini(&x);
}

TEST(runs_dry)
{
    for (unsigned shape = 0; shape < SHAPES; shape++)
        runs_dry(shape);
}

/* More frames than a transmit ring takes; then more bytes. */
static void runs_full(unsigned shape)
{
    struct frame view[BURST_MAX], *frames[BURST_MAX];
    uint8_t why[BURST_MAX], hdr[VM_HDR_LEN];
    uint32_t taken = 0;
    struct vfix x;

    vfix_init(&x, shape_features(shape), 64);
    x.nic->cfg.max_frame = 9014;
    vm_set_net(&x.vm, VIRTIO_NET_CFG_MTU, 9000, 2);
    REQUIRE(vfix_start(&x) == 0);
    frame_make(bytes, 9014, 3);
    for (uint32_t turn = 0; turn < 10; turn++) {
        const uint32_t len = turn % 2 ? 9014 : 60 + turn, most = turn % 2 ? 524288 / (9088) : 64;

        for (uint32_t i = 0; i < BURST_MAX; i++) {
            view[i] = frame_view(bytes, len, 64, 4000, &pieces[i * 4]);
            frames[i] = &view[i];
        }
        x.drv->tx_burst(&x.nic->queue[0], frames, BURST_MAX, why);
        x.drv->tx_burst(&x.nic->queue[0], frames, 1, why + BURST_MAX - 1);
        CHECK_EQ(why[BURST_MAX - 1], DROP_ring_full);
        for (taken = 0; taken < BURST_MAX && why[taken] == DROP_none; taken++)
            continue;
        CHECK(turn % 2 ? taken <= most && taken + 2 >= most : taken == 63 || taken == 64);
        for (uint32_t i = 0; i < most && vm_available(&x.vm, &x.vm.queue[1]); i++) {
            CHECK_EQ(vm_send(&x.vm, 0, hdr, got, sizeof(got)), len);
            CHECK_MEM(got, bytes, len);
        }
        CHECK_EQ(vm_send(&x.vm, 0, hdr, got, sizeof(got)), -1);
    }
    CHECK_EQ(vfix_broken(&x), BREAK_none);
    vfix_fini(&x);
}

TEST(runs_full)
{
    for (unsigned shape = 0; shape < SHAPES; shape++)
        runs_full(shape);
}

/* A device without IN_ORDER may finish as it likes; what it still reads is not written. */
static void out_of_order(unsigned shape)
{
    struct vm_buf buf[32];
    uint8_t hdr[VM_HDR_LEN];
    struct vfix x;

    vfix_init(&x, shape_features(shape), 32);
    REQUIRE(vfix_start(&x) == 0);
    for (uint32_t turn = 0; turn < 20; turn++) {
        for (uint32_t i = 0; i < 32; i++) {
            struct frame f;

            frame_make(bytes, 60 + turn + i, i + turn);
            f = frame_view(bytes, 60 + turn + i, 128, 100, pieces);
            CHECK_EQ(vfix_tx(&x, 0, &f), DROP_none);
        }
        for (uint32_t i = 0; i < 32; i++)
            CHECK_EQ(vm_look(&x.vm, 0, &buf[i], hdr, got, sizeof(got)), 60 + turn + i);
        for (uint32_t i = 0; i < 32; i++) {         /* 13 and 32 have no divisor in common */
            struct frame f = frame_view(bytes, 60, 64, 100, pieces);
            const uint32_t k = (i * 13 + 5) % 32;

            CHECK_EQ(vfix_tx(&x, 0, &f), DROP_ring_full);
            frame_make(bytes, 60 + turn + k, k + turn);
            CHECK_MEM(buf[k].part[0].p + VM_HDR_LEN, bytes, 60 + turn + k);
            vm_push(&x.vm, &x.vm.queue[1], &buf[k], 0);
            if (k == 0)
                break;
        }
        for (uint32_t k = 1; k < 32; k++) {
            bool pushed = false;

            for (uint32_t i = 0; i < 32 && (i * 13 + 5) % 32 != 0; i++)
                pushed |= (i * 13 + 5) % 32 == k;
            if (!pushed)
                vm_push(&x.vm, &x.vm.queue[1], &buf[k], 0);
        }
    }
    CHECK_EQ(vfix_broken(&x), BREAK_none);
    vfix_fini(&x);
}

TEST(out_of_order)
{
    for (unsigned shape = 0; shape < SHAPES; shape++)
        if (!(shape & SHAPE_IN_ORDER))
            out_of_order(shape);
}

/* Receive buffers that come back in any order. */
static void receives_out_of_order(unsigned shape)
{
    struct vfix x;

    vfix_init(&x, shape_features(shape), 16);
    REQUIRE(vfix_start(&x) == 0);
    for (uint32_t turn = 0; turn < 30; turn++) {
        struct vm_buf buf[16];
        const uint32_t n = 1 + turn % 16;

        for (uint32_t i = 0; i < n; i++)
            CHECK(vm_pop(&x.vm, &x.vm.queue[0], &buf[i]));
        for (uint32_t i = n; i-- > 0;) {
            memset(buf[i].part[0].p, 0, VM_HDR_LEN);
            buf[i].part[0].p[10] = 1;
            frame_make(buf[i].part[0].p + VM_HDR_LEN, 100 + i, i);
            vm_push(&x.vm, &x.vm.queue[0], &buf[i], VM_HDR_LEN + 100 + i);
        }
        CHECK_EQ(vfix_rx(&x, 0), n);
        for (uint32_t i = 0; i < n; i++) {
            frame_make(bytes, 100 + n - 1 - i, n - 1 - i);
            CHECK_EQ(frame_flatten(&x.burst->frame[i], got), 100 + n - 1 - i);
            CHECK_MEM(got, bytes, 100 + n - 1 - i);
        }
        vfix_done(&x, 0);
        CHECK_EQ(vm_available(&x.vm, &x.vm.queue[0]), 16);
    }
    vfix_fini(&x);
}

TEST(receives_out_of_order)
{
    for (unsigned shape = 0; shape < SHAPES; shape++)
        if (!(shape & SHAPE_IN_ORDER))
            receives_out_of_order(shape);
}

/* ---- batches of IN_ORDER: one entry for several buffers ---- */

static void batches(unsigned shape)
{
    struct vm_buf buf[20];
    uint8_t hdr[VM_HDR_LEN];
    struct vfix x;

    vfix_init(&x, shape_features(shape), 32);
    x.nic->cfg.max_frame = 9014;
    vm_set_net(&x.vm, VIRTIO_NET_CFG_MTU, 9000, 2);
    REQUIRE(vfix_start(&x) == 0);
    for (uint32_t turn = 0; turn < 20; turn++) {
        const uint16_t n = (uint16_t)(1 + turn);

        for (uint32_t i = 0; i < n; i++) {
            struct frame f;

            frame_make(bytes, 100 + i, turn);
            f = frame_view(bytes, 100 + i, 64, 100, pieces);
            CHECK_EQ(vfix_tx(&x, 0, &f), DROP_none);
            CHECK_EQ(vm_look(&x.vm, 0, &buf[i], hdr, got, sizeof(got)), 100 + i);
        }
        vm_push_raw(&x.vm, &x.vm.queue[1], buf[n - 1].id, 0, n, n);
    }
    /* A frame in three buffers, two of them full: the entry of the last one stands for all. */
    for (uint32_t turn = 0; turn < 25; turn++) {
        const uint32_t len = 2 * DMA_BUF_SIZE - VM_HDR_LEN + 77;

        frame_make(bytes, len, turn);
        for (uint32_t i = 0, at = 0; i < 3; i++) {
            const uint32_t skip = i ? 0 : VM_HDR_LEN, part = i < 2 ? DMA_BUF_SIZE - skip : 77;

            CHECK(vm_pop(&x.vm, &x.vm.queue[0], &buf[i]));
            memcpy(buf[i].part[0].p, (uint8_t[VM_HDR_LEN]){ [10] = 3 }, skip);
            memcpy(buf[i].part[0].p + skip, bytes + at, part);
            at += part;
        }
        x.burst->held_back = turn % 2 ? BURST_MAX - 1 : 0;      /* a batch that does not fit one burst */
        vm_push_raw(&x.vm, &x.vm.queue[0], buf[2].id, 77, 3, 3);
        if (turn % 2) {
            CHECK_EQ(vfix_rx(&x, 0), 0);
            CHECK(x.drv->arm(&x.nic->queue[0]));
            CHECK_EQ(vfix_rx(&x, 0), 0);
        }
        CHECK_EQ(vfix_rx(&x, 0), 1);
        CHECK_EQ(frame_flatten(&x.burst->frame[0], got), len);
        CHECK_MEM(got, bytes, len);
        vfix_done(&x, 0);
    }
    CHECK_EQ(vm_available(&x.vm, &x.vm.queue[0]), 32);
    CHECK_EQ(vfix_broken(&x), BREAK_none);
    vfix_fini(&x);
}

TEST(batches)
{
    for (unsigned shape = 0; shape < SHAPES; shape++)
        if (shape & SHAPE_IN_ORDER)
            batches(shape);
}

/* ---- long frames ---- */

static void long_frames(unsigned shape)
{
    static const uint32_t lens[] = { 1515, 2036, 2037, 2048, 4084, 4085, 9014, 40000, 65535, US_FRAME_MAX };
    const uint8_t tso[VM_HDR_LEN] = { VNET_NEEDS_CSUM, VNET_GSO_TCPV4, 54, 0, 0xb4, 5, 34, 0, 16, 0 };
    struct vfix x;

    vfix_init(&x, shape_features(shape), 64);
    x.nic->cfg.max_frame = 9014;
    vm_set_net(&x.vm, VIRTIO_NET_CFG_MTU, 9000, 2);
    REQUIRE(vfix_start(&x) == 0);
    for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        frame_make(bytes, lens[i], i);
        for (unsigned k = 0; k < 12; k++) {         /* the area and the ring are cut at many places */
            vfix_receive(&x, 0, bytes, lens[i], lens[i] > 9014 ? tso : NULL);
            send_one(&x, 0, lens[i], 128, 3000 + k);
        }
    }
    CHECK_EQ(vfix_broken(&x), BREAK_none);
    vfix_fini(&x);
}

TEST(long_frames)
{
    for (unsigned shape = 0; shape < SHAPES; shape++)
        long_frames(shape);
}

/* A device that reports the buffers of a frame one by one, and one that fills them badly. */
TEST(frame_in_bits)
{
    struct vm_buf buf[3];
    struct vfix x;

    vfix_init(&x, shape_features(0), 64);
    REQUIRE(vfix_start(&x) == 0);
    frame_make(bytes, 200, 5);
    for (unsigned i = 0; i < 3; i++)
        CHECK(vm_pop(&x.vm, &x.vm.queue[0], &buf[i]));
    memcpy(buf[0].part[0].p, (uint8_t[VM_HDR_LEN]){ [10] = 3 }, VM_HDR_LEN);
    memcpy(buf[0].part[0].p + VM_HDR_LEN, bytes, 1);
    memcpy(buf[1].part[0].p, bytes + 1, 20);
    memcpy(buf[2].part[0].p, bytes + 21, 179);
    vm_push(&x.vm, &x.vm.queue[0], &buf[0], VM_HDR_LEN + 1);
    CHECK_EQ(vfix_rx(&x, 0), 0);
    CHECK(!x.drv->arm(&x.nic->queue[0]));           /* nothing to do until the rest comes */
    vm_push(&x.vm, &x.vm.queue[0], &buf[1], 20);
    CHECK(x.drv->arm(&x.nic->queue[0]));
    CHECK_EQ(vfix_rx(&x, 0), 0);
    vm_push(&x.vm, &x.vm.queue[0], &buf[2], 179);
    CHECK_EQ(vfix_rx(&x, 0), 1);
    CHECK_EQ(x.burst->frame[0].hdr_len, 64);
    CHECK_EQ(frame_flatten(&x.burst->frame[0], got), 200);
    CHECK_MEM(got, bytes, 200);
    vfix_done(&x, 0);
    vfix_fini(&x);
}

MAIN
{
    RUN(every_length);
    RUN(wraps);
    RUN(runs_dry);
    RUN(runs_full);
    RUN(out_of_order);
    RUN(receives_out_of_order);
    RUN(batches);
    RUN(long_frames);
    RUN(frame_in_bits);
}
