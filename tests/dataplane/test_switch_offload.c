/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_switch_offload.c - a receiver's limits and offloads: what passes, what is
 * made to fit, what is dropped, and that the order stays.
 */
#include "harness.h"
#include "switch_fixture.h"

TEST(mtu)
{
    const struct vnet gso = { .flags = VNET_NEEDS_CSUM, .gso_type = VNET_GSO_TCPV4, .hdr_len = 54, .gso_size = 1448,
                              .csum_start = 34, .csum_offset = 16 };
    uint8_t data[2000];

    setup();
    for (uint32_t i = 0; i < 3; i++)
        access_port(i, 7);
    atomic_store(&fp[1]->port.max_frame, 1000);
    atomic_store(&fp[1]->port.offloads, OFFLOAD_CSUM | OFFLOAD_TSO4);
    atomic_store(&fp[2]->port.offloads, OFFLOAD_CSUM | OFFLOAD_TSO4);
    put_run(0, 0xff, 1, UNTAGGED, 1000);
    put_run(0, 0xff, 1, UNTAGGED, 1001);
    CHECK_EQ(fp[1]->n_got, 1);
    CHECK_EQ(fp[2]->n_got, 2);
    CHECK_EQ(drop_out(1, DROP_mtu), 1);
    CHECK_EQ(drop_out(2, DROP_mtu), 0);
    fake_eth(data, 0xff, 1, UNTAGGED, 1900);
    CHECK_EQ(fake_port_inject(fp[0], data, 1900, &gso), 0);
    CHECK_EQ(fake_port_inject(fp[0], data, 1900, NULL), 0);
    run(0);
    CHECK_EQ(fp[1]->n_got, 2);                  /* the one with a segmentation request */
    CHECK_EQ(drop_out(1, DROP_mtu), 2);
    CHECK_EQ(fp[2]->n_got, 3);
    CHECK_EQ(drop_out(2, DROP_mtu), 1);
    CHECK_EQ(fake_in(fp[0])->gso, 1);
    teardown();
}

/* A TCP segment over IPv4, big enough for @payload bytes. */
static uint32_t tcp_frame(uint8_t *out, uint8_t to, uint8_t from, uint32_t payload)
{
    const uint32_t len = 54 + payload, ip_len = len - 14;

    fake_eth(out, to, from, UNTAGGED, len);
    memset(out + 14, 0, 40);
    out[14] = 0x45;
    out[16] = (uint8_t)(ip_len >> 8);
    out[17] = (uint8_t)ip_len;
    out[22] = 64;
    out[23] = 6;
    out[46] = 0x50;
    out[47] = 0x10;
    return len;
}

/* Who lacks an offload gets the work done, in its place in the order; who has it gets the frame untouched. */
TEST(offloads_per_receiver)
{
    const struct vnet gso = { .flags = VNET_NEEDS_CSUM, .gso_type = VNET_GSO_TCPV4, .hdr_len = 54, .gso_size = 1000,
                              .csum_start = 34, .csum_offset = 16 };
    const struct vnet csum = { .flags = VNET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16 };
    uint8_t data[4000];
    uint32_t len;

    setup();
    for (uint32_t i = 0; i < 3; i++)
        access_port(i, 7);
    atomic_store(&fp[1]->port.offloads, OFFLOAD_CSUM | OFFLOAD_TSO4);
    put(0, 0xff, 1, UNTAGGED, 100);
    len = tcp_frame(data, 0xff, 1, 2500);
    CHECK_EQ(fake_port_inject(fp[0], data, len, &gso), 0);
    put(0, 0xff, 1, UNTAGGED, 101);
    len = tcp_frame(data, 0xff, 1, 200);
    CHECK_EQ(fake_port_inject(fp[0], data, len, &csum), 0);
    put(0, 0xff, 1, UNTAGGED, 102);
    run(0);

    REQUIRE(CHECK_EQ(fp[1]->n_got, 5));
    CHECK_EQ(fp[1]->got[1].len, 2554);
    CHECK_EQ(fp[1]->got[1].vnet.gso_size, 1000);
    CHECK_EQ(fp[1]->got[3].vnet.flags, VNET_NEEDS_CSUM);
    CHECK_EQ(fake_out(fp[1])->gso_fixed, 0);

    static const uint32_t want[] = { 100, 1054, 1054, 554, 101, 254, 102 };
    REQUIRE(CHECK_EQ(fp[2]->n_got, 7));
    for (unsigned i = 0; i < 7; i++) {
        CHECK_EQ(fp[2]->got[i].len, want[i]);
        CHECK_EQ(fp[2]->got[i].vnet.flags & VNET_NEEDS_CSUM, 0);
        CHECK_EQ(fp[2]->got[i].vnet.gso_type, VNET_GSO_NONE);
        CHECK_EQ(fp[2]->got[i].flooded, 1);
        CHECK_EQ(fp[2]->got[i].vid, UNTAGGED);
        CHECK_EQ(fp[2]->got[i].segment, 7);
    }
    CHECK_EQ(fake_out(fp[2])->gso_fixed, 1);
    CHECK_EQ(fake_out(fp[2])->csum_fixed, 1);
    teardown();
}

/* Segments made here are frames like any other: longer than the receiver's limit, they are not delivered. */
TEST(segments_obey_mtu)
{
    const struct vnet gso = { .flags = VNET_NEEDS_CSUM, .gso_type = VNET_GSO_TCPV4, .hdr_len = 54, .gso_size = 1000,
                              .csum_start = 34, .csum_offset = 16 };
    uint8_t data[4000];

    setup();
    access_port(0, 7);
    access_port(1, 7);
    for (unsigned i = 0; i < 2; i++) {
        const uint32_t len = tcp_frame(data, 0xff, 1, 2500);

        atomic_store(&fp[1]->port.max_frame, 1053 + i);
        CHECK_EQ(fake_port_inject(fp[0], data, len, &gso), 0);
        run(0);
        CHECK_EQ(drop_out(1, DROP_mtu), 1);
        CHECK_EQ(fp[1]->n_got, 3 * i);
    }
    teardown();
}

TEST(impossible_offload)
{
    const struct vnet gso = { .flags = VNET_NEEDS_CSUM, .gso_type = VNET_GSO_TCPV4, .hdr_len = 54, .gso_size = 1000,
                              .csum_start = 34, .csum_offset = 16 };
    uint8_t data[2000];

    setup();
    access_port(0, 7);
    access_port(1, 7);
    fake_eth(data, 0xff, 1, UNTAGGED, sizeof(data));
    data[14] = 0x15;                            /* not IPv4 */
    CHECK_EQ(fake_port_inject(fp[0], data, sizeof(data), &gso), 0);
    put(0, 0xff, 1, UNTAGGED, 100);
    run(0);
    CHECK_EQ(drop_out(1, DROP_offload), 1);
    CHECK_EQ(fp[1]->n_got, 1);
    teardown();
}

MAIN
{
    RUN(mtu);
    RUN(offloads_per_receiver);
    RUN(segments_obey_mtu);
    RUN(impossible_offload);
}
