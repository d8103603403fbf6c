/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_tap_gso.c - segmentation requests through a TAP device, both ways: TCP,
 * and UDP where the kernel has it.
 *
 * Needs CAP_NET_ADMIN (a network namespace of its own); without it nothing
 * runs, and the output says so.
 */
#include "harness.h"
#include "tap/tap_fixture.h"

TEST(receives_tso)
{
    struct burst *b = new_burst();
    static uint8_t frame[54 + 20000];
    struct virtio_net_hdr hdr;
    struct tap_wire w = { 0 };
    struct port *p;

    REQUIRE(tap_wire_init(&w));
    p = new_port(&w, -1);
    hdr = make_tso(frame, 20000);
    CHECK(tap_wire_send(&w, &hdr, frame, sizeof(frame)));
    REQUIRE(p->ops->rx_burst(&p->rxq[0], b) == 1);
    CHECK_EQ(b->frame[0].len, sizeof(frame));           /* one frame, longer than max_frame */
    CHECK_EQ(b->frame[0].vnet.flags, VNET_NEEDS_CSUM);
    CHECK_EQ(b->frame[0].vnet.gso_type, VNET_GSO_TCPV4);
    CHECK_EQ(b->frame[0].vnet.gso_size, 1448);
    CHECK_EQ(b->frame[0].vnet.csum_start, 34);
    CHECK_EQ(b->frame[0].vnet.csum_offset, 16);
    CHECK_MEM(b->frame[0].hdr, frame, sizeof(frame));
    end_port(p);
    tap_wire_fini(&w);
    free(b);
}

/* Many long frames: a burst ends at its byte budget. */
TEST(burst_is_paced)
{
    struct burst *b = new_burst();
    static uint8_t frame[54 + 60000];
    struct virtio_net_hdr hdr;
    struct tap_wire w = { 0 };
    struct port *p;
    unsigned n, total = 0;

    REQUIRE(tap_wire_init(&w));
    p = new_port(&w, -1);
    hdr = make_tso(frame, 60000);
    for (unsigned i = 0; i < 12; i++)
        CHECK(tap_wire_send(&w, &hdr, frame, sizeof(frame)));
    while ((n = p->ops->rx_burst(&p->rxq[0], b)) != 0) {
        CHECK(n <= BURST_BYTES / 60000 + 1);
        total += n;
    }
    CHECK_EQ(total, 12);
    end_port(p);
    tap_wire_fini(&w);
    free(b);
}

/* UDP segmentation, where this kernel has it: a request in, the same request out, one frame each. */
TEST(uso_both_ways)
{
    static const struct vnet uso = { .flags = VNET_NEEDS_CSUM, .gso_type = VNET_GSO_UDP_L4, .hdr_len = 42,
                                     .gso_size = 1000, .csum_start = 34, .csum_offset = 6 };
    static uint8_t bytes[42 + 20000], got[30000];
    struct burst *b = new_burst();
    struct virtio_net_hdr hdr;
    struct tap_wire w = { 0 };
    struct port *p;

    REQUIRE(tap_wire_init(&w));
    p = new_port(&w, -1);
    if (!(p->offloads & USO_OFFLOADS)) {
        printf("no UDP segmentation: this kernel's tap does not offer it\n");
    } else {
        struct iovec iov[16];
        struct frame f;

        hdr = make_uso(bytes, 20000);
        CHECK(tap_wire_send(&w, &hdr, bytes, sizeof(bytes)));
        REQUIRE(p->ops->rx_burst(&p->rxq[0], b) == 1);
        CHECK_EQ(b->frame[0].len, sizeof(bytes));
        CHECK_EQ(b->frame[0].vnet.gso_type, VNET_GSO_UDP_L4);
        CHECK_EQ(b->frame[0].vnet.gso_size, 1000);
        CHECK_EQ(b->frame[0].vnet.csum_start, 34);
        CHECK_EQ(b->frame[0].vnet.csum_offset, 6);
        CHECK_MEM(b->frame[0].hdr, bytes, sizeof(bytes));
        f = view_of(bytes, sizeof(bytes), 128, 4096, iov);
        f.vnet = uso;
        CHECK_EQ(transmit(p, &f), 1);
        memset(&hdr, 0, sizeof(hdr));
        CHECK_EQ(tap_wire_receive(&w, &hdr, got, sizeof(got), PATIENCE_MS), sizeof(bytes));
        CHECK_MEM(got, bytes, sizeof(bytes));
        CHECK_EQ(hdr.gso_type, VNET_GSO_UDP_L4);
        CHECK_EQ(hdr.gso_size, 1000);
        CHECK_EQ(hdr.csum_start, 34);
        CHECK_EQ(hdr.csum_offset, 6);
    }
    end_port(p);
    tap_wire_fini(&w);
    free(b);
}

static void check_tso_out(struct tap_wire *w, struct port *p, uint16_t out_vid)
{
    static uint8_t bytes[54 + 20000], got[30000];
    struct virtio_net_hdr hdr = make_tso(bytes, 20000);
    struct iovec iov[16];
    struct frame f = view_of(bytes, sizeof(bytes), 128, 4096, iov);

    f.out_vid = out_vid;
    f.vnet = (struct vnet){ .flags = VNET_NEEDS_CSUM, .gso_type = VNET_GSO_TCPV4, .hdr_len = 54, .gso_size = 1448,
                            .csum_start = 34, .csum_offset = 16 };
    CHECK_EQ(transmit(p, &f), 1);
    memset(&hdr, 0, sizeof(hdr));
    CHECK_EQ(tap_wire_receive(w, &hdr, got, sizeof(got), PATIENCE_MS), sizeof(bytes));
    CHECK_MEM(got, bytes, sizeof(bytes));
    CHECK_EQ(hdr.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
    CHECK_EQ(hdr.gso_size, 1448);
    CHECK(hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM);
    CHECK_EQ(hdr.csum_start, 34);
    CHECK_EQ(hdr.csum_offset, 16);
}

TEST(transmits_tso)
{
    struct tap_wire w = { 0 };
    struct port *p;

    REQUIRE(tap_wire_init(&w));
    p = new_port(&w, -1);
    check_tso_out(&w, p, US_VID_UNTAGGED);
    check_tso_out(&w, p, 7);
    CHECK_EQ(w.vlan_tci, 7);
    CHECK_EQ(p->state->out[0].gso, 2);
    end_port(p);
    tap_wire_fini(&w);
}

MAIN
{
    if (!tap_wire_namespace()) {
        fprintf(stderr, "skipped: every test with a TAP device, no permission to make one (CAP_NET_ADMIN)\n");
        return;
    }
    RUN(receives_tso);
    RUN(burst_is_paced);
    RUN(transmits_tso);
    RUN(uso_both_ways);
}
