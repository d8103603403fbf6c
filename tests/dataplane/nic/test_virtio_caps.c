/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_virtio_caps.c - what a virtio device says of itself before it is
 * driven: capabilities in config space, well-formed and not, and features
 * with their conditions.
 */
#include "nic/virtio_caps.h"

#include <errno.h>
#include <string.h>

#include "harness.h"
#include "nic/virtio_features.h"
#include "nic/virtio_fixture.h"

static struct vm vm;
static struct bar bars[NIC_BARS];
static struct virtio_caps caps;

/* A good device, for a test to spoil. */
static uint8_t *good(void)
{
    static struct dma_pool pool;

    vm_init(&vm, &pool, VM_ALL_FEATURES, 256);
    memset(bars, 0, sizeof(bars));
    bars[VM_BAR] = (struct bar){ .size = VM_BAR_SIZE, .model = &vm.model };
    return vm.config;
}

static int parse(const uint8_t *config)
{
    return virtio_caps_parse(config, bars, &caps);
}

TEST(finds_all)
{
    CHECK_EQ(parse(good()), 0);
    CHECK(caps.common.bar == VM_BAR && caps.common.offset == VM_COMMON && caps.common.length == 0x1000);
    CHECK(caps.notify.bar == VM_BAR && caps.notify.offset == VM_NOTIFY && caps.notify.length == 0x1000);
    CHECK(caps.device.bar == VM_BAR && caps.device.offset == VM_DEVICE && caps.device.length == VM_DEVICE_SIZE);
    CHECK_EQ(caps.notify_multiplier, VM_NOTIFY_MULTIPLIER);
}

/* Places of the capabilities: see make_config() in virtio_model.c. */
enum { COMMON = 0x50, DEVICE = 0x60, NOTIFY = 0x70 };

TEST(refuses)
{
    static const struct {
        uint8_t at;
        uint8_t value;
        const char *what;
    } cases[] = {
        { 0x06, 0, "no list" },
        { 0x34, 0, "an empty one" },
        { 0x34, 0x3c, "one in the header" },
        { 0x98, 0x11, NULL },
        { 0x99, 0x98, "a loop before anything" },
        { 0x61, 0x50, "a loop before the last one needed" },
        { COMMON, 0x10, "another vendor's" },
        { COMMON + 1, 0xfc, "over the end" },
        { COMMON + 2, 15, "too short" },
        { COMMON + 2, 0xff, "longer than config space" },
        { COMMON + 3, 9, "of an unknown type" },
        { COMMON + 4, 6, "in a BAR that there cannot be" },
        { COMMON + 4, 255, "in a BAR that there cannot be" },
        { COMMON + 4, 0, "in a BAR that is not mapped" },
        { COMMON + 8, 2, "misaligned" },
        { COMMON + 9, 0x31, "over the end of the BAR" },
        { COMMON + 9, 0x40, "behind the end of the BAR" },
        { COMMON + 11, 0xff, "far behind it" },
        { COMMON + 15, 0xff, "longer than the BAR" },
        { DEVICE + 8, 1, "misaligned" },
        { NOTIFY + 2, 16, "without a multiplier" },
        { NOTIFY + 8, 1, "misaligned" },
        { NOTIFY + 16, 3, "an odd multiplier" },
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t *const config = good();

        config[cases[i].at] = cases[i].value;
        if (!CHECK_EQ(parse(config), cases[i].what ? -ENODEV : 0))
            fprintf(stderr, "(%s, case %u)\n", cases[i].what ? cases[i].what : "good", i);
    }
}

TEST(short_common_block)
{
    uint8_t *const config = good();

    config[COMMON + 12] = VIRTIO_COMMON_SIZE - 1;
    config[COMMON + 13] = 0;
    CHECK_EQ(parse(config), -ENODEV);
    config[COMMON + 12] = VIRTIO_COMMON_SIZE;
    CHECK_EQ(parse(config), 0);
}

/* 4.1.4: the first usable one counts. */
TEST(prefers_the_first)
{
    uint8_t *const config = good();

    memcpy(config + 0xa0, config + COMMON, 16);
    config[0xa0 + 1] = 0x40;
    config[0xa0 + 9] = 0x10;
    config[0x99] = 0xa0;
    CHECK_EQ(parse(config), 0);
    CHECK_EQ(caps.common.offset, 0x1000);
    config[0xa0 + 4] = 2;
    CHECK_EQ(parse(config), 0);
    CHECK_EQ(caps.common.offset, VM_COMMON);
}

/* Whatever the bytes are, what comes out lies inside a BAR. */
TEST(random_config)
{
    uint32_t seed = 1, usable = 0;

    for (unsigned i = 0; i < 200000; i++) {
        uint8_t *const config = good();

        for (unsigned k = 0; k < 1 + i % 6; k++) {
            seed = seed * 1664525 + 1013904223;
            config[0x34 + (seed >> 8) % 0x70] = (uint8_t)(seed >> 24);
        }
        if (parse(config) < 0)
            continue;
        usable++;
        CHECK(caps.common.bar == VM_BAR && caps.common.offset <= VM_BAR_SIZE - VIRTIO_COMMON_SIZE);
        CHECK(caps.common.length <= VM_BAR_SIZE - caps.common.offset);
        CHECK(caps.notify.bar == VM_BAR && caps.notify.length <= VM_BAR_SIZE - caps.notify.offset);
        CHECK(caps.device.bar == VM_BAR && caps.device.length <= VM_BAR_SIZE - caps.device.offset);
    }
    CHECK(usable > 1000 && usable < 199000);
}

/* ---- features ---- */

#define F(name) VIRTIO_BIT(VIRTIO_##name)

TEST(takes_what_it_knows)
{
    const uint64_t chosen = virtio_features_choose(UINT64_MAX, 2);

    CHECK_EQ(chosen & ~VM_ALL_FEATURES, 0);
    /* Every frame is one descriptor. */
    CHECK_EQ(VM_ALL_FEATURES & ~chosen, F(F_RING_INDIRECT_DESC));
    CHECK_EQ(virtio_features_choose(0, 2), 0);
}

TEST(conditions)
{
    static const struct {
        uint64_t without, lost;
    } cases[] = {
        { F(NET_F_CSUM), F(NET_F_HOST_TSO4) | F(NET_F_HOST_TSO6) | F(NET_F_HOST_ECN) | F(NET_F_HOST_USO) },
        { F(NET_F_GUEST_CSUM), F(NET_F_GUEST_TSO4) | F(NET_F_GUEST_TSO6) | F(NET_F_GUEST_ECN) |
                                   F(NET_F_GUEST_USO4) | F(NET_F_GUEST_USO6) },
        { F(NET_F_MRG_RXBUF), F(NET_F_GUEST_TSO4) | F(NET_F_GUEST_TSO6) | F(NET_F_GUEST_ECN) |
                                  F(NET_F_GUEST_USO4) | F(NET_F_GUEST_USO6) },
        { F(NET_F_GUEST_USO4), F(NET_F_GUEST_USO6) },
        { F(NET_F_GUEST_USO6), F(NET_F_GUEST_USO4) },
        { F(NET_F_HOST_TSO4), 0 },
        { F(NET_F_HOST_TSO4) | F(NET_F_HOST_TSO6), F(NET_F_HOST_ECN) },
        { F(NET_F_CTRL_VQ), F(NET_F_CTRL_RX) | F(NET_F_MQ) | F(NET_F_RSS) | F(NET_F_NOTF_COAL) },
        { F(NET_F_MQ), F(NET_F_RSS) },
    };
    const uint64_t all = virtio_features_choose(VM_ALL_FEATURES, 2);

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        CHECK_EQ(virtio_features_choose(VM_ALL_FEATURES & ~cases[i].without, 2),
                 all & ~cases[i].without & ~cases[i].lost);
    CHECK_EQ(virtio_features_choose(VM_ALL_FEATURES, 1), all & ~(F(NET_F_MQ) | F(NET_F_RSS)));
}

TEST(offloads)
{
    CHECK_EQ(virtio_features_tx_offloads(F(NET_F_CSUM) | F(NET_F_HOST_TSO6)), OFFLOAD_CSUM | OFFLOAD_TSO6);
    CHECK_EQ(virtio_features_tx_offloads(F(NET_F_CSUM) | F(NET_F_HOST_TSO4) | F(NET_F_HOST_ECN)),
             OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_ECN);
    CHECK_EQ(virtio_features_tx_offloads(F(NET_F_HOST_USO)), OFFLOAD_USO4 | OFFLOAD_USO6);
    CHECK_EQ(virtio_features_rx_offloads(F(NET_F_CSUM)), 0);
    CHECK_EQ(virtio_features_rx_offloads(F(NET_F_GUEST_CSUM) | F(NET_F_GUEST_TSO4) | F(NET_F_GUEST_TSO6)),
             OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6);
}

MAIN
{
    RUN(finds_all);
    RUN(refuses);
    RUN(short_common_block);
    RUN(prefers_the_first);
    RUN(random_config);
    RUN(takes_what_it_knows);
    RUN(conditions);
    RUN(offloads);
}
