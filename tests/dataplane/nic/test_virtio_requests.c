/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_virtio_requests.c - what goes along with a frame through the virtio
 * driver: offload requests and tags, both ways, and frames that are dropped;
 * who is notified of it, and when.
 */
#include <string.h>

#include "harness.h"
#include "nic/virtio_fixture.h"
#include "vnet.h"

static uint8_t bytes[VFIX_FRAME_MAX], got[VFIX_FRAME_MAX];
static struct iovec pieces[64];

/* ---- what a frame asks for ---- */

TEST(drops)
{
    struct vfix x;

    vfix_init(&x, shape_features(0), 64);
    REQUIRE(vfix_start(&x) == 0);
    frame_make(bytes, 2000, 0);
    CHECK(vm_receive(&x.vm, 0, NULL, bytes, 13));
    CHECK(vm_receive(&x.vm, 0, NULL, bytes, 1515));
    CHECK(vm_receive(&x.vm, 0, (uint8_t[VM_HDR_LEN]){ 1, 0, 0, 0, 0, 0, 90, 0, 16, 0 }, bytes, 100));
    CHECK(vm_receive(&x.vm, 0, (uint8_t[VM_HDR_LEN]){ 1, 3, 0, 0, 0, 5, 34, 0, 16, 0 }, bytes, 100));
    bytes[12] = 0x81;
    bytes[13] = 0;
    CHECK(vm_receive(&x.vm, 0, NULL, bytes, 1518));     /* with a tag it is not too long */
    CHECK(vm_receive(&x.vm, 0, NULL, bytes, 1519));
    CHECK_EQ(vfix_rx(&x, 0), 1);
    CHECK_EQ(x.burst->frame[0].len, 1518);
    vfix_done(&x, 0);
    CHECK_EQ(x.nic->port.state->in[0].drop[DROP_frame_short], 1);
    CHECK_EQ(x.nic->port.state->in[0].drop[DROP_frame_long], 2);
    CHECK_EQ(x.nic->port.state->in[0].drop[DROP_vnet_csum], 1);
    CHECK_EQ(x.nic->port.state->in[0].drop[DROP_vnet_gso], 1);
    CHECK_EQ(vm_available(&x.vm, &x.vm.queue[0]), 64);
    vfix_fini(&x);
}

TEST(requests_received)
{
    static const struct {
        uint8_t hdr[VM_HDR_LEN];
        struct vnet want;
    } cases[] = {
        { { 1, 0, 0, 0, 0, 0, 34, 0, 16, 0 }, { .flags = 1, .csum_start = 34, .csum_offset = 16 } },
        { { 2 }, { .flags = VNET_DATA_VALID } },
        { { 3, 0, 0, 0, 0, 0, 34, 0, 6, 0 }, { .flags = 1, .csum_start = 34, .csum_offset = 6 } },
        { { 1, 1, 54, 0, 0, 1, 34, 0, 16, 0 },
          { .flags = 1, .gso_type = 1, .hdr_len = 54, .gso_size = 256, .csum_start = 34, .csum_offset = 16 } },
        { { 1, 0x84, 74, 0, 0, 1, 54, 0, 16, 0 },
          { .flags = 1, .gso_type = 0x84, .hdr_len = 74, .gso_size = 256, .csum_start = 54, .csum_offset = 16 } },
        { { 1, 5, 42, 0, 0, 1, 34, 0, 6, 0 },
          { .flags = 1, .gso_type = 5, .hdr_len = 42, .gso_size = 256, .csum_start = 34, .csum_offset = 6 } },
    };
    struct vfix x;

    vfix_init(&x, shape_features(0), 64);
    REQUIRE(vfix_start(&x) == 0);
    frame_make(bytes, 1000, 1);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        vfix_receive(&x, 0, bytes, 1000, cases[i].hdr);
        CHECK_EQ(x.burst->frame[0].hdr_len, SNAP_SIZE);
        CHECK_MEM(&x.burst->frame[0].vnet, &cases[i].want, sizeof(cases[i].want));
    }
    vfix_fini(&x);
}

/* What was not negotiated is not believed. */
TEST(requests_not_negotiated)
{
    struct vfix x;

    vfix_init(&x, shape_features(0) & ~VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM), 64);
    REQUIRE(vfix_start(&x) == 0);
    CHECK(!vm_has(&x.vm, VIRTIO_NET_F_GUEST_TSO4));     /* needs it */
    frame_make(bytes, 1000, 1);
    CHECK(vm_receive(&x.vm, 0, (uint8_t[VM_HDR_LEN]){ 1, 0, 0, 0, 0, 0, 34, 0, 16, 0 }, bytes, 1000));
    CHECK(vm_receive(&x.vm, 0, (uint8_t[VM_HDR_LEN]){ 0, 1, 54, 0, 0, 1, 34, 0, 16, 0 }, bytes, 1000));
    CHECK(vm_receive(&x.vm, 0, (uint8_t[VM_HDR_LEN]){ 2 }, bytes, 1000));
    CHECK_EQ(vfix_rx(&x, 0), 1);
    CHECK_EQ(x.burst->frame[0].vnet.flags, 0);
    vfix_done(&x, 0);
    CHECK_EQ(x.nic->port.state->in[0].drop[DROP_vnet_csum], 1);
    CHECK_EQ(x.nic->port.state->in[0].drop[DROP_vnet_gso], 1);
    vfix_fini(&x);
}

static void check_sent(struct vfix *x, struct frame *f, const uint8_t want[VM_HDR_LEN], uint32_t len)
{
    uint8_t hdr[VM_HDR_LEN];

    CHECK_EQ(vfix_tx(x, 0, f), DROP_none);
    CHECK_EQ(vm_send(&x->vm, 0, hdr, got, sizeof(got)), len);
    CHECK_MEM(hdr, want, VM_HDR_LEN);
}

TEST(requests_sent)
{
    struct vfix x;
    struct frame f;

    vfix_init(&x, shape_features(SHAPE_PACKED), 64);
    REQUIRE(vfix_start(&x) == 0);
    CHECK_EQ(x.nic->port.offloads, OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6 | OFFLOAD_ECN | OFFLOAD_USO4 |
                                       OFFLOAD_USO6);
    frame_make(bytes, 4000, 1);
    f = frame_view(bytes, 4000, 128, 1000, pieces);
    f.vnet = (struct vnet){ .flags = 1, .gso_type = 1, .hdr_len = 54, .gso_size = 1460, .csum_start = 34,
                            .csum_offset = 16 };
    check_sent(&x, &f, (uint8_t[VM_HDR_LEN]){ 1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0 }, 4000);
    CHECK_MEM(got, bytes, 4000);
    f.out_vid = 0x234;
    f.pcp = 0xe000;
    check_sent(&x, &f, (uint8_t[VM_HDR_LEN]){ 1, 1, 58, 0, 0xb4, 5, 38, 0, 16, 0 }, 4004);
    CHECK_MEM(got, bytes, 12);
    CHECK_MEM(got + 12, ((uint8_t[]){ 0x81, 0, 0xe2, 0x34 }), 4);
    CHECK_MEM(got + 16, bytes + 12, 4000 - 12);
    f.vnet = (struct vnet){ .flags = VNET_DATA_VALID };     /* a device's word, not a driver's */
    check_sent(&x, &f, (uint8_t[VM_HDR_LEN]){ 0 }, 4004);
    vfix_fini(&x);
}

/* ---- notifications ---- */

static void notifications(unsigned shape)
{
    struct vm_queue *tx, *rx;
    uint8_t hdr[VM_HDR_LEN];
    struct frame f;
    struct vfix x;

    vfix_init(&x, shape_features(shape), 64);
    REQUIRE(vfix_start(&x) == 0);
    rx = &x.vm.queue[0];
    tx = &x.vm.queue[1];
    CHECK_EQ(rx->notified, 1);                  /* filled, once */
    frame_make(bytes, 100, 1);
    f = frame_view(bytes, 100, 64, 100, pieces);
    vm_set_kicks(&x.vm, tx, VM_KICK_EVENT);
    CHECK_EQ(vfix_tx(&x, 0, &f), DROP_none);
    CHECK_EQ(tx->notified, 1);
    CHECK_EQ(vfix_tx(&x, 0, &f), DROP_none);
    CHECK_EQ(tx->notified, shape & SHAPE_EVENT_IDX ? 1 : 2);    /* it was told of the one it waits for */
    vm_set_kicks(&x.vm, tx, VM_KICK_NEVER);
    for (unsigned i = 0; i < 100; i++) {
        const uint32_t before = tx->notified;

        CHECK_EQ(vfix_tx(&x, 0, &f), DROP_none);
        CHECK_EQ(tx->notified, before);
        while (vm_send(&x.vm, 0, hdr, got, sizeof(got)) >= 0)
            vm_set_kicks(&x.vm, tx, VM_KICK_NEVER);
    }
    for (unsigned i = 0; i < 200; i++) {        /* around the ring */
        const uint32_t before = tx->notified;

        vm_set_kicks(&x.vm, tx, VM_KICK_EVENT);
        CHECK_EQ(vfix_tx(&x, 0, &f), DROP_none);
        CHECK_EQ(tx->notified, before + 1);
        CHECK_EQ(vm_send(&x.vm, 0, hdr, got, sizeof(got)), 100);
    }
    vfix_fini(&x);
}

/* It asked for the first of three, which were published already, and took them: it is told of the next one, once. */
TEST(device_that_asks_late)
{
    struct vm_queue *tx;
    uint8_t hdr[VM_HDR_LEN];
    struct frame f;
    struct vfix x;

    vfix_init(&x, shape_features(SHAPE_PACKED | SHAPE_EVENT_IDX), 64);
    REQUIRE(vfix_start(&x) == 0);
    tx = &x.vm.queue[1];
    frame_make(bytes, 100, 1);
    f = frame_view(bytes, 100, 64, 100, pieces);
    for (unsigned i = 0; i < 200; i++) {        /* around the ring */
        uint32_t before;

        vm_set_kicks(&x.vm, tx, VM_KICK_NEVER);
        before = tx->notified;
        for (unsigned k = 0; k < 3; k++)
            CHECK_EQ(vfix_tx(&x, 0, &f), DROP_none);
        CHECK_EQ(tx->notified, before);
        vm_set_kicks(&x.vm, tx, VM_KICK_ONCE);
        for (unsigned k = 0; k < 3; k++)
            CHECK_EQ(vm_send(&x.vm, 0, hdr, got, sizeof(got)), 100);
        CHECK_EQ(vfix_tx(&x, 0, &f), DROP_none);
        CHECK_EQ(tx->notified, before + 1);
        CHECK_EQ(vfix_tx(&x, 0, &f), DROP_none);
        CHECK_EQ(tx->notified, before + 1);
        for (unsigned k = 0; k < 2; k++)
            CHECK_EQ(vm_send(&x.vm, 0, hdr, got, sizeof(got)), 100);
    }
    vfix_fini(&x);
}

TEST(notifications)
{
    for (unsigned shape = 0; shape < SHAPES; shape++)
        notifications(shape);
}

static void interrupts(unsigned shape)
{
    struct nic_queue *q;
    struct vfix x;

    vfix_init(&x, shape_features(shape), 64);
    REQUIRE(vfix_start(&x) == 0);
    q = &x.nic->queue[0];
    frame_make(bytes, 100, 1);
    for (unsigned i = 0; i < 200; i++) {
        const uint32_t before = x.vm.interrupts[0];

        CHECK(vm_receive(&x.vm, 0, NULL, bytes, 100));
        CHECK_EQ(x.vm.interrupts[0], before);   /* not asked for */
        CHECK(x.drv->arm(q));                   /* there is work */
        x.drv->disarm(q);
        CHECK_EQ(vfix_rx(&x, 0), 1);
        vfix_done(&x, 0);
        CHECK(!x.drv->arm(q));
        CHECK(vm_receive(&x.vm, 0, NULL, bytes, 100));
        CHECK_EQ(x.vm.interrupts[0], before + 1);
        x.drv->disarm(q);
        CHECK(vm_receive(&x.vm, 0, NULL, bytes, 100));
        CHECK_EQ(x.vm.interrupts[0], before + 1);
        CHECK_EQ(vfix_rx(&x, 0), 2);
        vfix_done(&x, 0);
    }
    CHECK_EQ(x.vm.interrupts[1], 0);
    vfix_fini(&x);
}

TEST(interrupts)
{
    for (unsigned shape = 0; shape < SHAPES; shape++)
        interrupts(shape);
}

MAIN
{
    RUN(drops);
    RUN(requests_received);
    RUN(requests_not_negotiated);
    RUN(requests_sent);
    RUN(notifications);
    RUN(device_that_asks_late);
    RUN(interrupts);
}
