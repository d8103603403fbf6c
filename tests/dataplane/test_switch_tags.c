/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_switch_tags.c - 802.1Q tags between trunks and access ports: what is cut,
 * what is written, what follows from it for offsets, limits and order.
 */
#include "harness.h"
#include "switch_fixture.h"

/* 0, 1: trunks with different tags for the same segments; 2: access to one; 3: access to the other. */
static void trunks(void)
{
    const struct us_tag_row a[] = { { 10, 1 }, { 20, 2 }, { UNTAGGED, 3 } };
    const struct us_tag_row b[] = { { 20, 1 }, { 10, 2 } };

    CHECK_EQ(switch_port_set_tags(core, &fp[0]->port, a, 3), 0);
    CHECK_EQ(switch_port_set_tags(core, &fp[1]->port, b, 2), 0);
    access_port(2, 1);
    access_port(3, 2);
}

TEST(tags_are_translated)
{
    uint8_t want[200];

    setup();
    trunks();
    put_run(0, 0xff, 1, 10, 104);
    REQUIRE(fp[1]->n_got == 1 && fp[2]->n_got == 1);
    CHECK_EQ(fp[3]->n_got, 0);
    CHECK_EQ(fp[1]->got[0].vid, 20);
    CHECK_EQ(fp[2]->got[0].vid, UNTAGGED);
    CHECK_EQ(fp[2]->got[0].len, 100);
    /* The same frame without its tag, the payload's pattern included. */
    fake_eth(want, 0xff, 1, 10, 104);
    memmove(want + 12, want + 16, 88);
    CHECK_MEM(fp[2]->got[0].data, want, 100);
    CHECK_EQ(fake_in(fp[0])->bytes, 104);

    put_run(3, 1, 9, UNTAGGED, 100);            /* 1 is known in segment 1, not in 2 */
    CHECK_EQ(fp[0]->n_got, 1);
    CHECK_EQ(fp[0]->got[0].vid, 20);
    CHECK_EQ(fp[1]->n_got, 2);
    CHECK_EQ(fp[1]->got[1].vid, 10);
    CHECK_EQ(fp[2]->n_got, 1);
    put_run(2, 1, 8, UNTAGGED, 100);            /* known: only there, tagged */
    CHECK_EQ(fp[0]->n_got, 2);
    CHECK_EQ(fp[0]->got[1].vid, 10);
    CHECK_EQ(fp[0]->got[1].flooded, 0);
    CHECK_EQ(fp[1]->n_got, 2);
    teardown();
}

TEST(unknown_tags)
{
    setup();
    trunks();
    put_run(0, 0xff, 1, 30, 100);
    put_run(0, 0xff, 1, 4095, 100);
    put_run(2, 0xff, 1, 10, 100);               /* an access port takes no tag, not even its segment's */
    CHECK_EQ(drop_in(0, DROP_vlan_unknown), 2);
    CHECK_EQ(drop_in(2, DROP_vlan_unknown), 1);
    put_run(1, 0xff, 1, 0, 100);
    put_run(1, 0xff, 1, UNTAGGED, 100);
    CHECK_EQ(drop_in(1, DROP_no_segment), 2);
    CHECK_EQ(got_total(), 0);
    CHECK_EQ(page.fdb_entries, 0);
    teardown();
}

TEST(priority_is_kept)
{
    setup();
    trunks();
    access_port(4, 3);
    put_run(0, 0xff, 1, 0xb00a, 100);           /* PCP 5, DEI, VID 10 */
    REQUIRE(fp[1]->n_got == 1);
    CHECK_EQ(fp[1]->got[0].vid, 20);
    CHECK_EQ(fp[1]->got[0].pcp, 0xb000);
    put_run(0, 0xff, 1, 0x6000, 100);           /* priority tag: untagged, which is segment 3 */
    REQUIRE(fp[4]->n_got == 1);
    CHECK_EQ(fp[4]->got[0].vid, UNTAGGED);
    CHECK_EQ(fp[4]->got[0].pcp, 0x6000);
    CHECK_EQ(fp[4]->got[0].len, 96);
    put_run(0, 0xff, 1, UNTAGGED, 100);
    CHECK_EQ(fp[4]->got[1].pcp, 0);
    teardown();
}

/* Outer tag ours, inner tag the victim's: must not come out with the inner one on top. */
TEST(double_tags_do_not_hop)
{
    uint8_t data[100];

    setup();
    trunks();
    fake_eth(data, 0xff, 1, 10, sizeof(data));
    memcpy(data + 16, "\x81\x00\x00\x14", 4);   /* inner VID 20 */
    CHECK_EQ(fake_port_inject(fp[0], data, sizeof(data), NULL), 0);
    run(0);
    CHECK_EQ(fp[2]->n_got, 0);
    CHECK_EQ(drop_out(2, DROP_vlan_nested), 1);
    REQUIRE(fp[1]->n_got == 1);                 /* tagged egress keeps the inner one inside */
    CHECK_EQ(fp[1]->got[0].vid, 20);
    CHECK_MEM(fp[1]->got[0].data + 12, "\x81\x00\x00\x14", 4);
    /* The same with a priority tag outside, on an access port. */
    fake_eth(data, 0xff, 1, 0, sizeof(data));
    memcpy(data + 16, "\x81\x00\x00\x14", 4);
    CHECK_EQ(fake_port_inject(fp[2], data, sizeof(data), NULL), 0);
    access_port(4, 1);
    run(2);
    CHECK_EQ(fp[4]->n_got, 0);
    CHECK_EQ(drop_out(4, DROP_vlan_nested), 1);
    CHECK_EQ(fp[3]->n_got, 0);
    CHECK_EQ(fp[0]->n_got, 1);
    CHECK_EQ(fp[0]->got[0].vid, 10);
    teardown();
}

/* A tagged frame must be a frame without its tag, too; the snapshot may end anywhere from 18 on. */
TEST(short_tagged_frames)
{
    uint8_t data[64];

    setup();
    trunks();
    fake_eth(data, 0xff, 1, 10, sizeof(data));
    for (uint32_t len = 14; len <= 24; len++) {
        for (uint32_t snap = 18; snap <= 24; snap++) {
            const uint64_t before = drop_in(0, DROP_frame_short);

            clear_all();
            fp[0]->snap = snap;
            CHECK_EQ(fake_port_inject(fp[0], data, len, NULL), 0);
            run(0);
            CHECK_EQ(drop_in(0, DROP_frame_short), before + (len < 18));
            CHECK_EQ(fp[2]->n_got, len >= 18);
            if (len >= 18) {
                CHECK_EQ(fp[2]->got[0].len, len - 4);
                CHECK_MEM(fp[2]->got[0].data + 12, data + 16, len - 16);
            }
        }
    }
    teardown();
}

TEST(vnet_offsets_follow_the_tag)
{
    struct vnet v = { .flags = VNET_NEEDS_CSUM, .csum_start = 38, .csum_offset = 16, .hdr_len = 58 };
    uint8_t data[200];

    setup();
    trunks();
    atomic_store(&fp[2]->port.offloads, OFFLOAD_CSUM);
    atomic_store(&fp[1]->port.offloads, OFFLOAD_CSUM);
    fake_eth(data, 0xff, 1, 10, sizeof(data));
    CHECK_EQ(fake_port_inject(fp[0], data, sizeof(data), &v), 0);
    v.csum_start = 18;
    v.hdr_len = 17;
    CHECK_EQ(fake_port_inject(fp[0], data, sizeof(data), &v), 0);
    v.csum_start = 17;
    CHECK_EQ(fake_port_inject(fp[0], data, sizeof(data), &v), 0);
    run(0);
    REQUIRE(fp[2]->n_got == 2);
    CHECK_EQ(fp[2]->got[0].vnet.csum_start, 34);
    CHECK_EQ(fp[2]->got[0].vnet.csum_offset, 16);
    CHECK_EQ(fp[2]->got[0].vnet.hdr_len, 54);
    CHECK_EQ(fp[2]->got[1].vnet.csum_start, 14);
    CHECK_EQ(fp[2]->got[1].vnet.hdr_len, 0);
    CHECK_EQ(drop_in(0, DROP_vnet_csum), 1);
    /* Untagged frames keep theirs. */
    fake_eth(data, 0xff, 1, UNTAGGED, sizeof(data));
    v.csum_start = 34;
    CHECK_EQ(fake_port_inject(fp[2], data, sizeof(data), &v), 0);
    run(2);
    CHECK_EQ(fp[1]->got[fp[1]->n_got - 1].vnet.csum_start, 34);
    teardown();
}

/* The tag does not count against the limit. */
TEST(mtu_without_tag)
{
    setup();
    trunks();
    put_run(0, 0xff, 1, 10, 1518);
    CHECK_EQ(fp[2]->n_got, 1);
    CHECK_EQ(fp[1]->n_got, 1);
    put_run(0, 0xff, 1, 10, 1519);
    CHECK_EQ(fp[2]->n_got, 1);
    CHECK_EQ(drop_out(2, DROP_mtu), 1);
    teardown();
}

/* Unicast and flooded frames to several receivers: each gets its own in the order they came, one call each. */
TEST(order_and_grouping)
{
    static const uint8_t to[] = { 2, 3, 2, 0xff, 4, 2, 99, 3, 0xff, 2 };

    setup();
    trunks();                                   /* segment 1: port 0 (tag 10), 1 (tag 20), 2 */
    access_port(4, 1);
    put_run(1, 0xff, 2, 20, 104);
    put_run(2, 0xff, 3, UNTAGGED, 100);
    put_run(4, 0xff, 4, UNTAGGED, 100);
    clear_all();
    for (unsigned i = 0; i < sizeof(to); i++)
        put(0, to[i], 1, 10, 100 + i);
    run(0);
    static const struct { uint32_t port; uint16_t vid; unsigned n; uint32_t len[8]; uint8_t flooded[8]; } want[] = {
        { 1, 20, 7, { 96, 98, 99, 101, 102, 104, 105 }, { 0, 0, 1, 0, 1, 1, 0 } },
        { 2, UNTAGGED, 5, { 97, 99, 102, 103, 104 }, { 0, 1, 1, 0, 1 } },
        { 4, UNTAGGED, 4, { 99, 100, 102, 104 }, { 1, 0, 1, 1 } },
    };
    for (unsigned k = 0; k < 3; k++) {
        struct fake_port *p = fp[want[k].port];

        CHECK_EQ(p->tx_calls, 1);
        REQUIRE(CHECK_EQ(p->n_got, want[k].n));
        for (unsigned i = 0; i < want[k].n; i++) {
            CHECK_EQ(p->got[i].len, want[k].len[i]);
            CHECK_EQ(p->got[i].flooded, want[k].flooded[i]);
            CHECK_EQ(p->got[i].vid, want[k].vid);
        }
    }
    CHECK_EQ(fp[0]->n_got, 0);
    CHECK_EQ(fp[3]->n_got, 0);
    teardown();
}

MAIN
{
    RUN(tags_are_translated);
    RUN(unknown_tags);
    RUN(priority_is_kept);
    RUN(double_tags_do_not_hop);
    RUN(short_tagged_frames);
    RUN(vnet_offsets_follow_the_tag);
    RUN(mtu_without_tag);
    RUN(order_and_grouping);
}
