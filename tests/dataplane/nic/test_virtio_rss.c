/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_virtio_rss.c - flows over the queues of a virtio device: by RSS where
 * it is offered and works, as the device likes where not.
 */
#include <errno.h>

#include "harness.h"
#include "nic/rig_flow.h"
#include "nic/virtio_fixture.h"

#define QUEUES 3
#define FLOWS 1200

static uint8_t packet[2000];

/* Six pairs, of which three are used; the test may change more before vfix_start(). */
static void init(struct vfix *x, uint64_t offered)
{
    vfix_init(x, offered, 64);
    vm_set_net(&x->vm, VIRTIO_NET_CFG_MAX_PAIRS, 6, 2);
    x->nic->cfg.n_queues = QUEUES;
    x->nic->irq.n = QUEUES + 1;
}

/* It works, without RSS, and nobody is wronged. */
static void check_falls_back(struct vfix *x)
{
    REQUIRE(vfix_start(x) == 0);
    CHECK(!x->vm.rss.on);
    CHECK_EQ(x->vm.pairs, QUEUES);
    frame_make(packet, 300, 1);
    for (uint32_t q = 0; q < QUEUES; q++)
        vfix_receive(x, q, packet, 300, NULL);
    vfix_fini(x);
}

/* Every queue gets about its part of flows of a kind; a flow has one queue. */
static void check_spread(struct vfix *x, struct rig_flow flow)
{
    uint32_t frames[QUEUES] = { 0 };

    for (uint32_t i = 0; i < FLOWS; i++) {
        uint32_t len, pair;

        flow.from = i;
        flow.sport = (uint16_t)(1000 + i);
        len = rig_packet(packet, &flow, 100);
        pair = vm_rss_pair(&x->vm, packet, len);
        REQUIRE(pair < QUEUES);
        vfix_receive(x, pair, packet, len, NULL);
        frames[pair]++;
        flow.seq += 100;
        len = rig_packet(packet, &flow, 100);
        CHECK_EQ(vm_rss_pair(&x->vm, packet, len), pair);
    }
    for (uint32_t q = 0; q < QUEUES; q++)
        CHECK(frames[q] > FLOWS / QUEUES / 2 && frames[q] < FLOWS / QUEUES * 2);
}

TEST(flows_are_spread)
{
    for (unsigned shape = 0; shape < SHAPES; shape++) {
        struct vfix x;

        init(&x, shape_features(shape));
        REQUIRE(vfix_start(&x) == 0);
        CHECK(x.vm.rss.on);
        CHECK_EQ(x.vm.pairs, QUEUES);
        CHECK_EQ(x.vm.rss.types, 0x3f);
        for (unsigned kind = 0; kind < 8; kind++)
            check_spread(&x, (struct rig_flow){ .ip6 = kind & 1, .udp = kind & 2, .tagged = kind & 4, .to = 2,
                                                .dport = 80 });
        vfix_fini(&x);
    }
}

TEST(the_key_is_another_each_time)
{
    uint8_t key[VM_RSS_KEY];
    struct vfix x;

    init(&x, VM_ALL_FEATURES);
    REQUIRE(vfix_start(&x) == 0);
    memcpy(key, x.vm.rss.key, sizeof(key));
    x.drv->stop(x.nic);
    REQUIRE(vfix_restart(&x) == 0);
    CHECK(x.vm.rss.on && memcmp(key, x.vm.rss.key, sizeof(key)) != 0);
    vfix_fini(&x);
}

/* Only what the device can hash: here addresses, and TCP over IPv4. */
TEST(few_hash_types)
{
    struct vfix x;

    init(&x, VM_ALL_FEATURES);
    vm_set_net(&x.vm, VIRTIO_NET_CFG_HASH_TYPES, 0x1c0 | 0x0b, 4);
    REQUIRE(vfix_start(&x) == 0);
    CHECK_EQ(x.vm.rss.types, 0x0b);
    check_spread(&x, (struct rig_flow){ .udp = true, .to = 2, .dport = 80 });
    vfix_fini(&x);
}

TEST(one_pair_has_nothing_to_spread)
{
    struct vfix x;

    init(&x, VM_ALL_FEATURES);
    x.nic->cfg.n_queues = 1;
    x.nic->irq.n = 2;
    REQUIRE(vfix_start(&x) == 0);
    CHECK(!vm_has(&x.vm, VIRTIO_NET_F_RSS) && !x.vm.rss.on);
    vfix_fini(&x);
}

TEST(without_it_the_device_chooses)
{
    struct vfix x;

    init(&x, VM_ALL_FEATURES & ~VIRTIO_BIT(VIRTIO_NET_F_RSS));
    check_falls_back(&x);
}

/* Offered, but the device takes it back or makes no sense. */
TEST(a_device_that_does_not_do_it)
{
    static const struct { uint32_t offset, value; unsigned bytes; } sizes[] = {
        { VIRTIO_NET_CFG_RSS_KEY, 39, 1 }, { VIRTIO_NET_CFG_RSS_KEY, 0, 1 }, { VIRTIO_NET_CFG_RSS_TABLE, 127, 2 },
        { VIRTIO_NET_CFG_RSS_TABLE, 0, 2 }, { VIRTIO_NET_CFG_HASH_TYPES, 0, 4 },
        { VIRTIO_NET_CFG_HASH_TYPES, 0x1c0, 4 },
    };
    struct vfix x;

    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        init(&x, VM_ALL_FEATURES);
        vm_set_net(&x.vm, sizes[i].offset, sizes[i].value, sizes[i].bytes);
        check_falls_back(&x);
    }
    init(&x, VM_ALL_FEATURES);
    x.vm.fault.rss_refuse = true;
    check_falls_back(&x);
}

/* No second command after an answer that made no sense. */
TEST(a_device_that_answers_nonsense)
{
    struct vfix x;

    init(&x, VM_ALL_FEATURES);
    x.vm.fault.ctrl_wild = true;
    CHECK_EQ(vfix_start(&x), -EIO);
    CHECK_EQ(x.vm.commands, 1);
    vfix_fini(&x);
}

MAIN
{
    RUN(flows_are_spread);
    RUN(the_key_is_another_each_time);
    RUN(few_hash_types);
    RUN(one_pair_has_nothing_to_spread);
    RUN(without_it_the_device_chooses);
    RUN(a_device_that_does_not_do_it);
    RUN(a_device_that_answers_nonsense);
}
