/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_virtio_pci.c - the life of a virtio device: handshake and what can go
 * wrong in it, configuration, commands, several queues, link, reset and
 * recovery, a device that is gone.  Frames are in test_virtio_frames.c.
 */
#include <errno.h>
#include <string.h>

#include "harness.h"
#include "nic/nic_counter.h"
#include "nic/virtio_fixture.h"

static uint8_t bytes[2000], got[2000], hdr[VM_HDR_LEN];
static struct iovec pieces[16];

/* Frames go both ways on a pair. */
static void check_works(struct vfix *x, uint32_t queue)
{
    struct frame f;

    frame_make(bytes, 200, queue);
    CHECK_EQ(vm_receive(&x->vm, queue, NULL, bytes, 200), 1);
    CHECK_EQ(vfix_rx(x, queue), 1);
    CHECK_EQ(frame_flatten(&x->burst->frame[0], got), 200);
    CHECK_MEM(got, bytes, 200);
    vfix_done(x, queue);
    f = frame_view(bytes, 200, 64, 100, pieces);
    CHECK_EQ(vfix_tx(x, queue, &f), DROP_none);
    CHECK_EQ(vm_send(&x->vm, queue, hdr, got, sizeof(got)), 200);
    CHECK_MEM(got, bytes, 200);
}

static void read_state(struct vfix *x, struct us_nic_state *s)
{
    memset(s, 0, sizeof(*s));
    for (unsigned i = 0; i < sizeof(s->counter) / sizeof(s->counter[0]); i++)
        s->counter[i] = US_NIC_COUNTER_NONE;
    x->drv->read(x->nic, s);
}

TEST(every_member_is_there)
{
    const struct nic_driver *const d = &virtio_pci_driver;
    uint32_t variant;

    CHECK(d->name && d->ids && d->pool_size && d->open && d->start && d->stop && d->close && d->rx_burst &&
          d->rx_complete && d->tx_burst && d->arm && d->disarm && d->other && d->read);
    CHECK(nic_find_driver(0x1af4, 0x1041, &variant) == d);
    CHECK(nic_find_driver(0x1af4, 0x1000, &variant) == d);
    CHECK(nic_find_driver(0x1af4, 0x1042, &variant) == NULL);
}

TEST(handshake)
{
    struct vfix x;

    vfix_init(&x, VM_ALL_FEATURES, 256);
    REQUIRE(vfix_start(&x) == 0);
    CHECK_EQ(x.vm.status, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_FEATURES_OK |
                              VIRTIO_STATUS_DRIVER_OK);
    CHECK(vm_has(&x.vm, VIRTIO_F_VERSION_1) && vm_has(&x.vm, VIRTIO_F_ACCESS_PLATFORM));
    CHECK(!vm_has(&x.vm, VIRTIO_NET_F_MQ));     /* one pair is enough */
    CHECK(x.vm.promiscuous);
    CHECK_EQ(x.vm.commands, 1);
    CHECK_EQ(x.vm.queue[0].vector, 0);
    CHECK_EQ(x.vm.queue[1].vector, VIRTIO_NO_VECTOR);
    CHECK_EQ(x.vm.queue[2].vector, VIRTIO_NO_VECTOR);
    CHECK_EQ(x.vm.config_vector, 1);
    CHECK_MEM(x.nic->mac, ((uint8_t[]){ 0x52, 0x54, 0, 1, 2, 3 }), 6);
    check_works(&x, 0);
    vfix_fini(&x);
}

/* What open refuses, and what start does. */
static void refused(uint64_t offered, const struct vm_faults *fault, int want, bool by_open)
{
    struct vfix x;

    vfix_init(&x, offered, 256);
    if (fault)
        x.vm.fault = *fault;
    CHECK_EQ(vfix_start(&x), want);
    CHECK_EQ(x.nic->priv == NULL, by_open);
    CHECK(x.nic->queue[0].rx == NULL && x.nic->queue[0].tx == NULL);
    if (by_open && want == -ENODEV)
        CHECK(x.vm.status & VIRTIO_STATUS_FAILED);
    x.vm.fault.reset_stuck = false;
    vfix_fini(&x);
}

TEST(refusals)
{
    refused(VM_ALL_FEATURES & ~VIRTIO_BIT(VIRTIO_F_VERSION_1), NULL, -ENODEV, true);
    refused(VM_ALL_FEATURES & ~VIRTIO_BIT(VIRTIO_F_ACCESS_PLATFORM), NULL, -ENODEV, true);
    refused(VM_ALL_FEATURES, &(struct vm_faults){ .gone = true }, -EIO, true);
    refused(VM_ALL_FEATURES, &(struct vm_faults){ .refuse_features = true }, -EIO, false);
    refused(VM_ALL_FEATURES, &(struct vm_faults){ .needs_reset = true }, -EIO, false);
    refused(VM_ALL_FEATURES, &(struct vm_faults){ .no_vector = true }, -ENOSPC, false);
    refused(VM_ALL_FEATURES, &(struct vm_faults){ .ctrl_silent = true }, -ETIMEDOUT, false);
    refused(VM_ALL_FEATURES, &(struct vm_faults){ .ctrl_refuse = true }, -EIO, false);
    refused(VM_ALL_FEATURES, &(struct vm_faults){ .ctrl_wild = true }, -EIO, false);
    refused(VM_ALL_FEATURES, &(struct vm_faults){ .notify_off = 0x3ff }, -EIO, false);
    refused(VM_ALL_FEATURES & ~VIRTIO_BIT(VIRTIO_F_RING_PACKED), &(struct vm_faults){ .ctrl_wild = true }, -EIO,
            false);
}

TEST(refuses_without_config)
{
    struct vfix x;

    vfix_init(&x, VM_ALL_FEATURES, 256);
    x.nic->config = NULL;
    CHECK_EQ(vfix_start(&x), -ENODEV);
    x.nic->config = x.vm.config;
    x.nic->bar[VM_BAR].size = 0x3000;           /* its notifications are beyond the mapping */
    CHECK_EQ(vfix_start(&x), -ENODEV);
    x.nic->bar[VM_BAR].size = VM_BAR_SIZE;
    CHECK_EQ(vfix_start(&x), 0);
    vfix_fini(&x);
}

TEST(reset_that_never_ends)
{
    struct vfix x;

    vfix_init(&x, VM_ALL_FEATURES, 256);
    REQUIRE(vfix_start(&x) == 0);
    x.vm.fault.reset_stuck = true;
    CHECK_EQ(vfix_restart(&x), -EIO);
    CHECK(x.nic->queue[0].rx == NULL);
    x.drv->stop(x.nic);
    x.vm.fault.reset_stuck = false;
    CHECK_EQ(vfix_restart(&x), 0);
    check_works(&x, 0);
    vfix_fini(&x);
}

/* ---- configuration ---- */

static int start_with(uint32_t n_queues, uint32_t max_frame, uint32_t pairs, uint32_t mtu, uint64_t without)
{
    struct vfix x;
    int rc;

    vfix_init(&x, VM_ALL_FEATURES & ~without, 256);
    x.nic->cfg.n_queues = n_queues;
    x.nic->irq.n = n_queues + 1;
    x.nic->cfg.max_frame = max_frame;
    vm_set_net(&x.vm, VIRTIO_NET_CFG_MAX_PAIRS, pairs, 2);
    vm_set_net(&x.vm, VIRTIO_NET_CFG_MTU, mtu, 2);
    rc = vfix_start(&x);
    vfix_fini(&x);
    return rc;
}

TEST(limits)
{
    CHECK_EQ(start_with(1, 1514, 1, 1500, 0), 0);
    CHECK_EQ(start_with(1, 1515, 1, 1500, 0), -EINVAL);
    CHECK_EQ(start_with(1, 9014, 1, 9000, 0), 0);
    CHECK_EQ(start_with(1, 9014, 1, 1500, VIRTIO_BIT(VIRTIO_NET_F_MTU)), 0);
    CHECK_EQ(start_with(1, 1514, 1, 0, 0), -EINVAL);
    CHECK_EQ(start_with(1, 2032, 1, 9000, VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF)), 0);
    CHECK_EQ(start_with(1, 2033, 1, 9000, VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF)), -EINVAL);
    CHECK_EQ(start_with(1, 1514, 0, 1500, 0), 0);               /* nobody asks */
    CHECK_EQ(start_with(2, 1514, 1, 1500, 0), -EINVAL);
    CHECK_EQ(start_with(2, 1514, 0, 1500, 0), -EINVAL);
    CHECK_EQ(start_with(2, 1514, 2, 1500, VIRTIO_BIT(VIRTIO_NET_F_MQ)), -EINVAL);
    CHECK_EQ(start_with(2, 1514, 2, 1500, VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ)), -EINVAL);
    CHECK_EQ(start_with(2, 1514, 0x8000, 1500, 0), -EINVAL); /* no number for the control queue */
    CHECK_EQ(start_with(2, 1514, 0x7fff, 1500, 0), -EIO);       /* and no such queue */
    CHECK_EQ(start_with(2, 1514, 0xffff, 1500, 0), -EINVAL);
    CHECK_EQ(start_with(8, 1514, 8, 1500, 0), 0);
}

TEST(nonsense_sizes)
{
    static const struct {
        uint16_t size;
        bool packed;
        int want;
    } cases[] = {
        { 0, false, -EIO }, { 0, true, -EIO }, { 100, false, -EIO }, { 32769, true, -EIO }, { 65535, true, -EIO },
        { 32768, false, 0 }, { 32768, true, 0 }, { 1, true, -EIO }, { 2, false, 0 },
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct vfix x;

        vfix_init(&x, shape_features(cases[i].packed ? SHAPE_PACKED : 0), cases[i].size);
        if (!CHECK_EQ(vfix_start(&x), cases[i].want))
            fprintf(stderr, "(case %u)\n", i);
        vfix_fini(&x);
    }
}

/* The operator's size is a wish; a split ring is a power of two. */
TEST(ring_sizes)
{
    static const struct {
        uint32_t wish;
        uint16_t most;
        bool packed;
        uint16_t want;
    } cases[] = {
        { 64, 256, false, 64 }, { 100, 256, false, 64 }, { 1000, 256, false, 256 },
        { 100, 256, true, 100 }, { 1000, 333, true, 333 },
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct vfix x;

        vfix_init(&x, shape_features(cases[i].packed ? SHAPE_PACKED : 0), cases[i].most);
        x.nic->cfg.ring_size = cases[i].wish;
        REQUIRE(vfix_start(&x) == 0);
        CHECK_EQ(x.vm.queue[0].size, cases[i].want);
        CHECK_EQ(x.vm.queue[1].size, cases[i].want);
        check_works(&x, 0);
        vfix_fini(&x);
    }
}

TEST(vectors)
{
    struct vfix x;

    vfix_init(&x, VM_ALL_FEATURES, 256);
    vm_set_net(&x.vm, VIRTIO_NET_CFG_MAX_PAIRS, 4, 2);
    x.nic->cfg.n_queues = 3;
    x.nic->irq.n = 1;                           /* one for all */
    REQUIRE(vfix_start(&x) == 0);
    CHECK(x.vm.queue[0].vector == 0 && x.vm.queue[4].vector == 0 && x.vm.config_vector == 0);
    x.drv->stop(x.nic);
    x.nic->irq = (struct nic_irq){ 0 };         /* none */
    CHECK_EQ(vfix_restart(&x), 0);
    CHECK(x.vm.queue[0].vector == VIRTIO_NO_VECTOR && x.vm.config_vector == VIRTIO_NO_VECTOR);
    check_works(&x, 2);
    x.drv->stop(x.nic);
    x.nic->irq.n = 1;                           /* an interrupt pin */
    CHECK_EQ(vfix_restart(&x), -ENOSPC);
    vfix_fini(&x);
}

/* A device whose configuration never holds still has no address to tell. */
TEST(address)
{
    struct vfix x;

    vfix_init(&x, VM_ALL_FEATURES, 256);
    x.vm.fault.unstable = true;
    CHECK_EQ(vfix_start(&x), 0);
    CHECK_MEM(x.nic->mac, ((uint8_t[6]){ 0 }), 6);
    vfix_fini(&x);
    vfix_init(&x, VM_ALL_FEATURES, 256);
    vm_set_net(&x.vm, VIRTIO_NET_CFG_MAC, 1, 1);        /* a group's */
    CHECK_EQ(vfix_start(&x), 0);
    CHECK_MEM(x.nic->mac, ((uint8_t[6]){ 0 }), 6);
    vfix_fini(&x);
}

TEST(few_features)
{
    struct vfix x;

    vfix_init(&x, VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_F_ACCESS_PLATFORM), 64);
    REQUIRE(vfix_start(&x) == 0);
    CHECK_EQ(x.nic->port.offloads, 0);
    CHECK_EQ(x.vm.commands, 0);
    check_works(&x, 0);
    vfix_fini(&x);
}

/* ---- several queues ---- */

static void many_queues(unsigned shape)
{
    struct vfix x;

    vfix_init(&x, shape_features(shape), 64);
    vm_set_net(&x.vm, VIRTIO_NET_CFG_MAX_PAIRS, 6, 2);
    x.nic->cfg.n_queues = 4;
    x.nic->cfg.irq_us = 50;
    x.nic->irq.n = 5;
    REQUIRE(vfix_start(&x) == 0);
    CHECK_EQ(x.vm.pairs, 4);
    CHECK_EQ(x.vm.coal_usecs, 50);
    CHECK(x.vm.queue[12].enabled && !x.vm.queue[8].enabled);    /* the control queue follows all six pairs */
    for (uint32_t i = 0; i < 4; i++) {
        CHECK_EQ(x.vm.queue[2 * i].vector, i);
        check_works(&x, i);
    }
    CHECK(!x.drv->arm(&x.nic->queue[2]));
    frame_make(bytes, 60, 1);
    CHECK(vm_receive(&x.vm, 2, NULL, bytes, 60));
    CHECK(x.vm.interrupts[2] == 1 && x.vm.interrupts[0] == 0 && x.vm.interrupts[4] == 0);
    vfix_fini(&x);
}

TEST(many_queues)
{
    for (unsigned shape = 0; shape < SHAPES; shape++)
        many_queues(shape);
}

/* ---- link, counters ---- */

TEST(link_changes)
{
    struct us_nic_state s;
    struct vfix x;

    vfix_init(&x, VM_ALL_FEATURES, 64);
    REQUIRE(vfix_start(&x) == 0);
    read_state(&x, &s);
    CHECK(s.link_up == 1 && s.speed_mbps == 10000 && s.full_duplex == 1);
    vm_set_net(&x.vm, VIRTIO_NET_CFG_STATUS, 0, 2);
    vm_config_changed(&x.vm);
    CHECK_EQ(x.vm.interrupts[1], 1);
    x.drv->other(x.nic);
    read_state(&x, &s);
    CHECK_EQ(s.link_up, 0);
    vm_set_net(&x.vm, VIRTIO_NET_CFG_STATUS, 3, 2);
    vm_set_net(&x.vm, VIRTIO_NET_CFG_SPEED, 0xffffffff, 4);
    vm_set_net(&x.vm, VIRTIO_NET_CFG_DUPLEX, 0, 1);
    read_state(&x, &s);
    CHECK(s.link_up == 1 && s.speed_mbps == 0 && s.full_duplex == 0);
    CHECK_EQ(vfix_broken(&x), BREAK_none);
    vfix_fini(&x);
}

TEST(link_unknown)
{
    struct us_nic_state s;
    struct vfix x;

    vfix_init(&x, VM_ALL_FEATURES & ~VIRTIO_BIT(VIRTIO_NET_F_STATUS) & ~VIRTIO_BIT(VIRTIO_NET_F_SPEED_DUPLEX), 64);
    vm_set_net(&x.vm, VIRTIO_NET_CFG_STATUS, 0, 2);
    REQUIRE(vfix_start(&x) == 0);
    read_state(&x, &s);
    CHECK(s.link_up == 1 && s.speed_mbps == 0);
    vfix_fini(&x);
}

TEST(counters)
{
    struct us_nic_state s;
    struct frame f;
    struct vfix x;

    vfix_init(&x, VM_ALL_FEATURES, 64);
    vm_set_net(&x.vm, VIRTIO_NET_CFG_MAX_PAIRS, 2, 2);
    x.nic->cfg.n_queues = 2;
    x.nic->irq.n = 3;
    REQUIRE(vfix_start(&x) == 0);
    check_works(&x, 0);
    check_works(&x, 1);
    CHECK(vm_receive(&x.vm, 1, NULL, bytes, 13));
    CHECK_EQ(vfix_rx(&x, 1), 0);
    vfix_done(&x, 1);
    f = frame_view(bytes, 1000, 128, 900, pieces);
    f.out_vid = 5;
    f.vnet = (struct vnet){ .flags = 1, .gso_type = 1, .gso_size = 100, .csum_start = 34, .csum_offset = 16 };
    CHECK_EQ(vfix_tx(&x, 1, &f), DROP_none);
    x.drv->stop(x.nic);
    CHECK_EQ(vfix_restart(&x), 0);
    check_works(&x, 1);
    read_state(&x, &s);
    CHECK_EQ(s.counter[NIC_COUNTER_rx_packets], 3);
    CHECK_EQ(s.counter[NIC_COUNTER_rx_bytes], 600);
    CHECK_EQ(s.counter[NIC_COUNTER_rx_length_errors], 1);
    CHECK_EQ(s.counter[NIC_COUNTER_tx_packets], 4);
    CHECK_EQ(s.counter[NIC_COUNTER_tx_bytes], 600 + 1004);
    CHECK_EQ(s.counter[NIC_COUNTER_tx_tso], 1);
    CHECK_EQ(s.counter[NIC_COUNTER_rx_missed], US_NIC_COUNTER_NONE);
    vfix_fini(&x);
}

/* ---- errors and recovery ---- */

TEST(needs_reset)
{
    struct vfix x;

    vfix_init(&x, VM_ALL_FEATURES, 64);
    REQUIRE(vfix_start(&x) == 0);
    check_works(&x, 0);
    vm_break(&x.vm);
    CHECK_EQ(x.vm.interrupts[1], 1);
    CHECK_EQ(vfix_broken(&x), BREAK_none);
    x.drv->other(x.nic);
    CHECK_EQ(vfix_broken(&x), BREAK_nic_error);
    CHECK_EQ(x.nic->failed, 1);
    x.drv->stop(x.nic);
    CHECK_EQ(vfix_restart(&x), 0);
    CHECK_EQ(x.nic->failed, 0);
    check_works(&x, 0);
    vfix_fini(&x);
}

TEST(gone)
{
    struct us_nic_state s;
    struct vfix x;

    vfix_init(&x, VM_ALL_FEATURES, 64);
    REQUIRE(vfix_start(&x) == 0);
    x.vm.fault.gone = true;
    CHECK_EQ(vfix_rx(&x, 0), 0);
    read_state(&x, &s);
    CHECK_EQ(s.link_up, 0);
    CHECK_EQ(vfix_broken(&x), BREAK_device_gone);
    x.drv->stop(x.nic);
    CHECK_EQ(vfix_restart(&x), -EIO);
    x.drv->stop(x.nic);
    vfix_fini(&x);
}

/* Stopped in the middle of everything and started anew, with other rings and other features. */
TEST(restarts)
{
    struct vfix x;

    vfix_init(&x, VM_ALL_FEATURES, 64);
    REQUIRE(vfix_start(&x) == 0);
    for (uint32_t i = 0; i < 40; i++) {
        struct frame f;

        frame_make(bytes, 1000, i);
        for (uint32_t k = 0; k < i; k++)
            CHECK(vm_receive(&x.vm, 0, NULL, bytes, 1000));
        f = frame_view(bytes, 1000, 64, 400, pieces);
        CHECK_EQ(vfix_tx(&x, 0, &f), DROP_none);
        CHECK_EQ(vfix_rx(&x, 0), i);
        if (i % 2)
            vfix_done(&x, 0);
        x.drv->stop(x.nic);
        x.drv->stop(x.nic);
        x.vm.offered = shape_features(i % SHAPES);
        x.vm.queue_max = i % 3 ? 64 : 128;
        CHECK_EQ(vfix_restart(&x), 0);
        check_works(&x, 0);
    }
    vfix_fini(&x);
}

/* A pool that is too small is an error, not a crash. */
TEST(small_pool)
{
    struct vfix x;

    vfix_init(&x, VM_ALL_FEATURES, 64);
    REQUIRE(vfix_start(&x) == 0);
    x.drv->stop(x.nic);
    for (size_t size = 0; size < 700000; size += 4096) {
        const size_t whole = x.nic->pool.size;
        int rc;

        x.nic->pool.size = size;
        rc = vfix_restart(&x);
        CHECK(rc == 0 || rc == -ENOMEM);
        x.drv->stop(x.nic);
        x.nic->pool.size = whole;
    }
    vfix_fini(&x);
}

MAIN
{
    RUN(every_member_is_there);
    RUN(handshake);
    RUN(refusals);
    RUN(refuses_without_config);
    RUN(reset_that_never_ends);
    RUN(limits);
    RUN(nonsense_sizes);
    RUN(ring_sizes);
    RUN(vectors);
    RUN(address);
    RUN(few_features);
    RUN(many_queues);
    RUN(link_changes);
    RUN(link_unknown);
    RUN(counters);
    RUN(needs_reset);
    RUN(gone);
    RUN(restarts);
    RUN(small_pool);
}
