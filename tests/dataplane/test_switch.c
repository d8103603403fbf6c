/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_switch.c - what becomes of frames: learning, unicast and flooding, drops
 * by reason, budget, fences, policy.  Tags are in test_switch_tags.c, offloads
 * in test_switch_offload.c, changes while frames flow in test_switch_control.c.
 */
#include "fdb.h"
#include "flood.h"
#include "harness.h"
#include "policy.h"
#include "switch_fixture.h"

TEST(learns_then_unicasts)
{
    setup();
    for (uint32_t i = 0; i < 3; i++)
        access_port(i, 7);
    put_run(0, 2, 1, UNTAGGED, 100);            /* 2 is unknown: everybody else gets it */
    CHECK_EQ(fp[0]->n_got, 0);
    CHECK_EQ(fp[1]->n_got, 1);
    CHECK_EQ(fp[2]->n_got, 1);
    CHECK_EQ(fp[1]->got[0].flooded, 1);
    CHECK_EQ(fp[1]->got[0].segment, 7);
    CHECK_EQ(fp[1]->got[0].vid, UNTAGGED);
    put_run(1, 1, 2, UNTAGGED, 100);            /* 1 has been learned */
    CHECK_EQ(fp[0]->n_got, 1);
    CHECK_EQ(fp[0]->got[0].flooded, 0);
    CHECK_EQ(fp[2]->n_got, 1);
    put_run(0, 2, 1, UNTAGGED, 100);
    CHECK_EQ(fp[1]->n_got, 2);
    CHECK_EQ(fp[2]->n_got, 1);
    CHECK_EQ(fake_in(fp[0])->frames, 2);
    CHECK_EQ(fake_in(fp[0])->bytes, 200);
    CHECK_EQ(fake_in(fp[0])->flooded, 1);
    CHECK_EQ(page.fdb_entries, 2);
    teardown();
}

/* Byte for byte, snapshot and rest, whatever the length. */
TEST(contents_arrive)
{
    static const uint32_t lens[] = { 18, 59, 60, 63, 64, 65, 127, 128, 129, 1000, 1514 };
    uint8_t want[2048];

    setup();
    access_port(0, 7);
    access_port(1, 7);
    for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        put_run(0, 2, 1, UNTAGGED, lens[i]);
        fake_eth(want, 2, 1, UNTAGGED, lens[i]);
        REQUIRE(fp[1]->n_got == i + 1);
        CHECK_EQ(fp[1]->got[i].len, lens[i]);
        CHECK_MEM(fp[1]->got[i].data, want, lens[i]);
    }
    teardown();
}

TEST(shortest_frame)
{
    const uint8_t data[14] = { 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0 };

    setup();
    access_port(0, 7);
    access_port(1, 7);
    CHECK_EQ(fake_port_inject(fp[0], data, sizeof(data), NULL), 0);
    run(0);
    REQUIRE(fp[1]->n_got == 1);
    CHECK_EQ(fp[1]->got[0].len, 14);
    CHECK_MEM(fp[1]->got[0].data, data, 14);
    teardown();
}

TEST(bad_sources)
{
    static const uint8_t zero[6], group[6] = { 1, 0, 0x5e, 0, 0, 1 };
    uint8_t data[100];

    setup();
    access_port(0, 7);
    access_port(1, 7);
    fake_eth(data, 2, 1, UNTAGGED, sizeof(data));
    memcpy(data + 6, zero, 6);
    CHECK_EQ(fake_port_inject(fp[0], data, sizeof(data), NULL), 0);
    memcpy(data + 6, group, 6);
    CHECK_EQ(fake_port_inject(fp[0], data, sizeof(data), NULL), 0);
    memset(data + 6, 0xff, 6);
    CHECK_EQ(fake_port_inject(fp[0], data, sizeof(data), NULL), 0);
    run(0);
    CHECK_EQ(drop_in(0, DROP_src_invalid), 3);
    CHECK_EQ(got_total(), 0);
    CHECK_EQ(page.fdb_entries, 0);
    teardown();
}

TEST(link_local_stays_on_the_link)
{
    uint8_t data[100];

    setup();
    access_port(0, 7);
    access_port(1, 7);
    fake_eth(data, 2, 1, UNTAGGED, sizeof(data));
    for (unsigned last = 0; last < 256; last++) {
        memcpy(data, "\x01\x80\xc2\x00\x00", 5);
        data[5] = (uint8_t)last;
        CHECK_EQ(fake_port_inject(fp[0], data, sizeof(data), NULL), 0);
    }
    run(0);
    CHECK_EQ(drop_in(0, DROP_link_local), 16);
    CHECK_EQ(fp[1]->n_got, 240);
    for (unsigned byte = 0; byte < 5; byte++) { /* near misses */
        memcpy(data, "\x01\x80\xc2\x00\x00\x05", 6);
        data[byte] ^= 0x10;
        CHECK_EQ(fake_port_inject(fp[0], data, sizeof(data), NULL), 0);
    }
    run(0);
    CHECK_EQ(drop_in(0, DROP_link_local), 16);
    CHECK_EQ(fp[1]->n_got, 245);
    teardown();
}

TEST(same_port_and_nobody)
{
    setup();
    access_port(0, 7);
    put_run(0, 0xff, 1, UNTAGGED, 100);
    CHECK_EQ(drop_in(0, DROP_no_receiver), 1);
    put_run(0, 2, 1, UNTAGGED, 100);
    CHECK_EQ(drop_in(0, DROP_no_receiver), 2);
    access_port(1, 7);
    put_run(0, 1, 2, UNTAGGED, 100);            /* 1 and 2 are both behind port 0 */
    CHECK_EQ(drop_in(0, DROP_same_port), 1);
    CHECK_EQ(fp[1]->n_got, 0);
    CHECK_EQ(fake_in(fp[0])->flooded, 0);
    teardown();
}

/* What the burst itself teaches counts for the burst. */
TEST(same_burst_knowledge)
{
    setup();
    access_port(0, 7);
    access_port(1, 7);
    put(0, 0xff, 1, UNTAGGED, 100);
    put(0, 1, 2, UNTAGGED, 100);
    run(0);
    CHECK_EQ(drop_in(0, DROP_same_port), 1);
    CHECK_EQ(fp[1]->n_got, 1);
    teardown();
}

TEST(flood_budget)
{
    setup();
    for (uint32_t i = 0; i < 4; i++)
        access_port(i, 7);
    flood_set(&fp[0]->port.flood, 100, 7);
    for (unsigned i = 0; i < 3; i++)            /* three copies each, seven tokens */
        put(0, 0xff, 1, UNTAGGED, 100);
    run(0);
    CHECK_EQ(got_total(), 6);
    CHECK_EQ(drop_in(0, DROP_flood_budget), 1);
    CHECK_EQ(fake_in(fp[0])->flooded, 2);
    put_run(1, 0xff, 2, UNTAGGED, 100);         /* somebody else's budget is another one */
    CHECK_EQ(got_total(), 9);
    put_run(0, 2, 1, UNTAGGED, 100);            /* unicast costs nothing */
    CHECK_EQ(got_total(), 10);
    now += SECOND / 10;
    put_run(0, 0xff, 1, UNTAGGED, 100);
    CHECK_EQ(got_total(), 13);
    teardown();
}

TEST(broken_ports)
{
    setup();
    for (uint32_t i = 0; i < 3; i++)
        access_port(i, 7);
    put_run(1, 0xff, 2, UNTAGGED, 100);
    clear_all();
    port_break(&fp[1]->port, 0, BREAK_avail_index, 0);
    put_run(0, 2, 1, UNTAGGED, 100);
    put_run(0, 0xff, 1, UNTAGGED, 100);
    CHECK_EQ(fp[1]->n_got, 0);
    CHECK_EQ(fp[2]->n_got, 1);
    CHECK_EQ(drop_out(1, DROP_broken), 2);
    const uint64_t frames = fake_in(fp[1])->frames;
    put_run(1, 1, 2, UNTAGGED, 100);
    CHECK_EQ(fp[0]->n_got, 0);
    CHECK_EQ(fake_in(fp[1])->frames, frames);
    port_mend(&fp[1]->port);
    put_run(1, 1, 2, UNTAGGED, 100);
    CHECK_EQ(fp[0]->n_got, 1);
    put_run(0, 2, 1, UNTAGGED, 100);
    CHECK_EQ(fp[1]->n_got, 1);
    teardown();
}

static enum drop_reason segment_7_odd_payload(const struct policy *policy, const struct frame *f)
{
    (void)policy;
    return f->segment == 7 && (f->hdr[20] & 1) ? DROP_none : DROP_policy;
}

static bool knows_everybody(const struct policy *policy, uint64_t mac)
{
    (void)policy;
    (void)mac;
    return true;
}

/* Each frame, those of a run too, and before its source is learned. */
TEST(policy_is_asked)
{
    struct policy *const policy = malloc(sizeof(*policy));
    uint8_t data[100];

    REQUIRE(policy);
    *policy = (struct policy){ .verdict = segment_7_odd_payload, .knows = knows_everybody };
    setup();
    access_port(0, 7);
    access_port(1, 7);
    switch_port_set_policy(core, &fp[0]->port, policy);
    fake_eth(data, 0xff, 1, UNTAGGED, sizeof(data));
    data[20] = 0;
    CHECK_EQ(fake_port_inject(fp[0], data, sizeof(data), NULL), 0);
    run(0);
    CHECK_EQ(page.fdb_entries, 0);
    for (unsigned i = 0; i < 10; i++) {
        data[20] = (uint8_t)i;
        CHECK_EQ(fake_port_inject(fp[0], data, sizeof(data), NULL), 0);
    }
    run(0);
    CHECK_EQ(drop_in(0, DROP_policy), 6);
    CHECK_EQ(fp[1]->n_got, 5);
    CHECK_EQ(page.fdb_entries, 1);
    teardown();
}

/* What a lookup may still find for a moment: a port that left the segment, a port that is gone. */
TEST(stale_entries_are_unknown)
{
    const uint8_t there[6] = { 2, 0, 0, 0, 0, 50 }, gone[6] = { 2, 0, 0, 0, 0, 51 };
    const struct port ghost = { .id = 77 };

    setup();
    access_port(0, 7);
    access_port(1, 7);
    access_port(2, 8);
    CHECK_EQ(fdb_pin(core->fdb, fdb_key_bytes(7, there), &fp[2]->port), 0);
    CHECK_EQ(fdb_pin(core->fdb, fdb_key_bytes(7, gone), &ghost), 0);
    put(0, 50, 1, UNTAGGED, 100);
    put(0, 51, 1, UNTAGGED, 100);
    run(0);
    CHECK_EQ(fp[2]->n_got, 0);
    CHECK_EQ(fp[1]->n_got, 2);
    CHECK_EQ(fp[1]->got[0].flooded, 1);
    CHECK_EQ(fp[1]->got[1].flooded, 1);
    teardown();
}

TEST(full_burst_one_call)
{
    setup();
    access_port(0, 7);
    access_port(1, 7);
    put_run(1, 0xff, 2, UNTAGGED, 100);
    for (unsigned i = 0; i < 130; i++)
        put(0, 2, (uint8_t)(10 + i), UNTAGGED, 60 + i);
    run(0);
    CHECK_EQ(fp[1]->n_got, 130);
    CHECK_EQ(fp[1]->tx_calls, 3);
    for (unsigned i = 0; i < 130; i++)
        CHECK_EQ(fp[1]->got[i].len, 60 + i);
    CHECK_EQ(page.fdb_entries, 131);
    teardown();
}

TEST(quota_floods_instead_of_learning)
{
    setup();
    access_port(0, 7);
    access_port(1, 7);
    atomic_store(&fp[0]->port.fdb_quota, 5);
    for (unsigned i = 0; i < 20; i++)
        put(0, 0xff, (uint8_t)(1 + i), UNTAGGED, 100);
    run(0);
    CHECK_EQ(fp[1]->n_got, 20);
    CHECK_EQ(page.fdb_entries, 5);
    CHECK_EQ(page.fdb_refused, 15);
    teardown();
}

MAIN
{
    RUN(learns_then_unicasts);
    RUN(contents_arrive);
    RUN(shortest_frame);
    RUN(bad_sources);
    RUN(link_local_stays_on_the_link);
    RUN(same_port_and_nobody);
    RUN(same_burst_knowledge);
    RUN(flood_budget);
    RUN(broken_ports);
    RUN(policy_is_asked);
    RUN(stale_entries_are_unknown);
    RUN(full_burst_one_call);
    RUN(quota_floods_instead_of_learning);
}
