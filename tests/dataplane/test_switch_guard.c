/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_switch_guard.c - a port's guard inside the switch: with tags, in runs of
 * frames, beyond the usual snapshot, and what it means for learned addresses.
 * What passes and what does not is in policy/test_antispoof.c.
 */
#include "harness.h"
#include "policy/antispoof.h"
#include "policy/packets.h"
#include "switch_fixture.h"

static void guard(uint32_t p, const struct us_guard_pair *pair, uint32_t n)
{
    const struct policy *policy = NULL;

    CHECK_EQ(antispoof_create(pair, n, &policy), 0);
    switch_port_set_policy(core, &fp[p]->port, policy);
}

static void unguard(uint32_t p)
{
    switch_port_set_policy(core, &fp[p]->port, NULL);
}

/* An untagged frame, or with a tag of ours, later. */
static void put_packet(uint32_t port, const struct packet *p, uint16_t tci)
{
    uint8_t data[PACKET_MAX + VLAN_TAG_LEN];
    const uint8_t tag[] = { 0x81, 0, (uint8_t)(tci >> 8), (uint8_t)tci };

    memcpy(data, p->data, 12);
    memcpy(data + 12, tag, 4);
    memcpy(data + 16, p->data + 12, p->len - 12);
    if (tci == UNTAGGED)
        CHECK_EQ(fake_port_inject(fp[port], p->data, p->len, NULL), 0);
    else
        CHECK_EQ(fake_port_inject(fp[port], data, p->len + 4, NULL), 0);
}

static void put_kind(uint32_t port, enum packet_kind kind, uint16_t tci)
{
    struct packet p;

    packet_make(&p, kind);
    put_packet(port, &p, tci);
}

static void two_ports(void)
{
    setup();
    access_port(0, 7);
    access_port(1, 7);
    guard(0, own_pairs, OWN_PAIRS);
}

/* All kinds, with every length of snapshot a driver may have; whole, as they were sent. */
TEST(honest_frames_arrive_whole)
{
    const uint32_t snaps[] = { 18, SNAP_SHORT, SNAP_SIZE };
    struct packet p;

    for (unsigned s = 0; s < 3; s++) {
        two_ports();
        fp[0]->snap = snaps[s];
        for (unsigned kind = 0; kind < PACKET_KINDS; kind++)
            put_kind(0, kind, UNTAGGED);
        run(0);
        CHECK_EQ(fp[1]->n_got, PACKET_KINDS);
        for (unsigned kind = 0; kind < fp[1]->n_got; kind++) {
            packet_make(&p, kind);
            CHECK_EQ(fp[1]->got[kind].len, p.len);
            CHECK_MEM(fp[1]->got[kind].data, p.data, p.len);
        }
        teardown();
    }
}

/* The same behind a tag of the port's table, in both segments, and behind a priority tag. */
TEST(tags_are_cut_first)
{
    const struct us_tag_row rows[] = { { 10, 7 }, { 20, 8 }, { UNTAGGED, 9 } };
    const uint16_t tci[] = { 10, 20, 0xe000 };
    struct packet p;

    for (unsigned t = 0; t < 3; t++) {
        setup();
        CHECK_EQ(switch_port_set_tags(core, &fp[0]->port, rows, 3), 0);
        access_port(1, t == 0 ? 7 : t == 1 ? 8 : 9);
        guard(0, own_pairs, OWN_PAIRS);
        for (unsigned kind = 0; kind < PACKET_KINDS; kind++)
            put_kind(0, kind, tci[t]);
        run(0);
        CHECK_EQ(fp[1]->n_got, PACKET_KINDS);
        for (unsigned kind = 0; kind < fp[1]->n_got; kind++) {
            packet_make(&p, kind);
            CHECK_MEM(fp[1]->got[kind].data, p.data, p.len);
        }
        packet_make(&p, PACKET_NA);
        p.data[AT_IPV6_UP + 8] = 0x30;
        put_packet(0, &p, tci[t]);
        run(0);
        CHECK_EQ(drop_in(0, DROP_guard_nd), 1);
        CHECK_EQ(fp[1]->n_got, PACKET_KINDS);
        teardown();
    }
}

/* A second tag inside ours is a type of frame that a guarded port does not send. */
TEST(a_second_tag)
{
    struct packet p;

    two_ports();
    packet_make(&p, PACKET_TCP);
    memmove(p.data + 16, p.data + 12, p.len - 12);
    memcpy(p.data + 12, "\x81\0\0\5", 4);
    p.len += 4;
    put_packet(0, &p, 0);
    run(0);
    CHECK_EQ(drop_in(0, DROP_guard_type), 1);
    CHECK_EQ(got_total(), 0);
    teardown();
}

/* Frames that begin alike go where the first went, but each is judged. */
TEST(each_frame_of_a_run)
{
    struct packet p;

    two_ports();
    put_run(1, 0xff, 0x77, UNTAGGED, 60);
    clear_all();
    for (unsigned i = 0; i < 60; i++) {
        packet_make(&p, PACKET_TCP);
        p.data[AT_IPV4_SOURCE + 3] = (uint8_t)(i % 3 == 1 ? 6 : 5);
        p.data[p.len - 1] = (uint8_t)i;
        put_packet(0, &p, UNTAGGED);
    }
    run(0);
    CHECK_EQ(drop_in(0, DROP_guard_ip), 20);
    REQUIRE(fp[1]->n_got == 40);
    for (unsigned i = 0, k = 0; i < 60; i++) {
        if (i % 3 != 1)
            CHECK_EQ(fp[1]->got[k++].data[p.len - 1], i);
    }
    CHECK_EQ(fp[1]->tx_calls, 1);
    teardown();
}

/* A run may begin with frames that are dropped. */
TEST(a_run_of_forbidden_frames)
{
    struct packet p;

    two_ports();
    packet_make(&p, PACKET_ARP_REPLY);
    p.data[AT_ARP_SPA + 3] = 1;
    for (unsigned i = 0; i < 10; i++)
        put_packet(0, &p, UNTAGGED);
    put_kind(0, PACKET_ARP_REPLY, UNTAGGED);
    put_packet(0, &p, UNTAGGED);
    run(0);
    CHECK_EQ(drop_in(0, DROP_guard_arp), 11);
    CHECK_EQ(got_total(), 1);
    teardown();
}

/* What is dropped teaches nothing, and what a new guard does not know is forgotten; pins stay. */
TEST(learned_addresses)
{
    const uint8_t pinned[1][6] = { { 2, 0, 0, 0, 0, 0x0a } };
    struct packet p;

    setup();
    access_port(0, 7);
    access_port(1, 7);
    access_port(2, 7);
    CHECK_EQ(switch_port_set_macs(core, &fp[0]->port, pinned, 1), 0);
    put_run(0, 0xff, 0x33, UNTAGGED, 60);       /* another's address, while nobody looks */
    put_run(1, 0xff, 0x77, UNTAGGED, 60);
    CHECK_EQ(page.fdb_entries, 3);
    guard(0, own_pairs, OWN_PAIRS);
    CHECK_EQ(page.fdb_entries, 2);
    clear_all();
    put_run(1, 0x33, 0x77, UNTAGGED, 60);
    CHECK_EQ(fp[0]->n_got, 1);
    CHECK_EQ(fp[0]->got[0].flooded, 1);
    put_run(1, 0x0a, 0x77, UNTAGGED, 60);
    CHECK_EQ(fp[2]->n_got, 1);                  /* flooded once, not twice */
    put_run(0, 0x77, 0x33, UNTAGGED, 60);
    CHECK_EQ(page.fdb_entries, 2);
    CHECK_EQ(drop_in(0, DROP_guard_mac), 1);

    /* A second address of its own is learned as ever, until it is none any more. */
    packet_make(&p, PACKET_TCP);
    p.data[AT_SOURCE + 5] = 0x0b, p.data[AT_IPV4_SOURCE + 3] = 6;
    put_packet(0, &p, UNTAGGED);
    run(0);
    CHECK_EQ(page.fdb_entries, 3);
    guard(0, own_pairs, OWN_PAIRS);             /* told again */
    CHECK_EQ(page.fdb_entries, 3);
    guard(0, own_pairs, 1);
    CHECK_EQ(page.fdb_entries, 2);
    put_packet(0, &p, UNTAGGED);
    run(0);
    CHECK_EQ(page.fdb_entries, 2);
    teardown();
}

TEST(one_guard_after_another)
{
    const struct us_guard_pair other = { .mac = { 2, 0, 0, 0, 0, 0x0a }, .family = US_GUARD_IPV4, .prefix_len = 32,
                                         .ip = { 10, 0, 0, 6 } };

    two_ports();
    put_kind(0, PACKET_TCP, UNTAGGED);
    run(0);
    CHECK_EQ(fp[1]->n_got, 1);
    guard(0, &other, 1);
    put_kind(0, PACKET_TCP, UNTAGGED);
    run(0);
    CHECK_EQ(fp[1]->n_got, 1);
    guard(0, NULL, 0);
    put_kind(0, PACKET_DISCOVER, UNTAGGED);
    run(0);
    CHECK_EQ(fp[1]->n_got, 1);
    unguard(0);
    put_kind(0, PACKET_TCP, UNTAGGED);
    run(0);
    CHECK_EQ(fp[1]->n_got, 2);
    CHECK_EQ(drop_in(0, DROP_guard_ip), 1);
    CHECK_EQ(drop_in(0, DROP_guard_mac), 1);
    teardown();
}

/* Nobody else is guarded. */
TEST(others_are_free)
{
    two_ports();
    put_run(1, 0xff, 0x0a, UNTAGGED, 60);
    put_run(1, 0xff, 0x55, UNTAGGED, 60);
    CHECK_EQ(fp[0]->n_got, 2);
    teardown();
}

MAIN
{
    RUN(honest_frames_arrive_whole);
    RUN(tags_are_cut_first);
    RUN(a_second_tag);
    RUN(each_frame_of_a_run);
    RUN(a_run_of_forbidden_frames);
    RUN(learned_addresses);
    RUN(one_guard_after_another);
    RUN(others_are_free);
}
