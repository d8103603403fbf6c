/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_switch_control.c - what the control thread's calls change: segments, pinned
 * addresses, ports that come and go; and what a refused call leaves alone.
 */
#include <errno.h>

#include "harness.h"
#include "switch_fixture.h"

TEST(no_row_no_traffic)
{
    setup();
    access_port(1, 7);
    access_port(2, 7);
    put_run(0, 0xff, 1, UNTAGGED, 100);
    put_run(0, 0xff, 1, 9, 100);
    put_run(0, 0xff, 1, 0, 100);
    CHECK_EQ(drop_in(0, DROP_no_segment), 2);
    CHECK_EQ(drop_in(0, DROP_vlan_unknown), 1);
    put_run(1, 0xff, 2, UNTAGGED, 100);
    CHECK_EQ(fp[0]->n_got, 0);
    CHECK_EQ(fp[2]->n_got, 1);
    access_port(0, 7);
    put_run(0, 0xff, 1, UNTAGGED, 100);
    CHECK_EQ(fp[1]->n_got, 1);
    CHECK_EQ(switch_port_set_tags(core, &fp[0]->port, NULL, 0), 0);    /* cut off */
    put_run(0, 0xff, 1, UNTAGGED, 100);
    put_run(1, 1, 2, UNTAGGED, 100);            /* to the address learned there: unknown now, and not for it */
    CHECK_EQ(fp[0]->n_got, 0);
    CHECK_EQ(drop_in(0, DROP_no_segment), 3);
    teardown();
}

TEST(pinned_addresses)
{
    static const uint8_t macs[2][6] = { { 2, 0, 0, 0, 0, 50 }, { 2, 0, 0, 0, 0, 51 } };
    static const uint8_t bad[][6] = { { 0 }, { 1, 0, 0, 0, 0, 1 }, { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff } };
    static const uint8_t twice[2][6] = { { 2, 0, 0, 0, 0, 60 }, { 2, 0, 0, 0, 0, 60 } };
    static uint8_t many[US_MACS_MAX + 1][6];
    const struct us_tag_row two[] = { { UNTAGGED, 7 }, { 5, 8 } };

    setup();
    access_port(0, 7);
    access_port(1, 7);
    access_port(2, 7);
    CHECK_EQ(switch_port_set_macs(core, &fp[0]->port, macs, 2), 0);
    CHECK_EQ(page.fdb_entries, 2);
    put_run(1, 50, 9, UNTAGGED, 100);           /* never spoke, known all the same */
    CHECK_EQ(fp[0]->n_got, 1);
    CHECK_EQ(fp[0]->got[0].flooded, 0);
    CHECK_EQ(fp[2]->n_got, 0);
    put_run(2, 9, 50, UNTAGGED, 100);           /* an impostor does not move it */
    put_run(1, 50, 9, UNTAGGED, 100);
    CHECK_EQ(fp[0]->n_got, 2);
    CHECK_EQ(fp[2]->n_got, 0);
    CHECK_EQ(page.fdb_moves, 0);

    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(switch_port_set_macs(core, &fp[1]->port, &bad[i], 1), -EINVAL);
    CHECK_EQ(switch_port_set_macs(core, &fp[1]->port, twice, 2), -EINVAL);
    for (unsigned i = 0; i <= US_MACS_MAX; i++)
        many[i][0] = 2, many[i][5] = (uint8_t)(100 + i);
    CHECK_EQ(switch_port_set_macs(core, &fp[1]->port, many, US_MACS_MAX + 1), -EINVAL);
    many[US_MACS_MAX - 1][5] = 51;              /* port 0's */
    CHECK_EQ(switch_port_set_macs(core, &fp[1]->port, many, US_MACS_MAX), -EEXIST);
    CHECK_EQ(page.fdb_entries, 3);              /* two pins and the learned 9: nothing half done */

    /* Pins follow the segments of the port, and its list. */
    CHECK_EQ(switch_port_set_tags(core, &fp[0]->port, two, 2), 0);
    CHECK_EQ(page.fdb_entries, 5);
    CHECK_EQ(switch_port_set_macs(core, &fp[0]->port, &macs[1], 1), 0);
    CHECK_EQ(page.fdb_entries, 3);
    access_port(0, 8);
    CHECK_EQ(page.fdb_entries, 2);
    put_run(1, 51, 9, UNTAGGED, 100);           /* 51 is elsewhere now: unknown here */
    CHECK_EQ(fp[0]->n_got, 2);
    CHECK_EQ(fp[2]->n_got, 1);
    CHECK_EQ(switch_port_set_macs(core, &fp[0]->port, NULL, 0), 0);
    CHECK_EQ(page.fdb_entries, 1);
    teardown();
}

/* A pin that another port has in the new segment forbids the whole change. */
TEST(refused_tags_change_nothing)
{
    static const uint8_t mac[1][6] = { { 2, 0, 0, 0, 0, 50 } };
    const struct us_tag_row three[] = { { UNTAGGED, 7 }, { 8, 8 }, { 9, 9 } };
    const struct us_tag_row bad[] = { { UNTAGGED, 9 }, { 8, 9 } };

    setup();
    access_port(0, 7);
    access_port(1, 9);
    access_port(2, 7);
    CHECK_EQ(switch_port_set_macs(core, &fp[0]->port, mac, 1), 0);
    CHECK_EQ(switch_port_set_macs(core, &fp[1]->port, mac, 1), 0);      /* another segment: no conflict */
    CHECK_EQ(page.fdb_entries, 2);
    CHECK_EQ(switch_port_set_tags(core, &fp[0]->port, three, 3), -EEXIST);
    CHECK_EQ(switch_port_set_tags(core, &fp[0]->port, bad, 2), -EEXIST);
    CHECK_EQ(page.fdb_entries, 2);
    put_run(2, 0xff, 9, UNTAGGED, 100);
    CHECK_EQ(fp[0]->n_got, 1);
    put_run(1, 0xff, 9, UNTAGGED, 100);
    CHECK_EQ(fp[0]->n_got, 1);
    CHECK_EQ(drop_in(1, DROP_no_receiver), 1);
    teardown();
}

/* An address learned in a segment the port has left is flooded, and its entry is gone. */
TEST(leaving_a_segment)
{
    setup();
    for (uint32_t i = 0; i < 3; i++)
        access_port(i, 7);
    put_run(0, 0xff, 1, UNTAGGED, 100);
    clear_all();
    access_port(0, 8);
    CHECK_EQ(page.fdb_entries, 0);
    CHECK_EQ(atomic_load(&fp[0]->port.fdb_count), 0);
    put_run(1, 1, 2, UNTAGGED, 100);
    CHECK_EQ(fp[0]->n_got, 0);
    CHECK_EQ(fp[2]->n_got, 1);
    CHECK_EQ(fp[2]->got[0].flooded, 1);
    teardown();
}

TEST(attach_and_detach)
{
    struct fake_port *twin, *far;

    setup();
    twin = fake_port_create(0);
    far = fake_port_create(US_PORTS_MAX);
    CHECK_EQ(switch_port_attach(core, &twin->port), -EEXIST);
    CHECK_EQ(switch_port_attach(core, &far->port), -EINVAL);
    for (uint32_t i = 0; i < 3; i++)
        access_port(i, 7);
    put_run(0, 0xff, 1, UNTAGGED, 100);
    put_run(1, 0xff, 2, UNTAGGED, 100);
    clear_all();
    switch_port_detach(core, &twin->port);      /* not the one that has the id: no effect */
    CHECK(atomic_load(&core->port[0]) == &fp[0]->port);
    switch_port_detach(core, &fp[0]->port);
    CHECK_EQ(page.fdb_entries, 1);
    put_run(1, 1, 2, UNTAGGED, 100);
    CHECK_EQ(fp[0]->n_got, 0);
    CHECK_EQ(fp[2]->n_got, 1);
    put_run(0, 2, 1, UNTAGGED, 100);            /* its worker may still have a burst of it: goes nowhere */
    CHECK_EQ(fp[1]->n_got, 0);
    CHECK_EQ(page.fdb_entries, 1);
    switch_port_detach(core, &fp[0]->port);
    CHECK_EQ(switch_port_attach(core, &twin->port), 0);
    put_run(1, 0xff, 2, UNTAGGED, 100);
    CHECK_EQ(twin->n_got, 0);                   /* a new port is in no segment */
    switch_port_detach(core, &twin->port);
    fake_port_destroy(twin);
    fake_port_destroy(far);
    teardown();
}

/* As many receivers as the switch can have, and a full burst of broadcasts. */
TEST(flood_to_everybody)
{
    static struct fake_port *all[US_PORTS_MAX];
    const struct us_tag_row row = { UNTAGGED, 7 };

    setup();
    access_port(0, 7);
    for (uint32_t i = N_PORTS; i < US_PORTS_MAX; i++) {
        all[i] = fake_port_create(i);
        all[i]->count_only = true;
        CHECK_EQ(switch_port_attach(core, &all[i]->port), 0);
        CHECK_EQ(switch_port_set_tags(core, &all[i]->port, &row, 1), 0);
    }
    for (unsigned i = 0; i < BURST_MAX; i++)
        put(0, 0xff, 1, UNTAGGED, 100);
    run(0);
    for (uint32_t i = N_PORTS; i < US_PORTS_MAX; i++) {
        CHECK_EQ(all[i]->tx_frames, BURST_MAX);
        CHECK_EQ(all[i]->tx_calls, 1);
        switch_port_detach(core, &all[i]->port);
        fake_port_destroy(all[i]);
    }
    put_run(0, 0xff, 1, UNTAGGED, 100);
    CHECK_EQ(drop_in(0, DROP_no_receiver), 1);
    teardown();
}

static const struct us_tag_row *many_rows(uint32_t n, uint16_t shift)
{
    static struct us_tag_row row[US_TAG_ROWS_MAX];

    for (uint32_t i = 0; i < n; i++)
        row[i] = (struct us_tag_row){ (uint16_t)(1 + i), (uint16_t)(1 + (i + shift) % 4094) };
    return row;
}

/* Two uplinks with all 4094 VLANs, each VID meaning another segment on the other. */
TEST(full_trunks)
{
    setup();
    CHECK_EQ(switch_port_set_tags(core, &fp[0]->port, many_rows(4094, 0), 4094), 0);
    CHECK_EQ(switch_port_set_tags(core, &fp[1]->port, many_rows(4094, 100), 4094), 0);
    for (unsigned vid = 1; vid <= 4094; vid += 7) {
        clear_all();
        put_run(0, 0xff, 1, (uint16_t)vid, 100);
        REQUIRE(fp[1]->n_got == 1);
        CHECK_EQ((fp[1]->got[0].vid - 1 + 100) % 4094, vid - 1);
    }
    CHECK_EQ(switch_port_set_tags(core, &fp[0]->port, many_rows(4094, 100), 4094), 0);
    clear_all();
    put_run(0, 0xff, 1, 77, 100);
    CHECK_EQ(fp[1]->got[0].vid, 77);
    teardown();
}

MAIN
{
    RUN(no_row_no_traffic);
    RUN(pinned_addresses);
    RUN(refused_tags_change_nothing);
    RUN(leaving_a_segment);
    RUN(attach_and_detach);
    RUN(flood_to_everybody);
    RUN(full_trunks);
}
